// Calibrating: labelled vectors, from two CSV files, teach what scores of queries on vectors mean.

import { h } from "./dom.js";
import { field, form } from "./forms.js";
import { named } from "./words.js";

/** The step: done once scores of all versions that serve are on one scale; without it nothing can be backfilled. */
export function calibrating(status) {
  const [query, serving] = sides(status);
  const lacking = serving.filter((one) => !one.calibrated).map((one) => `${query} queries on ${one.name} vectors`);
  const done = !lacking.length;
  const optional = serving.length === 1;
  const why = optional
    ? "only searches with a lowest score or a highest rate of false matches need it"
    : `scores of ${lacking.join(" and of ")} cannot be compared with others yet: until they can, results carry raw scores and nothing is backfilled`;
  return { done, optional, allowed: !done, why };
}

/** The form; where all is done, folded away. */
export function calibrateControls(state, allowed, done) {
  const { status } = state;
  const [query, serving] = sides(status);
  const pairs = [...serving.filter((one) => !one.calibrated), ...serving.filter((one) => one.calibrated)];
  const file = (id, label) => field(`calibrate-${id}`, label, h("input", { id: `calibrate-${id}`, name: id, type: "file", accept: ".csv,.tsv,text/csv" }));
  const filled = form(state, "calibrate", "Calibrate",
    h("p", { class: "muted" }, "Two CSV files of vectors, with a column ", h("code", {}, "label"), " that says what shows the same thing; of items that no model was trained on. ",
      h("code", {}, "samespace vectors export FOLDER FILE.csv"), " writes them."),
    field("calibrate-pair", "Scores of", h("select", { id: "calibrate-pair", name: "pair" }, pairs.map((one) => h("option", { value: one.id }, `${query} queries on ${one.name} vectors`)))),
    file("queries", `Queries, vectors of ${query}`), file("items", "Items, vectors of the version that they search"));
  return done || serving.length === 1
    ? h("details", { "data-key": "calibrate-again" }, h("summary", {}, done ? "Calibrate again" : "Calibrate"), filled)
    : filled;
}

/** The name of the version that answers queries, and the versions whose vectors they search. */
function sides({ spaces }) {
  const query = spaces.find((one) => one.role === "queries");
  const serving = spaces.filter((one) => one === query || one.role === "serving");
  return [named(query.space, spaces), serving.map((one) => ({ id: one.space.id, name: named(one.space, spaces), calibrated: one.calibrated }))];
}

/** Labelled vectors of a CSV or TSV file as a request has them: `label`, perhaps `id`, and a column for each dimension, `v0`, `v1`, … */
export function labelled(text, name, space) {
  const [header, ...rows] = cells(text);
  const place = (...names) => header.findIndex((one) => names.includes(one.trim().toLowerCase()));
  const [id, label] = [place("id", "ids"), place("label", "labels")];
  const numbers = header.flatMap((one, at) => (/^v\d+$/.test(one.trim()) ? [at] : []));
  if (label < 0 || !numbers.length) throw new Error(`${name}: expected columns label and v0, v1, …, found ${header.slice(0, 6).join(", ").slice(0, 80)}`);
  const vectors = rows.map((row, at) => numbers.map((column) => {
    const value = row[column]?.trim() ? Number(row[column]) : NaN;
    if (!Number.isFinite(value)) throw new Error(`${name}, row ${at + 2}: '${(row[column] ?? "").slice(0, 40)}' is no number`);
    return value;
  }));
  return { space, vectors, labels: rows.map((row) => row[label]), ids: id < 0 ? undefined : rows.map((row) => row[id]) };
}

/** Rows of cells; a cell in quotes may hold separators, line ends and doubled quotes. */
function cells(text) {
  const separator = text.split("\n", 1)[0].includes("\t") ? "\t" : ",";
  const rows = [[]];
  for (const [, quoted, plain, end] of text.replace(/^\ufeff/, "").matchAll(new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\r\n]*))(${separator}|\r?\n|$)`, "g"))) {
    rows.at(-1).push(quoted?.replaceAll('""', '"') ?? plain);
    if (end !== separator) rows.push([]);
  }
  return rows.filter((row) => row.length > 1 || row[0]);
}
