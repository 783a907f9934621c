// Small helpers. Text only ever becomes text: nothing here parses HTML.

/** An element with properties, attributes (those with a dash, and `role`) and children. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") node.className = value;
    else if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Sets text only where it differs, so that a selection outlives a refresh. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Brings a container's children in line with items, keeping the element of an item that stays. */
export function keyed(container, items, key, create, update) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]));
  let before = container.firstElementChild;
  for (const item of items) {
    const k = key(item);
    let child = old.get(k);
    old.delete(k);
    if (!child) {
      child = create(item);
      child.dataset.key = k;
    }
    if (child === before) before = before.nextElementSibling;
    else container.insertBefore(child, before);
    update(child, item);
  }
  for (const child of old.values()) child.remove();
}

let ahead = 0;

/** Notes the server's clock: a browser's may be wrong. */
export function serverTime(at) {
  ahead = Date.parse(at) - Date.now();
}

const now = () => Date.now() + ahead;

const UNITS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"],
];

export function span(ms) {
  if (ms < 1_000) return `${ms} ms`;
  const [size, unit] = UNITS.find(([size]) => ms >= size);
  return `${Math.floor(ms / size)} ${unit}`;
}

function relative(at) {
  const ms = now() - at;
  if (Math.abs(ms) < 1_000) return "now";
  return ms > 0 ? `${span(ms)} ago` : `in ${span(-ms)}`;
}

/** A time that says how long ago it is, or how long until. */
export function time(at) {
  const date = new Date(at);
  const node = el("time", { dateTime: at, title: date.toLocaleString() });
  node.textContent = relative(date.getTime());
  return node;
}

/** Lets all relative times go on. */
export function tick() {
  for (const node of document.querySelectorAll("time")) {
    setText(node, relative(Date.parse(node.dateTime)));
  }
}

export const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** `welcome_mail` → `Welcome mail`. */
export const title = (kind) => (kind.charAt(0).toUpperCase() + kind.slice(1)).replaceAll("_", " ");

/** The end of an id tells more than its beginning, which is the time. */
export const short = (id) => `…${id.slice(-8)}`;
