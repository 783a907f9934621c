// The jobs of one state.
import { byId, el, keyed, setText, short, time, title } from "./dom.js";

const EMPTY = {
  waiting: "Nothing waits: the workers keep up.",
  delayed: "Nothing is put off.",
  active: "No job is being run just now.",
  done: "Nothing has been done yet.",
  dead: "No job has failed for good.",
};

export function showList(state, jobs, open) {
  keyed(byId("jobs"), jobs, (job) => job.id, row, (node, job) => fill(node, state, job, open));
  setText(byId("empty"), EMPTY[state]);
  byId("empty").hidden = jobs.length > 0;
}

function row() {
  return el(
    "li",
    {},
    el("div", { class: "what" }, el("a", { class: "name" }), el("code")),
    el("span", { class: "badges" }),
    el("span", { class: "when" }),
    el("p", { class: "why" }),
  );
}

function fill(node, state, job, open) {
  const link = node.querySelector("a");
  link.href = `#${state}/${job.id}`;
  setText(link, title(job.kind));
  setText(node.querySelector("code"), short(job.id));
  node.classList.toggle("open", job.id === open);
  if (job.id === open) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  // Times are set anew only when they are other times.
  const seen = [job.attempts, job.stalled, job.run_at, job.started_at, job.finished_at, job.errors.at(-1), state].join();
  if (node.dataset.seen === seen) return;
  node.dataset.seen = seen;
  node.querySelector(".badges").replaceChildren(...badges(job));
  node.querySelector(".when").replaceChildren(...when(job));
  const why = job.state === "done" ? undefined : job.errors.at(-1);
  node.querySelector(".why").textContent = why ?? "";
}

function badges(job) {
  const badges = [];
  if (job.stalled) badges.push(el("span", { class: "badge stalled" }, "stalled"));
  if (job.attempts > 0) badges.push(el("span", { class: "badge" }, attempts(job.attempts)));
  return badges;
}

export const attempts = (n) => (n === 1 ? "1 attempt" : `${n} attempts`);

function when(job) {
  switch (job.state) {
    case "waiting":
      return ["added ", time(job.added_at)];
    case "delayed":
      return ["runs ", time(job.run_at)];
    case "active":
      return ["began ", time(job.started_at)];
    case "dead":
      return ["died ", time(job.finished_at)];
    default:
      return ["done ", time(job.finished_at)];
  }
}
