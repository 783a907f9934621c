// The board: looks at the server every two seconds while somebody looks at the page.
import { Failure, get, post, remove, signOut } from "./api.js";
import { draw } from "./chart.js";
import { hideDetail, showDetail, showGone } from "./detail.js";
import { byId, el, keyed, serverTime, setText, short, tick, title } from "./dom.js";
import { showList } from "./list.js";

const STATES = ["waiting", "delayed", "active", "done", "dead"];
const EVERY_MS = 2_000;
const PAGE = 25;

/** What is looked at: the address after `#` is `state` or `state/job`. */
const view = { state: "waiting", job: null, offset: 0 };
let counts = null;
let timer = 0;
let failures = 0;
/** Looks are numbered: an answer to an earlier one is not shown. */
let current = 0;

function readAddress() {
  const [state, job] = location.hash.slice(1).split("/");
  const next = STATES.includes(state) ? state : "waiting";
  if (next !== view.state) view.offset = 0;
  const opened = job && job !== view.job;
  const closed = !job && view.job;
  Object.assign(view, { state: next, job: job || null });
  if (closed) {
    hideDetail();
    document.querySelector(`#jobs [data-key="${CSS.escape(closed)}"] a`)?.focus({ preventScroll: true });
  }
  showTabs();
  return look().then(() => {
    if (opened && view.job === job) byId("detail-title").focus({ preventScroll: true });
  });
}

async function look() {
  const mine = ++current;
  clearTimeout(timer);
  try {
    const seen = await fetchAll();
    if (mine !== current) return;
    failures = 0;
    show(seen);
    link("live", "Live");
  } catch (error) {
    if (mine !== current) return;
    failures += 1;
    if (!(error instanceof Failure)) throw error;
    if (error.status === 401 || error.status === 403) return location.replace("/admin/sign-in");
    link("away", error.status === 0 ? "Server cannot be reached" : error.message);
    tick();
  } finally {
    if (mine === current) again();
  }
}

function again() {
  clearTimeout(timer);
  if (document.hidden) return link("paused", "Paused");
  timer = setTimeout(look, EVERY_MS * Math.min(5, 1 + failures));
}

async function fetchAll() {
  const { state, job, offset } = view;
  const [overview, list, detail] = await Promise.all([
    get("overview"),
    get(`jobs?state=${state}&offset=${offset}&limit=${PAGE}`),
    job ? get(`jobs/${encodeURIComponent(job)}`).catch(gone) : null,
  ]);
  const held = overview.counts.active > 0 ? (await get("jobs?state=active&limit=100")).items : [];
  return { overview, list: list.items, detail, held };
}

function gone(error) {
  if (error.status === 404 || error.status === 400) return "gone";
  throw error;
}

function show({ overview, list, detail, held }) {
  serverTime(overview.at);
  counts = overview.counts;
  showAlerts();
  draw(overview.throughput);
  showWorkers(overview.workers, new Map(held.map((job) => [job.id, job])));
  showTabs();
  showList(view.state, list, view.job);
  showPaging(list.length);
  if (detail === "gone") showGone();
  else if (detail) showDetail(detail, act);
  tick();
}

function showAlerts() {
  const alerts = [];
  if (counts.stalled > 0) {
    alerts.push(["stalled", "active", `${jobs(counts.stalled)} stalled: the worker went silent`]);
  }
  if (counts.dead > 0) alerts.push(["dead", "dead", `${jobs(counts.dead)} failed for good`]);
  const box = byId("alerts");
  box.hidden = alerts.length === 0;
  keyed(
    box,
    alerts,
    ([kind]) => kind,
    ([kind, state]) => el("p", { class: `alert ${kind}` }, el("span"), el("a", { href: `#${state}` }, "Look")),
    (node, [, , text]) => setText(node.firstElementChild, text),
  );
}

const jobs = (n) => (n === 1 ? "1 job" : `${n} jobs`);

function showWorkers(workers, known) {
  setText(byId("workers-count"), `${workers.length} live`);
  byId("workers-none").hidden = workers.length > 0;
  byId("workers").hidden = workers.length === 0;
  const key = (worker) => worker.name;
  const create = (worker) => el("li", {}, el("strong", {}, worker.name), el("div", { class: "holds" }));
  keyed(byId("workers"), workers, key, create, (node, { holds }) => {
    const box = node.querySelector(".holds");
    const state = JSON.stringify(holds.map((id) => [id, known.get(id)?.stalled]));
    if (box.dataset.state === state) return;
    box.dataset.state = state;
    box.replaceChildren(...(holds.length === 0 ? [el("span", { class: "muted" }, "idle")] : holds.map((id) => held(id, known.get(id)))));
  });
}

function held(id, job) {
  const name = job ? title(job.kind) : "Job";
  return el("a", { href: `#active/${id}`, class: job?.stalled ? "badge stalled" : "badge active" }, `${name} ${short(id)}`);
}

function showTabs() {
  keyed(
    byId("tabs"),
    STATES,
    (state) => state,
    (state) => el("li", {}, el("a", { href: `#${state}`, class: state }, el("span", {}, title(state)), el("b", {}, "–"))),
    (node, state) => {
      const link = node.firstElementChild;
      if (state === view.state) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      if (counts) setText(link.lastElementChild, String(counts[state]));
      link.classList.toggle("some", counts !== null && counts[state] > 0);
    },
  );
  setText(byId("list-title"), `${title(view.state)} jobs`);
  const all = byId("retry-all");
  all.hidden = view.state !== "dead" || !counts?.dead;
}

function showPaging(length) {
  const total = counts[view.state];
  // The page may have run empty under our eyes.
  if (length === 0 && view.offset > 0) {
    view.offset = Math.max(0, Math.min(view.offset, total) - PAGE);
    return look();
  }
  byId("paging").hidden = view.offset === 0 && total <= PAGE;
  byId("previous").disabled = view.offset === 0;
  byId("next").disabled = view.offset + length >= total;
  setText(byId("range"), `${view.offset + 1}–${view.offset + length} of ${Math.max(total, view.offset + length)}`);
}

function turn(by) {
  view.offset = Math.max(0, view.offset + by);
  byId("list-title").focus({ preventScroll: true });
  byId("list-title").scrollIntoView({ block: "nearest" });
  look();
}

async function act(name, job) {
  const what = `${title(job.kind)} ${short(job.id)}`;
  const path = `jobs/${job.id}`;
  if (name === "retry") return change(() => post(`${path}/retry`), `${what} is run again.`);
  if (name === "promote") return change(() => post(`${path}/promote`), `${what} is run now.`);
  const sure = await ask("Remove this job?", `${what} is forgotten and will not be run.`, "Remove", "danger");
  if (sure) await change(() => remove(path), `${what} is removed.`, close);
}

async function retryAll() {
  const sure = await ask("Retry all dead jobs?", `${jobs(counts.dead)} will be run again, with all attempts.`, "Retry all", "primary");
  if (sure) await change(() => post("retry-all"), (answer) => `${jobs(answer.retried)} will be run again.`);
}

async function change(request, words, then = look) {
  try {
    const answer = await request();
    tell(typeof words === "string" ? words : words(answer));
  } catch (error) {
    if (error.status === 401) return location.replace("/admin/sign-in");
    tell(error.message, true);
    return look();
  }
  return then();
}

let silence = 0;

function tell(words, failed = false) {
  const box = byId("told");
  box.textContent = words;
  box.classList.toggle("failed", failed);
  box.hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => (box.hidden = true), failed ? 8_000 : 4_000);
}

function ask(question, text, yes, kind) {
  const dialog = byId("ask");
  byId("ask-title").textContent = question;
  byId("ask-text").textContent = text;
  Object.assign(byId("ask-yes"), { textContent: yes, className: kind });
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function link(kind, text) {
  byId("link").className = `link ${kind}`;
  setText(byId("link-text"), text);
}

const close = () => (location.hash = view.state);

byId("close").addEventListener("click", close);
byId("previous").addEventListener("click", () => turn(-PAGE));
byId("next").addEventListener("click", () => turn(PAGE));
byId("retry-all").addEventListener("click", retryAll);
byId("sign-out").addEventListener("click", async () => {
  try {
    await signOut();
    location.replace("/admin/sign-in");
  } catch (error) {
    tell(error.message, true);
  }
});
document.querySelector("[data-skip]").addEventListener("click", (event) => {
  // The address is the view's.
  event.preventDefault();
  byId("list-title").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view.job && !byId("ask").open) close();
});
document.addEventListener("visibilitychange", () => (document.hidden ? again() : look()));
window.addEventListener("hashchange", readAddress);
setInterval(() => document.hidden || tick(), 1_000);
readAddress();
