// Buttons and forms, and what the service said to the last try of each.

import { h } from "./dom.js";
import { sentence } from "./words.js";

/** A button; while its request is under way, or without the scope, it does nothing. */
export function button(state, name, text, kind = "", more = {}) {
  const idle = state.busy.has(name) || state.scope !== "admin";
  return h("button", { type: "button", "data-key": name, "data-do": name, class: kind, "aria-disabled": idle, ...more }, text);
}

/** A form that does what its button says. */
export function form(state, name, text, ...fields) {
  const idle = state.busy.has(name) || state.scope !== "admin";
  return h("form", { "data-do": name, "data-key": `form-${name}` }, fields,
    h("button", { "aria-disabled": idle }, state.busy.has(name) ? "Working…" : text));
}

export const field = (id, label, input) => h("div", { class: "field" }, h("label", { for: id }, label), input);
export const check = (name, place, label, required = false) =>
  h("div", { class: "check" }, h("input", { type: "checkbox", id: `${place}-${name}`, name, required }), h("label", { for: `${place}-${name}` }, label));

/** What the service said to the last try: its refusal, or what to know. */
export function outcome(state, name) {
  const refused = state.problems.get(name);
  const notes = state.notes.get(name) ?? [];
  return [
    refused && h("p", { class: "problem", role: "alert" }, sentence(refused)),
    notes.length > 0 && h("ul", { class: "notes" }, notes.map((line) => h("li", {}, sentence(line)))),
  ];
}
