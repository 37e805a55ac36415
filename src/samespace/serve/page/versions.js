// The versions of a gallery: what each serves, and the certificate of each pair.

import { h } from "./dom.js";
import { count, counted, interval, named, percent, phase, role, sentence, share, signed, size } from "./words.js";

const INDEXES = { exact: "none, every vector is looked at" };
const SCORES = { cosine: "cosine", ip: "inner product", l2: "L2 distance" };

/** The view. */
export function versions(state) {
  const { status, certificates } = state;
  return [
    h("p", { class: "lead" }, phase(status)),
    h("p", { class: "facts" }, facts(status)),
    section("serves", "What serves", bar(status), table(status)),
    section("certificates", "Certificates", pairs(status, certificates)),
  ];
}

/** A part of the page with its heading. */
export function section(id, heading, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, heading), children);
}

/** The colour class of a space, by its place among all of them. */
export const tint = (place) => `tint-${place % 5}`;

/** A bar of the shares that the spaces serve; the legend is in the table, and the name says all of it. */
export function bar(status, { label = true } = {}) {
  const parts = status.spaces.map((one, place) => ({ one, place })).filter(({ one }) => one.served > 0);
  const waiting = status.items - parts.reduce((sum, { one }) => sum + one.served, 0);
  const told = parts.map(({ one }) => `${named(one.space, status.spaces)} serves ${share(one.served / status.items)}`);
  if (waiting > 0) told.push(`${counted(waiting, "item")} wait for a vector`);
  let left = 0;
  const drawn = parts.map(({ one, place }) => {
    const width = (1000 * one.served) / status.items;
    const rect = h("rect", { x: left, y: 0, width: Math.max(width, 4), height: 24, class: tint(place) });
    left += width;
    return rect;
  });
  return [
    h("svg", { class: "shares", viewBox: "0 0 1000 24", preserveAspectRatio: "none", role: "img", "aria-label": told.join(", ") || "no items" }, drawn),
    label && h("p", { class: "legend", "aria-hidden": "true" }, parts.map(({ one, place }) =>
      h("span", {}, swatch(place), `${named(one.space, status.spaces)} ${share(one.served / status.items)}`))),
  ];
}

export const swatch = (place) =>
  h("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, h("rect", { width: 10, height: 10, rx: 2, class: tint(place) }));

function facts(status) {
  const query = status.spaces.find((one) => one.role === "queries");
  const parts = [counted(status.items, "item"), `compared by ${SCORES[query.score]}`, `${size(status.bytes)} on disk`];
  if (status.adopted) parts.push(`rows of ${status.adopted.table}`);
  return parts.join(" · ");
}

function table(status) {
  const header = ["Version", "What it does", "Serves", "Vectors", "Index", "Scores"];
  const rows = status.spaces.map((one, place) => [
    h("span", { class: "value" }, swatch(place), h("b", {}, named(one.space, status.spaces)), h("small", {}, `${one.space.id}, ${one.space.dim} dimensions`)),
    sentence(role(one.role)),
    one.role === "queries" || one.role === "serving" ? count(one.served) : "–",
    count(one.vectors),
    INDEXES[one.index] ?? (one.index === "none" ? "–" : `${count(one.indexed)} of ${count(one.vectors)} in ${one.index}`),
    one.role === "queries" || one.role === "serving" ? (one.calibrated ? "calibrated" : "not calibrated") : "–",
  ]);
  return cards("Versions, oldest first", header, rows, "versions");
}

/** A table whose rows are cards where the page is narrow. */
export function cards(caption, header, rows, kind = "") {
  return h("table", { class: `cards ${kind}`, role: "table" },
    h("caption", {}, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, header.map((name) => h("th", { scope: "col", role: "columnheader" }, name)))),
    h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, cells[0]),
      cells.slice(1).map((cell, place) => h("td", { role: "cell", "data-label": header[place + 1] }, cell))))));
}

function pairs(status, certificates) {
  const current = new Set(status.spaces.filter((one) => one.role !== "sealed").map((one) => one.space.id));
  const shown = certificates.filter((one) => current.has(one.query.id) && current.has(one.gallery.id));
  if (!shown.length) return h("p", {}, "No pair of versions is compared, so none needs a certificate.");
  return [
    h("p", {}, "Queries of one version search vectors of another by a certificate alone: a measurement on images that neither model was trained on."),
    shown.map((one) => pair(status, one)),
  ];
}

function pair(status, { query, gallery, certificate, verdict }) {
  const title = `${named(query, status.spaces)} queries on ${named(gallery, status.spaces)} vectors`;
  const key = `${query.id}-${gallery.id}`;
  if (!certificate || !verdict) {
    return h("article", { "data-key": key }, h("h3", {}, title, " ", badge("unproven", "accepted without a certificate")),
      h("p", {}, "Somebody accepted this pair; nothing shows that searches keep their quality."));
  }
  const header = ["Metric, in %", "Old", "New queries, old vectors", "All new", "Gain, in points", "Verdict"];
  const rows = Object.entries(certificate.metrics).map(([name, one]) => [
    name,
    value(percent(one.old), interval(one.intervals.old)),
    value(percent(one.cross), interval(one.intervals.cross)),
    value(percent(one.new), interval(one.intervals.new)),
    value(signed(one.absolute_gain), interval(one.difference, signed)),
    one.compatible ? badge("compatible", "compatible") : one.criterion ? badge("unproven", "not proven") : badge("fails", "fails"),
  ]);
  const fused = certificate.fusion ? ` It holds for queries fused with share ${certificate.fusion.alpha} of the new one.` : "";
  const level = Math.round(100 * (certificate.confidence ?? 0.95));
  return h("article", { "data-key": key },
    h("h3", {}, title, " ", badge(verdict.compatible ? "compatible" : "fails", verdict.title)),
    h("p", { class: "verdict" }, verdict.sentence + fused),
    verdict.remainder && h("p", { class: "muted" }, verdict.remainder),
    cards(`Checked on ${certificate.created.slice(0, 10)}; beneath each value its ${level} % interval`, header, rows, "numbers"));
}

const badge = (kind, text) => h("span", { class: `badge ${kind}` }, text);
const value = (text, beneath) => h("span", { class: "value" }, h("b", {}, text), beneath !== "–" && h("small", {}, beneath));
