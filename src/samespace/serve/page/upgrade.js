// Upgrade day: the steps in their order, what is possible now and why the rest is not, the backfill, the way back.

import { calibrateControls, calibrating } from "./calibrate.js";
import { qualityCurve } from "./chart.js";
import { h } from "./dom.js";
import { button, check, field, form, outcome } from "./forms.js";
import { bar, cards, section } from "./versions.js";
import { count, counted, duration, interval, moment, named, percent, phase, sentence, share, signed, size, spaceOf } from "./words.js";

const TITLES = {
  plan: "Plan",
  upgrade: "Let queries use the new version",
  begin: "Begin to fill the new version",
  calibrate: "Calibrate scores",
  backfill: "Backfill",
  switch: "Switch",
  seal: "Seal",
};
const LATER = { switch: "it comes after the backfill" };
const AGAIN = { planned: ["plan"], filling: ["plan", "upgrade"], open: ["plan", "upgrade", "switch"], sealing: ["plan", "upgrade", "backfill", "switch"], "rolled-back": ["plan"] };

/** The view. */
export function upgradeDay(state) {
  const { status } = state;
  const behind = Boolean(status.upgrade?.plan?.behind) && status.phase !== "sealed";
  const order = behind ? ["plan", "upgrade", "backfill", "switch", "calibrate", "seal"] : ["plan", "upgrade", "calibrate", "backfill", "seal"];
  return [
    h("p", { class: "lead" }, phase(status)),
    bar(status),
    state.scope !== "admin" && h("p", { class: "callout" }, `This key has the scope ${state.scope}: it sees the steps, and an admin key takes them.`),
    section("steps", "Steps", h("ol", { class: "steps" }, order.map((name, place) => step(state, name, place + 1, behind)))),
    section("back", "The way back", wayBack(state)),
    behind ? section("quality", "Quality", sides(status)) : section("quality", "Quality over the backfill", qualityCurve(status, state.curve)),
    section("history", "What was done", history(status)),
  ];
}

function step(state, name, number, behind) {
  const { status } = state;
  const found = name === "calibrate" ? calibrating(status) : status.steps.find((one) => one.name === name);
  const done = found?.done ?? isDone(status, name);
  const allowed = Boolean(found?.allowed);
  const title = name === "upgrade" && behind ? TITLES.begin : TITLES[name];
  const running = name === "backfill" && (state.jobs.some((job) => job.ended === null) || status.workers.length > 0);
  const mark = running ? ["now", "under way"] : done ? ["done", "✓ done"] : found?.optional ? ["later", "optional"] : allowed ? ["now", "possible now"] : ["later", "not yet"];
  const why = done && name !== "backfill" ? "" : (found?.why ?? LATER[name]);
  return h("li", { "data-key": name, class: mark[0], "aria-labelledby": `step-${name}` },
    h("h3", { id: `step-${name}` }, `${number}. ${title} `, h("span", { class: `badge ${mark[0]}` }, mark[1])),
    why && h("p", { id: `why-${name}` }, sentence(why)),
    CONTROLS[name](state, allowed, done),
    outcome(state, name));
}

function isDone(status, name) {
  if (!status.upgrade || status.phase === "sealed") return false;
  if (name === "backfill" && ["complete", "filled"].includes(status.phase)) return true;
  return (AGAIN[status.upgrade.state] ?? []).includes(name);
}

const CONTROLS = {
  plan: planControls,
  upgrade: upgradeControls,
  calibrate: calibrateControls,
  backfill: backfillControls,
  switch: (state, allowed) => allowed && form(state, "switch", "Switch queries",
    grace(state, "switch"), check("accept_worse", "switch", "Switch although the new side measures worse; this is recorded")),
  seal: (state, allowed) => allowed && button(state, "ask-seal", "Seal…", "danger"),
};

function planControls(state, allowed, done) {
  const { status } = state;
  const plan = done ? status.upgrade.plan : null;
  if (!allowed) return plan && planned(status, plan);
  const form_ = state.models.length
    ? form(state, "plan", "Plan",
        field("plan-model", "New model", h("select", { id: "plan-model", name: "model" }, state.models.map((name) => h("option", { value: name }, name)))),
        field("plan-certificates", "Certificates: certificate.json, as samespace check wrote it", h("input", { id: "plan-certificates", name: "certificates", type: "file", accept: ".json,application/json", multiple: true })),
        check("behind", "plan", "Behind: the model is not compatible, so it is filled before queries use it"))
    : h("p", { class: "muted" }, "To plan here, start the service with --model NAME=PLACE for the new model; or plan with ", h("code", {}, "samespace gallery plan"), ".");
  return plan
    ? [planned(status, plan), h("details", { "data-key": "again" }, h("summary", {}, "Plan again"), form_)]
    : form_;
}

function planned(status, plan) {
  const items = [
    ["Queries", `${spaceOf(status, status.upgrade.old)} → ${spaceOf(status, status.upgrade.new)}`],
    ["To embed", `${count(plan.to_embed)} of ${counted(plan.items, "item")}`],
    ["Time", plan.seconds === null ? "not measured" : `${duration(plan.seconds)} at ${count(Math.round(plan.rate))} items/s, one worker`],
    ["New vectors", size(plan.bytes)],
    ["Order", plan.order],
  ];
  const names = (text) => status.spaces.reduce((told, one) => told.replaceAll(one.space.id, named(one.space, status.spaces)), text);
  const missing = status.upgrade.state === "planned" ? plan.missing.map(names) : [];
  return [
    h("dl", { class: "words" }, items.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
    missing.length > 0 && h("ul", { class: "notes" }, missing.map((line) => h("li", {}, sentence(`missing: ${line}`)))),
  ];
}

function upgradeControls(state, allowed, done) {
  const { status } = state;
  const plan = status.upgrade?.plan;
  if (done || !plan || status.upgrade.state === "sealed") return null;
  const behind = plan.behind;
  if (allowed)
    return form(state, "upgrade", behind ? "Begin to fill" : "Let queries use it", grace(state, "upgrade"));
  if (!["planned", "rolled-back"].includes(status.upgrade.state)) return null;
  return h("details", { "data-key": "uncertified" }, h("summary", {}, "Upgrade without a certificate"),
    form(state, "upgrade", "Upgrade without a certificate", grace(state, "upgrade"),
      check("accept_uncertified", "upgrade", "Nothing shows that searches keep their quality, and I accept that; it is recorded", true)));
}

const grace = (state, name) => {
  const query = state.status.spaces.find((one) => one.role === "queries");
  return check("grace", name, `Answer queries of ${spaceOf(state.status, query.generation)} too, until the seal`);
};

function backfillControls(state, allowed) {
  const { status, jobs } = state;
  const job = jobs.find((one) => one.ended === null);
  const last = jobs[0];
  const paused = status.upgrade?.paused;
  const may = (name) => status.steps.find((one) => one.name === name)?.allowed;
  const begun = ["upgraded", "backfilling", "filling", "paused", "complete", "filled"].includes(status.phase);
  const buttons = [
    allowed && !job && button(state, "backfill", status.work.failed ? "Start, and try again what failed" : "Start"),
    job && job.state !== "stopping" && button(state, "stop", "Stop", "", { "data-job": job.id }),
    may("pause") && begun && allowed && button(state, "pause", "Pause all workers", "quiet"),
    paused && button(state, "resume", "Resume"),
  ].filter(Boolean);
  return [
    begun && progress(status, job),
    job && h("p", {}, sentence(`${JOBS[job.state]}, begun at ${moment(job.started)}: ${counted(job.done, "item")} so far${job.note ? `, ${job.note}` : ""}`)),
    !job && last && h("p", { class: last.error ? "problem" : "muted" }, ended(last)),
    buttons.length > 0 && h("div", { class: "buttons" }, buttons),
  ];
}

const JOBS = {
  running: "the service fills the gallery",
  stopping: "the service stops after the batch in hand",
  waiting: "the backfill waits for a process of the service to carry it on",
  died: "a process of the service was lost, and the next carries the backfill on",
};

function progress(status, job) {
  const done = Math.floor(1000 * status.backfilled) / 10;
  const rate = status.rate === null ? (job ? "measuring the rate" : "no worker is running") : `${counted(Math.round(status.rate), "item")}/s`;
  const left = status.seconds_left ? `, ${duration(status.seconds_left)} left` : "";
  const failed = status.work.failed ? `, ${counted(status.work.failed, "item")} could not be embedded` : "";
  return h("div", { class: "progress" },
    h("label", { for: "backfilled" }, `${share(status.backfilled)} of ${counted(status.items, "item")} re-embedded`),
    h("progress", { id: "backfilled", max: 100, value: done }, `${done} %`),
    h("p", { class: "muted" }, sentence(["complete", "filled"].includes(status.phase) ? `nothing is left${failed}` : `${rate}${left}${failed}`)));
}

function ended(job) {
  if (job.error) return sentence(`the last backfill failed at ${moment(job.ended)}: ${job.error}`);
  const result = job.result ? `: ${counted(job.result.stored, "item")} embedded, ${count(job.result.left)} left${job.result.ended && `; ${job.result.ended}`}` : "";
  return sentence(`the last backfill of the service ended at ${moment(job.ended)}${result}`);
}

function wayBack(state) {
  const found = state.status.steps.find((one) => one.name === "rollback");
  return [
    h("p", {}, found.allowed ? "A rollback is possible now:" : sentence(`there is nothing to roll back: ${found.why}`)),
    found.allowed && clauses(found.why),
    found.allowed && button(state, "ask-rollback", "Roll back…", "danger"),
    outcome(state, "rollback"),
  ];
}

/** What a step would do, a line for each part of its sentence. */
export const clauses = (text) => h("ul", {}, text.split("; ").map((part) => h("li", {}, sentence(part))));

function sides(status) {
  const { quality } = status;
  if (!quality) return h("p", {}, "Not measured yet; the backfill measures both sides when it ends.");
  if (quality.reason) return h("p", {}, sentence(`not measured: ${quality.reason}`));
  const rows = Object.entries(quality.metrics).map(([name, one]) => [name, percent(one.old), percent(one.new), interval(one.difference, signed)]);
  const caption = `In %, ${counted(quality.queries, "query", "queries")} of ${counted(quality.classes, "class", "classes")} among ${counted(quality.items, "item")}, measured ${moment(quality.at)}`;
  return cards(caption, ["Metric", "Old side", "New side", "Difference, 95 % interval"], rows, "numbers");
}

function history(status) {
  if (!status.audit.length) return h("p", {}, "Nothing yet.");
  return h("ul", {}, status.audit.map((line) => h("li", { "data-key": `at ${line.at}` }, `${moment(line.at)}: ${line.action}${line.actor === line.action ? "" : `, by ${line.actor}`}`)));
}
