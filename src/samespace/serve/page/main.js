// The page: what it knows, where it is, how it is brought up to date, and what its buttons do.

import { actionsOf } from "./actions.js";
import { ask, key, Problem } from "./api.js";
import { h, show } from "./dom.js";
import { search } from "./search.js";
import { nothing, path, state } from "./state.js";
import { upgradeDay } from "./upgrade.js";
import { bar, versions } from "./versions.js";
import { counted, phase, sentence } from "./words.js";

const VIEWS = { versions: ["Versions", versions], upgrade: ["Upgrade", upgradeDay], search: ["Search", search] };
const [RUNNING, IDLE, LONGEST] = [1_000, 4_000, 30_000];
const SLOW_EVERY = 10_000;

const main = document.getElementById("main");
const { actions, changes } = actionsOf({ refresh, render, say });
let timer = 0, failures = 0, round = 0;

/** Say something to people who do not see the page. */
function say(text) {
  document.getElementById("said").textContent = text;
}

function render() {
  renderTop();
  renderConnection();
  document.title = state.gallery ? `${state.gallery}, ${VIEWS[state.view][0].toLowerCase()} · samespace` : "samespace";
  if (state.asksForKey !== null) return show(main, signIn());
  if (!state.galleries) return show(main, h("p", { class: "muted" }, state.gone ? "" : "Loading…"));
  if (!state.gallery) return show(main, h("h1", { tabindex: -1 }, "Galleries"), list());
  const heading = h("h1", { tabindex: -1, "data-key": `${state.gallery}/${state.view}` }, state.gallery, h("small", {}, VIEWS[state.view][0]));
  if (!state.galleries.includes(state.gallery)) return show(main, heading, h("p", { class: "problem" }, `There is no gallery '${state.gallery}'.`));
  show(main, heading, state.status ? h("div", { "data-key": `${state.gallery}/${state.view}/view` }, VIEWS[state.view][1](state)) : h("p", { class: "muted" }, "Loading…"));
}

function renderTop() {
  const several = state.galleries && state.galleries.length > 1;
  const known = state.gallery && state.asksForKey === null && state.galleries;
  show(document.getElementById("top"),
    h("a", { class: "brand", href: "#/" }, "samespace"),
    known && h("nav", { "aria-label": state.gallery }, h("ul", {},
      several && h("li", {}, h("a", { href: "#/" }, "Galleries")),
      Object.entries(VIEWS).map(([name, [label]]) =>
        h("li", {}, h("a", { href: `#/${encodeURIComponent(state.gallery)}/${name}`, "aria-current": name === state.view ? "page" : null }, label))))),
    key.get() && state.asksForKey === null && h("button", { type: "button", "data-do": "leave", class: "quiet" }, "Forget the key"));
}

function renderConnection() {
  const { gone } = state;
  show(document.getElementById("connection"), gone && h("p", { class: "gone" },
    h("span", {}, `${sentence(gone.detail)} ${state.galleries ? `What you see is of ${gone.since}.` : ""} The page keeps trying.`), " ",
    h("button", { type: "button", "data-do": "again", class: "quiet" }, "Try now")));
}

function signIn() {
  return [
    h("h1", { tabindex: -1 }, "A key, please"),
    h("form", { "data-do": "enter", class: "sign-in" },
      h("div", { class: "field" }, h("label", { for: "key" }, "This service asks for a key"),
        h("input", { id: "key", name: "key", type: "password", autocomplete: "off", required: true, "aria-describedby": "key-about key-problem", "aria-invalid": state.asksForKey ? "true" : null })),
      h("p", { id: "key-about", class: "muted" }, "Those who run the service make keys with ", h("code", {}, "samespace serve key add"), ". This tab keeps yours until you close it."),
      h("p", { id: "key-problem", class: "problem", role: "alert", hidden: !state.asksForKey }, state.asksForKey),
      h("button", {}, "Enter")),
  ];
}

function list() {
  return h("ul", { class: "galleries" }, state.galleries.map((name) => {
    const status = state.all.get(name);
    return h("li", { "data-key": name }, h("h2", {}, h("a", { href: `#/${encodeURIComponent(name)}` }, name)),
      status ? [bar(status), h("p", {}, `${counted(status.items, "item")}. ${phase(status)}`)] : h("p", { class: "muted" }, "Loading…"));
  }));
}

/** Where the address says to be. */
function route({ focus = false } = {}) {
  const [, gallery, view] = location.hash.split("/").map(decodeURIComponent);
  const only = state.galleries?.length === 1 ? state.galleries[0] : null;
  const before = `${state.gallery}/${state.view}`;
  if ((gallery || only) !== state.gallery)
    Object.assign(state, nothing(), { gallery: gallery || only });
  state.view = view in VIEWS ? view : "versions";
  if (`${state.gallery}/${state.view}` !== before) {
    state.problems.clear();
    state.notes.clear();
    state.slowAt = 0;
  }
  render();
  if (focus) main.querySelector("h1")?.focus();
}

/** Ask for everything that the view shows. */
async function update() {
  if (!state.galleries) {
    const found = await ask("GET", "v1");
    Object.assign(state, { galleries: Object.keys(found.galleries), models: found.models, scope: found.scope, asksForKey: null });
    route();
  }
  if (!state.gallery) {
    for (const name of state.galleries) state.all.set(name, await ask("GET", `v1/${encodeURIComponent(name)}/status`));
    return;
  }
  if (!state.galleries.includes(state.gallery)) return;
  const { gallery, view } = state;
  const slow = Date.now() - state.slowAt > SLOW_EVERY || !state.certificates;
  const [status, jobs, certificates, curve] = await Promise.all([
    ask("GET", path("/status")),
    ask("GET", path("/jobs")),
    slow ? ask("GET", path("/certificates")) : state.certificates,
    slow && view === "upgrade" ? ask("GET", path("/canary-curve")) : state.curve,
  ]);
  if (state.gallery !== gallery) return;
  if (state.status && state.status.phase !== status.phase) {
    say(phase(status));
    state.slowAt = 0;
  } else if (slow) {
    state.slowAt = Date.now();
  }
  Object.assign(state, { status, jobs, certificates, curve });
}

/** Bring the page up to date, now and then again: sooner while something runs, later while the service is gone. */
async function refresh() {
  clearTimeout(timer);
  const mine = (round += 1);
  let next = IDLE;
  try {
    await update();
    if (state.gone) say("The service answers again.");
    Object.assign(state, { gone: null });
    failures = 0;
    if (state.jobs.some((job) => job.ended === null) || state.status?.workers.length) next = RUNNING;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failures += 1;
    next = Math.max(error.wait, Math.min(LONGEST, 1_000 * 2 ** failures));
    if (error.status === 401) {
      next = null;
      askForKey(error);
    } else if (error.status !== 429) {
      state.gone ??= { since: new Date().toLocaleTimeString("en", { hour12: false }), detail: "" };
      state.gone.detail = error.message;
    }
  }
  if (mine !== round) return;
  render();
  if (next !== null) timer = setTimeout(() => (document.hidden ? undefined : refresh()), next);
}

function askForKey(error) {
  const tried = key.get() !== null;
  key.forget();
  Object.assign(state, { asksForKey: tried ? `The service does not take this key: ${error.message}` : "", galleries: null, status: null, scope: null, all: new Map() });
  render();
  document.getElementById("key")?.focus();
}

/** Do what a button or a form says: its refusal is shown beside it, and what was filled in stays. */
async function carryOut(name, element) {
  if (state.busy.has(name)) return;
  state.busy.add(name);
  state.problems.delete(name);
  state.notes.delete(name);
  render();
  try {
    await actions[name](element);
  } catch (error) {
    if (error.status === 401) askForKey(error);
    else state.problems.set(name, error.message);
  } finally {
    state.busy.delete(name);
    render();
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button && button.getAttribute("aria-disabled") !== "true") carryOut(button.dataset.do, button);
});
document.addEventListener("submit", (event) => {
  event.preventDefault();
  const submit = event.target.querySelector("button:not([type=button])");
  if (submit?.getAttribute("aria-disabled") !== "true") carryOut(event.target.dataset.do, event.target);
});
document.addEventListener("change", (event) => changes[event.target.dataset.change]?.(event.target));
document.addEventListener("visibilitychange", () => !document.hidden && state.asksForKey === null && refresh());
addEventListener("hashchange", () => {
  route({ focus: true });
  if (state.asksForKey === null) refresh();
});

route();
refresh();
