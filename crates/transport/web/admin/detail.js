// One job with its history, and what can be done to it.
import { byId, el, setText, span, time, title } from "./dom.js";
import { attempts } from "./list.js";

const ACTIONS = {
  retry: { label: "Retry", kind: "primary", states: ["dead"] },
  promote: { label: "Run now", kind: "primary", states: ["delayed"] },
  remove: { label: "Remove", kind: "danger", states: ["waiting", "delayed", "done", "dead"] },
};

let shown = "";

/** Shows a job; `act` is called with the name of an action. */
export function showDetail(job, act) {
  byId("detail").hidden = false;
  byId("work").classList.add("split");
  const state = JSON.stringify(job);
  if (state === shown) return;
  shown = state;
  setText(byId("detail-title"), title(job.kind));
  const body = byId("detail-body");
  const [scrolled, focused] = [body.scrollTop, document.activeElement?.dataset?.action];
  body.replaceChildren(
    el("p", { class: "badges" }, stateBadge(job), job.attempts > 0 ? el("span", { class: "badge" }, attempts(job.attempts)) : ""),
    el("p", { class: "id" }, el("code", {}, job.id)),
    actions(job, act),
    ...explanation(job),
    section("Timeline", timeline(job)),
    ...(job.errors.length > 0 ? [section("Errors", errors(job))] : []),
    section("Payload", el("pre", { tabIndex: 0 }, JSON.stringify(job.task, null, 2))),
  );
  body.scrollTop = scrolled;
  if (focused) body.querySelector(`[data-action="${focused}"]`)?.focus();
}

export function hideDetail() {
  shown = "";
  byId("detail").hidden = true;
  byId("work").classList.remove("split");
  byId("detail-body").replaceChildren();
}

/** The job is gone, by hand or because newer ones took its place. */
export function showGone() {
  if (shown === "gone") return;
  shown = "gone";
  byId("detail").hidden = false;
  byId("work").classList.add("split");
  setText(byId("detail-title"), "No such job");
  byId("detail-body").replaceChildren(
    el("p", { class: "muted" }, "It has been removed, or it was done and only the last thousand are kept."),
  );
}

function stateBadge(job) {
  const name = job.stalled ? "stalled" : job.state;
  return el("span", { class: `badge ${name}` }, name);
}

function actions(job, act) {
  const buttons = Object.entries(ACTIONS)
    .filter(([, action]) => action.states.includes(job.state))
    .map(([name, { label, kind }]) => {
      const button = el("button", { type: "button", class: kind, "data-action": name }, label);
      button.addEventListener("click", () => act(name, job));
      return button;
    });
  return el("div", { class: "actions", hidden: buttons.length === 0 }, ...buttons);
}

function explanation(job) {
  if (job.stalled) {
    return [note("stalled", "Its worker has gone silent. Another one takes the job over by itself.")];
  }
  if (job.state === "dead") {
    return [note("dead", "Every attempt has failed. It is not run again unless you retry it.")];
  }
  return [];
}

const note = (kind, text) => el("p", { class: `alert ${kind}` }, text);

function section(name, content) {
  return el("div", { class: "part" }, el("h3", {}, name), content);
}

function timeline(job) {
  const steps = [["Added", job.added_at, ""]];
  if (job.started_at) steps.push([job.attempts > 1 ? `Attempt ${job.attempts} began` : "Began", job.started_at, ""]);
  if (job.run_at) steps.push(["Runs next", job.run_at, "future"]);
  if (job.finished_at) {
    const took = job.started_at ? `, after ${span(Date.parse(job.finished_at) - Date.parse(job.started_at))}` : "";
    steps.push([(job.state === "dead" ? "Failed for good" : "Done") + took, job.finished_at, job.state]);
  }
  const step = ([name, at, kind]) =>
    el("li", { class: kind }, el("span", {}, name), time(at), el("small", {}, new Date(at).toLocaleString()));
  return el("ol", { class: "timeline" }, ...steps.map(step));
}

function errors(job) {
  return el("ol", { class: "errors" }, ...job.errors.map((error) => el("li", {}, error)));
}
