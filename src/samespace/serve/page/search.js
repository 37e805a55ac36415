// Search by an image, a text or a vector, and which version answered.

import { h } from "./dom.js";
import { outcome } from "./forms.js";
import { section, swatch } from "./versions.js";
import { counted, named } from "./words.js";

const BY = { image: "Image", vector: "Vector", text: "Text" };
const SCALES = { logistic: "log-odds", fmr: "−log10 FMR" };
const RAW = { cosine: "cosine", ip: "inner product", l2: "−distance²" };

/** The view. */
export function search(state) {
  const { by } = state.search;
  return [
    h("form", { "data-do": "search", class: "search", novalidate: true },
      h("fieldset", {}, h("legend", {}, "Search by"), Object.entries(BY).map(([kind, label]) =>
        h("span", { class: "choice" }, h("input", { type: "radio", name: "by", id: `by-${kind}`, value: kind, checked: kind === by, "data-change": "by" }), h("label", { for: `by-${kind}` }, label)))),
      h("div", { class: "field", hidden: by !== "image" }, h("label", { for: "image" }, "An image file"), h("input", { id: "image", name: "image", type: "file", accept: "image/*", "data-change": "image" })),
      state.search.preview && by === "image" && h("img", { class: "preview", src: state.search.preview, alt: "The image to search by" }),
      h("div", { class: "field", hidden: by !== "vector" },
        h("label", { for: "vector" }, `A vector: ${dimensions(state.status)} numbers`),
        h("textarea", { id: "vector", name: "vector", rows: 3, spellcheck: "false", placeholder: "[0.12, -0.03, …]" })),
      h("div", { class: "field", hidden: by !== "text" }, h("label", { for: "text" }, "A text"), h("input", { id: "text", name: "text", type: "text" })),
      h("div", { class: "row" },
        h("div", { class: "field" }, h("label", { for: "k" }, "Results"), h("input", { id: "k", name: "k", type: "number", min: 1, max: 100, value: 10 })),
        h("div", { class: "field wide" }, h("label", { for: "where" }, "Only items with (colour=red year>=2020)"), h("input", { id: "where", name: "where", type: "text", autocomplete: "off" }))),
      h("button", { "aria-disabled": state.busy.has("search") }, state.busy.has("search") ? "Searching…" : "Search"),
      outcome(state, "search")),
    state.search.answer && section("results", "Results", results(state)),
  ];
}

/** Numbers of a vector as it was pasted. */
export function numbersOf(text) {
  const parts = text.replace(/[[\]();]/g, " ").split(/[\s,]+/).filter(Boolean);
  const values = parts.map(Number);
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  if (!parts.length) throw new Error("paste the numbers of a vector, with commas or spaces between them");
  if (wrong >= 0) throw new Error(`'${parts[wrong].slice(0, 40)}' is no number`);
  return values;
}

function dimensions(status) {
  return status.spaces.filter((one) => one.role === "queries" || one.queries)
    .map((one) => `${one.space.dim} for ${named(one.space, status.spaces)}`).join(", or ");
}

function results(state) {
  const { answer, asked, milliseconds } = state.search;
  const { status } = state;
  const hits = answer.hits[0] ?? [];
  const places = new Map(status.spaces.map((one, place) => [one.space.id, { place, name: named(one.space, status.spaces) }]));
  const answered = [...new Set(hits.map((hit) => hit.space))].map((id) => places.get(id)?.name ?? id);
  const told = hits.length
    ? `${counted(hits.length, "item")} by ${asked}, from vectors of ${answered.join(" and ")}, in ${Math.round(milliseconds)} ms.`
    : `Nothing was found by ${asked}.`;
  return [
    h("p", { role: "status" }, told),
    h("ol", { class: "results" }, hits.map((hit) => result(state, hit, answer, places.get(hit.space)))),
    answer.notes.length > 0 && h("ul", { class: "notes" }, answer.notes.map((line) => h("li", {}, line))),
  ];
}

function result(state, hit, answer, space) {
  const picture = state.pictures.get(hit.item);
  return h("li", { "data-key": hit.item },
    h("span", { class: "face" }, picture ? h("img", { src: picture, alt: "" }) : h("span", { class: "id", "aria-hidden": "true" }, hit.item)),
    h("span", { class: "item" }, hit.item),
    h("span", { class: "score" }, hit.score === null ? `${hit.raw.toFixed(4)} ${RAW[answer.score]}` : `${hit.score.toFixed(2)} ${SCALES[answer.scale]}`),
    hit.score !== null && h("span", { class: "muted" }, `${hit.raw.toFixed(4)} ${RAW[answer.score]}`),
    h("span", { class: "answered" }, space && swatch(space.place), h("span", { class: "spoken" }, "answered by "), space?.name ?? hit.space));
}
