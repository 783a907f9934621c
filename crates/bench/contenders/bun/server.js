// Bun's native publish: what comes in goes to all subscribers of its topic, as it is; nothing is stored. Topics are c0, c1 …
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const topics = Number(new URL(request.url).searchParams.get("topics"));
    if (server.upgrade(request, { data: { topics } })) return;
    return new Response("ok");
  },
  websocket: {
    perMessageDeflate: false,
    // Nothing may be dropped: all deliveries are counted.
    backpressureLimit: 1 << 30,
    idleTimeout: 960,
    open(socket) {
      for (let n = 0; n < socket.data.topics; n++) socket.subscribe("c" + n);
      socket.send("ready");
    },
    message(socket, message) {
      server.publish(message.slice(0, message.indexOf("#")), message);
    },
  },
});
console.log(`listening on http://${server.hostname}:${server.port}`);
