// The board's JSON. What fails throws a `Failure`, with status 0 if the server could not be reached.

const PATIENCE_MS = 10_000;

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path) => call("GET", path);
export const post = (path) => call("POST", path);
export const remove = (path) => call("DELETE", path);

export async function signOut() {
  await request("POST", "/admin/sign-out");
}

const call = (method, path) => request(method, `/admin/api/${path}`);

async function request(method, url) {
  // Without it the server takes no change.
  const headers = { Accept: "application/json", "X-Requested-With": "parlance-board" };
  const signal = AbortSignal.timeout(PATIENCE_MS);
  let answer;
  try {
    answer = await fetch(url, { method, headers, signal, credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Failure(0, "The server cannot be reached.");
  }
  const text = await answer.text().catch(() => "");
  let body = null;
  try {
    body = text === "" ? null : JSON.parse(text);
  } catch {
    // A proxy's page, say.
  }
  if (!answer.ok) throw new Failure(answer.status, body?.detail ?? `The server answered ${answer.status}.`);
  return body;
}
