// The quality curve: expected by the certificate's check set, and measured by the canaries of the gallery.

import { h } from "./dom.js";
import { cards } from "./versions.js";
import { percent, share } from "./words.js";

const AREA = { left: 40, right: 14, top: 26, bottom: 46 };
const NARROW = matchMedia("(max-width: 500px)");

/** A figure of both curves, or why there is none. */
export function qualityCurve(status, curve) {
  if (!status.upgrade) return h("p", {}, "There is a curve once an upgrade is planned.");
  const { plan } = status.upgrade;
  const expected = (plan.curve ?? []).map((point) => ({ share: point.share, value: point.value }));
  const points = curve?.points ?? [];
  const metric = points.length && !(plan.metric in points[0].values) ? "rank@1" : (plan.metric ?? "rank@1");
  const measured = points.map((point) => ({ share: point.share, value: point.values[metric] }));
  const before = curve?.before?.[metric];
  if (!expected.length && !measured.length)
    return h("p", {}, `There is no curve: the certificate has none, and ${curve?.reason || "nothing was measured"}.`);
  const told = [
    expected.length && `Expected ${plan.metric}: ${span(expected)}, on the certificate's check set.`,
    measured.length && `Measured ${metric}: ${span(measured)}, by ${curve.queries} canaries among ${curve.items} items.`,
    !measured.length && curve?.reason && `Not measured: ${curve.reason}.`,
  ].filter(Boolean).join(" ");
  return [
    h("p", {}, "How often searches find the right items, at each share of the items that have a vector of the new version."),
    h("figure", {},
      drawn({ expected, measured, before, done: status.backfilled, told }),
      h("p", { class: "legend", "aria-hidden": "true" },
        expected.length > 0 && h("span", {}, key("expected"), `expected ${plan.metric}, check set`),
        measured.length > 0 && h("span", {}, key("measured"), `measured ${metric}, ${curve.queries} canaries`),
        before !== undefined && h("span", {}, key("before"), "the old version alone"),
      ),
      h("figcaption", {}, `${told} Few canaries measure roughly: watch where the curve turns, not its height.`)),
    h("details", {}, h("summary", {}, "The numbers"), numbers(expected, measured, plan.metric, metric)),
  ];
}

const span = (points) => `${percent(points[0].value)} % at ${share(points[0].share)} of the items, ${percent(points.at(-1).value)} % at ${share(points.at(-1).share)}`;
const key = (kind) => h("svg", { class: "key", viewBox: "0 0 26 10" }, h("line", { class: kind, x1: 1, x2: 25, y1: 5, y2: 5 }));

function drawn({ expected, measured, before, done, told }) {
  const [WIDTH, HEIGHT] = NARROW.matches ? [330, 240] : [640, 320];
  const values = [...expected, ...measured].map((point) => point.value);
  if (before !== undefined) values.push(before);
  const step = Math.max(...values) - Math.min(...values) > 0.2 ? 0.1 : 0.05;
  const low = Math.max(0, Math.floor(Math.min(...values) / step) * step - step / 2);
  const high = Math.min(1, Math.ceil(Math.max(...values) / step) * step + step / 2);
  const x = (value) => AREA.left + value * (WIDTH - AREA.left - AREA.right);
  const y = (value) => HEIGHT - AREA.bottom - ((value - low) / (high - low)) * (HEIGHT - AREA.top - AREA.bottom);
  const rules = [];
  for (let tick = Math.ceil(low / step); tick * step <= high + 1e-9; tick += 1) rules.push(tick * step);
  const line = (points, kind) =>
    points.length > 0 && h("path", { class: kind, d: points.map((point, at) => `${at ? "L" : "M"}${x(point.share).toFixed(1)} ${y(point.value).toFixed(1)}`).join("") });
  return h("svg", { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Quality over the share of items with a new vector. ${told}` },
    rules.map((rule) => [
      h("line", { class: "rule", x1: x(0), x2: x(1), y1: y(rule), y2: y(rule) }),
      h("text", { x: AREA.left - 8, y: y(rule) + 4, "text-anchor": "end" }, Math.round(100 * rule)),
    ]),
    [0, 0.25, 0.5, 0.75, 1].map((at) => h("text", { x: x(at), y: HEIGHT - AREA.bottom + 18, "text-anchor": at === 1 ? "end" : "middle" }, `${100 * at} %`)),
    h("text", { x: x(0.5), y: HEIGHT - 4, "text-anchor": "middle" }, "items with a new vector"),
    h("text", { x: AREA.left - 8, y: AREA.top - 8, "text-anchor": "end" }, "%"),
    h("text", { x: x(done), y: AREA.top - 8, "text-anchor": done > 0.5 ? "end" : "start" }, "now"),
    h("line", { class: "now", x1: x(done), x2: x(done), y1: AREA.top, y2: HEIGHT - AREA.bottom }),
    before !== undefined && h("line", { class: "before", x1: x(0), x2: x(1), y1: y(before), y2: y(before) }),
    line(expected, "expected"),
    line(measured, "measured"),
    measured.map((point) => h("circle", { class: "measured", cx: x(point.share), cy: y(point.value), r: 3 })));
}

function numbers(expected, measured, expectedMetric, measuredMetric) {
  const rows = [
    ...expected.map((point) => [share(point.share), `expected ${expectedMetric}`, percent(point.value)]),
    ...measured.map((point) => [share(point.share), `measured ${measuredMetric}`, percent(point.value)]),
  ];
  return cards("Quality in %, by the share of items with a new vector", ["Share", "What", "Value"], rows);
}
