// Elements from functions of the state, and the least change that brings the page to them.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = new Set(["svg", "g", "rect", "line", "path", "circle", "text", "title"]);
// what people change by hand, which no new state takes away from them
const THEIRS = { DETAILS: ["open"], INPUT: ["value", "checked"], OPTION: ["selected"], DIALOG: ["open"] };

/** An element with attributes and children; false, null and undefined leave out, true is an empty attribute. */
export function h(name, attributes = {}, ...children) {
  const element = SHAPES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(element, child);
    else if (child !== null && child !== undefined && child !== false && child !== "")
      element.append(child instanceof Node ? child : String(child));
  }
}

/** Bring what is inside `place` to `children` without touching what is the same, so that nothing flickers or loses focus. */
export function show(place, ...children) {
  const wanted = document.createElement("div");
  add(wanted, children);
  morphChildren(place, wanted);
}

function morphChildren(now, wanted) {
  const keyed = new Map();
  for (const child of now.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  let place = now.firstChild;
  for (const next of [...wanted.childNodes]) {
    const key = keyOf(next);
    let same = key ? keyed.get(key) : place;
    if (same && !key && keyOf(same)) same = null;
    if (same && same.nodeName === next.nodeName && same.nodeType === next.nodeType) {
      if (same === place) place = place.nextSibling;
      else now.insertBefore(same, place);
      morph(same, next);
    } else {
      now.insertBefore(next, place);
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

function morph(now, wanted) {
  if (now.nodeType === Node.TEXT_NODE) {
    if (now.data !== wanted.data) now.data = wanted.data;
    return;
  }
  const theirs = THEIRS[now.nodeName] ?? [];
  for (const { name } of [...now.attributes]) if (!wanted.hasAttribute(name) && !theirs.includes(name)) now.removeAttribute(name);
  for (const { name, value } of wanted.attributes)
    if (!theirs.includes(name) && now.getAttribute(name) !== value) now.setAttribute(name, value);
  if (now.nodeName !== "TEXTAREA") morphChildren(now, wanted);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id || node.getAttribute("data-key") : null;
}
