// What Parlance replaces, as teams write it: JWT handshake, auto-join, validate, save, broadcast, acknowledge; history over REST.
const crypto = require("node:crypto");
const http = require("node:http");
const express = require("express");
const jwt = require("jsonwebtoken");
const mongoose = require("mongoose");
const { Server } = require("socket.io");

const SECRET = crypto.randomBytes(32).toString("hex");
const FRAME_BYTES = Number(process.env.FRAME_BYTES);

const User = mongoose.model("User", { name: String });
const Room = mongoose.model("Room", { name: String, lastMessageAt: Date });
const membership = new mongoose.Schema({ user: mongoose.ObjectId, room: mongoose.ObjectId });
membership.index({ user: 1, room: 1 }, { unique: true });
const Membership = mongoose.model("Membership", membership);
const message = new mongoose.Schema(
  { room: mongoose.ObjectId, author: mongoose.ObjectId, clientId: String, text: { type: String, required: true, maxlength: 4000 } },
  { timestamps: true },
);
message.index({ room: 1, _id: -1 });
const Message = mongoose.model("Message", message);

const app = express();
const server = http.createServer(app);
const io = new Server(server, { transports: ["websocket"], maxHttpBufferSize: 65536 });

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, SECRET, { algorithms: ["HS256"] }).sub;
    next();
  } catch {
    next(new Error("unauthenticated"));
  }
});

io.on("connection", async (socket) => {
  const user = socket.data.user;
  const rooms = (await Membership.find({ user }).lean()).map((it) => it.room);
  const conversations = await Room.find({ _id: { $in: rooms } }).lean();
  socket.join(conversations.map((it) => String(it._id)));
  socket.on("message:send", async (data, ack) => {
    try {
      const { room, clientId, text } = data ?? {};
      if (typeof text !== "string" || !text.trim() || text.length > 4000) return ack({ ok: false, error: "invalid" });
      if (!mongoose.isValidObjectId(room) || !socket.rooms.has(room)) return ack({ ok: false, error: "forbidden" });
      const saved = (await Message.create({ room, author: user, clientId, text: text.trim() })).toJSON();
      io.to(room).emit("message:new", padded(saved));
      ack({ id: saved._id, ok: true });
    } catch (error) {
      ack({ ok: false, error: String(error) });
    }
  });
  socket.emit("snapshot", { user, conversations });
});

// Frames as long as Parlance's, so that equal bytes are compared.
let bare;
function padded(saved) {
  bare ??= `42["message:new",${JSON.stringify({ ...saved, pad: "" })}]`.length;
  return { ...saved, pad: "x".repeat(Math.max(0, FRAME_BYTES - bare)) };
}

app.use(express.json());
app.get("/conversations/:room/messages", async (request, response) => {
  try {
    const user = jwt.verify((request.get("authorization") ?? "").replace("Bearer ", ""), SECRET).sub;
    const room = request.params.room;
    if (!(await Membership.exists({ user, room }))) return response.status(403).json({ error: "forbidden" });
    const items = await Message.find({ room }).sort({ _id: -1 }).limit(Math.min(200, Number(request.query.limit) || 50)).lean();
    response.json({ items });
  } catch (error) {
    response.status(401).json({ error: String(error) });
  }
});
// Only the harness asks for it: people, rooms that all of them are in, tokens.
app.post("/setup", async (request, response) => {
  const named = (count, what) => Array.from({ length: count }, (_, n) => ({ name: `${what} ${n}` }));
  const users = await User.insertMany(named(request.body.users, "user"));
  const rooms = await Room.insertMany(named(request.body.conversations, "room"));
  for (const user of users) await Membership.insertMany(rooms.map((room) => ({ user: user._id, room: room._id })));
  response.json({ tokens: users.map((user) => jwt.sign({ sub: String(user._id) }, SECRET)), rooms: rooms.map((it) => it._id) });
});

mongoose.connect(process.env.MONGODB_URI).then(async () => {
  await Promise.all([User, Room, Membership, Message].map((model) => model.init()));
  server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
});
