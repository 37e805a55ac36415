// Numbers, times and spaces in words.

const LOCALE = "en";

export const count = (value) => value.toLocaleString(LOCALE);
/** "1 item", "2 items". */
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
/** A share as percent; only what is complete is 100, and only nothing is 0. */
export const share = (value) => `${value > 0 && value < 1 ? Math.min(99.9, Math.max(0.1, Math.round(1000 * value) / 10)) : 100 * value} %`;
/** A metric in percent. */
export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : (100 * value).toFixed(digits).replace("-", "−"));
/** A difference in percentage points, with its sign. */
export const signed = (value, digits = 1) => `${value > 0 ? "+" : ""}${percent(value, digits)}`;
export const interval = (bounds, shown = percent) => (bounds ? `${shown(bounds[0])} … ${shown(bounds[1])}` : "–");
export const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}` : "");

/** Bytes in the unit that suits them. */
export function size(bytes) {
  const power = Math.max(1, Math.min(4, Math.floor(Math.log2(Math.max(bytes, 1)) / 10)));
  return `${(bytes / 2 ** (10 * power)).toLocaleString(LOCALE, { maximumFractionDigits: 1 })} ${["KiB", "MiB", "GiB", "TiB"][power - 1]}`;
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds < 1) return "less than 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86_400).toFixed(1)} days`;
}

/** A time of day, with its date where it was not today; `at` in seconds since 1970. */
export function moment(at) {
  const date = new Date(1000 * at);
  const today = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return today ? time : `${date.toLocaleDateString("sv")} ${time}`;
}

/** A space by its name where that is its own, else by name and id. */
export function named(space, spaces) {
  const alone = spaces.filter((one) => one.space.name === space.name).length <= 1;
  return space.name && alone ? space.name : `${space.name} ${space.id}`.trim();
}

const ROLES = {
  queries: "answers queries",
  serving: "serves items without a newer vector",
  filling: "being filled, serves nothing yet",
  kept: "kept for a rollback",
  planned: "planned",
  "rolled back": "rolled back, serves nothing",
  sealed: "sealed, its vectors are deleted",
};
export const role = (text) => ROLES[text] ?? text;

/** Where the upgrade stands, in a sentence. */
export function phase(status) {
  const upgrade = status.upgrade;
  if (!upgrade) return "No upgrade is under way.";
  const [old, fresh] = [upgrade.old, upgrade.new].map((generation) => spaceOf(status, generation));
  const done = share(status.backfilled);
  switch (status.phase) {
    case "planned":
      return `An upgrade from ${old} to ${fresh} is planned. Searches go on as before.`;
    case "filling":
      return `${fresh} is being filled behind ${old}: ${done} of the items have its vector. Searches use ${old}.`;
    case "filled":
      return `${fresh} is filled behind ${old}. Searches use ${old} until the switch.`;
    case "upgraded":
      return `Queries use ${fresh} and find all items by their vectors of ${old}. No item has a vector of ${fresh} yet.`;
    case "backfilling":
      return `Queries use ${fresh}. ${done} of the items have its vector, ${old} serves the others.`;
    case "paused":
      return `The backfill is paused at ${done}. ${upgrade.state === "filling" ? `Searches use ${old}.` : `Queries use ${fresh}.`}`;
    case "complete":
      return `Every item has a vector of ${fresh}. Until the seal, a rollback brings ${old} back.`;
    case "sealing":
      return `The seal is under way: vectors of ${old} are being deleted.`;
    case "sealed":
      return `The upgrade to ${fresh} is sealed. There is one version again.`;
    case "rolled-back":
      return `The upgrade to ${fresh} was rolled back. Queries use ${old}; the vectors of ${fresh} are still there.`;
    default:
      return sentence(status.phase);
  }
}

/** The name of a space by its generation. */
export function spaceOf(status, generation) {
  const found = status.spaces.find((one) => one.generation === generation);
  return found ? named(found.space, status.spaces) : `space ${generation}`;
}
