// What the buttons and forms do: one request each, or a dialog before those that take something away.

import { ask, key, picture } from "./api.js";
import { labelled } from "./calibrate.js";
import { h, show } from "./dom.js";
import { numbersOf } from "./search.js";
import { path, state } from "./state.js";
import { clauses } from "./upgrade.js";
import { count, named, sentence } from "./words.js";

const LONG = 600_000;
const dialog = document.getElementById("dialog");

/** The actions by name, and what follows from a changed field; `page` draws, asks anew and speaks. */
export function actionsOf({ refresh, render, say }) {
  /** A step of the upgrade, refused where somebody took another one that this page does not show yet. */
  const step = (place, body = {}, expect = state.status.steps_taken) => change(place, { ...body, expect });

  /** A request that changes the gallery; the page is brought up to date after it. */
  async function change(place, body) {
    const done = await ask("POST", path(place), body, LONG);
    state.slowAt = 0;
    await refresh();
    return done;
  }

  const actions = {
    enter: async (form) => {
      key.set(form.elements.key.value.trim());
      await refresh();
      if (state.asksForKey === null) document.querySelector("main h1")?.focus();
    },
    leave: async () => {
      key.forget();
      state.galleries = null;
      await refresh();
    },
    again: refresh,
    plan: async (form) => {
      const certificates = [];
      for (const file of form.elements.certificates.files) certificates.push(json(await file.text(), file.name));
      const plan = await change("/plan", { model: form.elements.model.value, behind: form.elements.behind.checked, certificates });
      say(plan.missing.length ? "Planned; something is missing." : "Planned; nothing is missing.");
    },
    upgrade: async (form) => {
      const behind = Boolean(state.status.upgrade.plan.behind);
      const done = await step("/upgrade", { behind, ...checked(form, ["grace", "accept_uncertified"]) });
      state.notes.set("upgrade", done.notes ?? []);
      say(behind ? "The new version is being filled." : "Queries use the new version.");
    },
    calibrate: async (form) => {
      const query = state.status.spaces.find((one) => one.role === "queries");
      const [queries, gallery] = [await table(form.elements.queries, query.space.id), await table(form.elements.items, form.elements.pair.value)];
      const done = await change("/calibrate", { queries, gallery });
      state.notes.set("calibrate", [`learnt from ${count(done.genuine)} pairs that match and ${count(done.impostor)} that do not`]);
      say("Calibrated.");
    },
    backfill: async () => {
      await change("/jobs", { retry: state.status.work.failed > 0 });
      say("The backfill has begun.");
    },
    stop: async (button) => {
      await ask("DELETE", path(`/jobs/${encodeURIComponent(button.dataset.job)}`));
      await refresh();
    },
    pause: () => step("/pause"),
    resume: () => step("/resume"),
    switch: async (form) => {
      const done = await step("/switch", checked(form, ["grace", "accept_worse"]));
      state.notes.set("switch", done.notes);
      say("Queries use the new version.");
    },
    "ask-rollback": () => confirm("rollback", "Roll back?", why("rollback")),
    rollback: async () => {
      dialog.close();
      const done = await step("/rollback", {}, Number(dialog.dataset.stepsTaken));
      state.notes.set("rollback", [`queries use ${named(done.query, state.status.spaces)}`, ...done.notes]);
      say("Rolled back.");
    },
    "ask-seal": () => confirm("seal", "Seal?", why("seal"), state.gallery),
    seal: async () => {
      if (dialog.querySelector("input").value !== state.gallery) return refuse(`type ${state.gallery} to seal it`);
      dialog.close();
      const done = await step("/seal", {}, Number(dialog.dataset.stepsTaken));
      state.notes.set("seal", [`${count(done.deleted)} vectors were deleted`]);
      say("Sealed.");
    },
    close: () => dialog.close(),
    search: async (form) => {
      const [body, asked] = await query(form);
      const began = performance.now();
      const answer = await ask("POST", path("/search"), body);
      Object.assign(state.search, { answer, asked, milliseconds: performance.now() - began });
      fetchPictures(answer.hits[0].map((hit) => hit.item));
    },
  };

  /** Fetch the pictures of items that are not here yet, and show each as it comes. */
  async function fetchPictures(items) {
    const { pictures } = state;
    for (const item of items.filter((one) => !pictures.has(one))) {
      const found = await picture(path(`/pictures/${item.split("/").map(encodeURIComponent).join("/")}`)).catch(() => null);
      if (found === null) return;
      pictures.set(item, found);
      render();
    }
  }

  const changes = {
    by: (input) => {
      state.search.by = input.value;
      render();
    },
    image: (input) => {
      if (state.search.preview) URL.revokeObjectURL(state.search.preview);
      state.search.preview = input.files.length ? URL.createObjectURL(input.files[0]) : null;
      render();
    },
  };
  return { actions, changes };
}

/** Ask before something is taken away; `typed`: what has to be typed for it. */
function confirm(name, title, text, typed) {
  show(dialog,
    h("h2", { id: "dialog-title" }, title),
    h("div", { id: "dialog-text" }, clauses(text)),
    typed && h("div", { class: "field", "data-key": name }, h("label", { for: "typed" }, `Type ${typed} to go on`), h("input", { id: "typed", type: "text", autocomplete: "off" })),
    h("p", { id: "dialog-problem", class: "problem", role: "alert", hidden: true }),
    h("div", { class: "buttons" },
      h("button", { type: "button", "data-do": "close", class: "quiet", autofocus: true }, "Cancel"),
      h("button", { type: "button", "data-do": name, class: "danger" }, title.replace("?", ""))));
  dialog.dataset.stepsTaken = state.status.steps_taken;
  dialog.showModal();
}

function refuse(text) {
  const place = dialog.querySelector("#dialog-problem");
  place.hidden = false;
  place.textContent = sentence(text);
}

/** The body of a search as the form says, and what to call it. */
async function query(form) {
  const { elements } = form;
  const body = { k: Number(elements.k.value) || 10, where: elements.where.value.match(/(?:[^\s"]|"[^"]*")+/g) ?? [], count: false };
  const { by } = state.search;
  if (by === "image") {
    const [file] = elements.image.files;
    if (!file) throw new Error("choose an image file");
    return [{ ...body, images: [await base64(file)] }, `the image ${file.name}`];
  }
  if (by === "text") {
    if (!elements.text.value.trim()) throw new Error("type a text");
    return [{ ...body, texts: [elements.text.value] }, `the text “${elements.text.value}”`];
  }
  const values = numbersOf(elements.vector.value);
  const { spaces } = state.status;
  const legal = spaces.filter((one) => one.role === "queries" || one.queries).reverse();
  const fits = legal.find((one) => one.space.dim === values.length);
  if (!fits) throw new Error(`this vector has ${values.length} numbers; expected ${legal.map((one) => `${one.space.dim} for ${named(one.space, spaces)}`).join(", or ")}`);
  return [{ ...body, queries: { space: fits.space.id, vectors: [values] } }, `a vector of ${named(fits.space, spaces)}`];
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

const checked = (form, names) => Object.fromEntries(names.filter((name) => form.elements[name]).map((name) => [name, form.elements[name].checked]));
const why = (name) => state.status.steps.find((one) => one.name === name).why;

/** The labelled vectors of a chosen file. */
async function table(input, space) {
  const [file] = input.files;
  if (!file) throw new Error(`choose a file of ${input.name}`);
  return labelled(await file.text(), file.name, space);
}

function json(text, name) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`the file ${name} is no JSON; give the certificate.json that 'samespace check' wrote`);
  }
}
