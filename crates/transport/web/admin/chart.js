// What ended in each minute, as bars: done below, failed on top.
import { byId, clock, setText } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 100;
const BAR = 10;
const GAP = 2;

let drawn = "";

export function draw(minutes) {
  const done = minutes.reduce((sum, m) => sum + m.done, 0);
  const failed = minutes.reduce((sum, m) => sum + m.failed, 0);
  setText(byId("sum-done"), String(done));
  setText(byId("sum-failed"), String(failed));
  const state = JSON.stringify(minutes);
  if (state === drawn) return;
  drawn = state;

  const most = Math.max(1, ...minutes.map((m) => m.done + m.failed));
  const svg = svgEl("svg", {
    viewBox: `0 0 ${minutes.length * BAR - GAP} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": `In the last ${minutes.length} minutes ${done} jobs were done and ${failed} failed for good; at most ${most} in one minute.`,
  });
  minutes.forEach((minute, i) => svg.append(bar(minute, i * BAR, most)));
  byId("chart").replaceChildren(svg, scale(done + failed === 0 ? "" : `max ${most} / min`));
  if (done + failed === 0) setText(byId("chart-note"), "nothing has ended");
  else setText(byId("chart-note"), "");
}

function bar(minute, x, most) {
  const group = svgEl("g", {});
  const heights = [minute.done, minute.failed].map((n) => (n === 0 ? 0 : Math.max(3, (n / most) * (HEIGHT - 4))));
  // Where nothing ended there is still something to point at.
  group.append(svgEl("rect", { x, y: 0, width: BAR, height: HEIGHT, class: "hit" }));
  group.append(svgEl("rect", { x, y: HEIGHT - 1.5, width: BAR - GAP, height: 1.5, class: "none" }));
  group.append(svgEl("rect", { x, y: HEIGHT - heights[0], width: BAR - GAP, height: heights[0], class: "done" }));
  group.append(svgEl("rect", { x, y: Math.max(0, HEIGHT - heights[0] - heights[1]), width: BAR - GAP, height: heights[1], class: "failed" }));
  const words = `${clock(minute.at)}: ${minute.done} done, ${minute.failed} failed`;
  const tooltip = svgEl("title", {});
  tooltip.textContent = words;
  group.append(tooltip);
  group.addEventListener("pointerenter", () => setText(byId("chart-note"), words));
  group.addEventListener("pointerleave", () => setText(byId("chart-note"), ""));
  return group;
}

function scale(text) {
  const note = document.createElement("span");
  note.className = "scale";
  note.textContent = text;
  return note;
}

function svgEl(tag, attributes) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
