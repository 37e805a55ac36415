// Requests to the service: the key in a header, problems as errors with the service's one line.

const KEY = "samespace-key";
const WAIT = 30_000;

/** What the service refused, or that it could not be reached (`status` 0). */
export class Problem extends Error {
  constructor(status, detail, wait = 0) {
    super(detail);
    this.status = status;
    this.wait = wait;
  }
}

// kept until the tab is closed, and never part of an address
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The answer of a request as JSON. `wait`: milliseconds until it is given up. */
export async function ask(method, path, body, wait = WAIT) {
  const answer = await send(method, path, body, wait);
  return answer.json();
}

/** The address of an item's picture within this page; null where there is none. */
export async function picture(path) {
  try {
    const answer = await send("GET", path, undefined, WAIT);
    return URL.createObjectURL(await answer.blob());
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

async function send(method, path, body, wait) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(wait),
    });
  } catch (error) {
    throw new Problem(0, error.name === "TimeoutError" ? "the service did not answer in time" : "the service does not answer");
  }
  if (answer.ok) return answer;
  let detail = `the service answered with status ${answer.status}`;
  try {
    detail = (await answer.json()).detail;
  } catch {
    // something between the page and the service answered, and not with a problem in JSON
  }
  throw new Problem(answer.status, detail, 1000 * Number(answer.headers.get("Retry-After") ?? 0));
}
