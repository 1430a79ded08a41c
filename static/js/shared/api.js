// Requests to the server; failures are ApiErrors with the server's message.

import { signal } from "./html.js";
import { noteServerDate } from "./timing.js";

/** A request that failed. *status* is 0 when the server could not be reached. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** Counts the requests refused because they had no valid key. */
export const unauthorized = signal(0);

// The page is at <prefix>/ui/; a reverse proxy may serve llmsnap below a path prefix.
const ROOT = new URL("../", document.baseURI);

/** Return the address of a *path* of the server, which begins with a slash. */
export const address = (path) => new URL(path.slice(1), ROOT).href;

/** Escape each segment of a model id, keeping its slashes. */
export const modelPath = (id) => id.split("/").map(encodeURIComponent).join("/");

/** What to read about an error with this code. */
const READ = { model_does_not_fit: "see “What fits with what” in docs/what-fits.md" };

/** Return the message in the error body of any of the APIs. */
export function errorText(status, text) {
  try {
    const body = JSON.parse(text);
    const read = READ[body?.error?.code];
    const message = body?.error?.message ?? body?.error ?? body?.message ?? body?.detail;
    if (typeof message === "string" && message) return read ? `${message} (${read})` : message;
  } catch {
    // Not JSON: the text itself is the message.
  }
  return text.trim().slice(0, 500) || `the server answered ${status}`;
}

// A page in the back/forward cache would keep its connections, and a browser opens six per server.
// So requests with a signal are aborted when the page is left.
let leaving = new AbortController();
addEventListener("pagehide", () => {
  leaving.abort();
  leaving = new AbortController();
});

// On plain HTTP to another machine browsers send no Fetch Metadata; there the server recognises its
// own page by the referrer.
const OURS = { credentials: "same-origin", referrerPolicy: "same-origin" };

// POST requests carry ids that begin with this, so that the page finds its own among those in flight.
const TAB = `ui-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
let requestCount = 0;

/** Whether a request with this id was sent by this page. */
export const isOurs = (requestId) => requestId.startsWith(`${TAB}.`);

const withId = ({ method, headers }) => (method === "POST" ? { ...headers, "X-Request-Id": `${TAB}.${++requestCount}` } : headers);

/** Like fetch, but every failure is an ApiError. Aborting still raises AbortError. */
export async function request(path, options = {}) {
  const signal = options.signal && AbortSignal.any([options.signal, leaving.signal]);
  const sentMs = Date.now();
  let response;
  try {
    response = await fetch(address(path), { ...OURS, ...options, headers: withId(options), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server cannot be reached");
  }
  noteServerDate(response.headers.get("Date"), sentMs);
  if (response.ok) return response;
  if (response.status === 401) unauthorized.value += 1;
  throw new ApiError(response.status, errorText(response.status, await response.text()));
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const getText = async (path, options) => (await request(path, options)).text();

export function postJson(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return request(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

/** Return a function that runs *action*, one run at a time.
 *
 * Calls during a run share one more run after it, with the arguments of the last: what the first
 * reads may be older than what they were called for.
 */
export function singleFlight(action) {
  let running = null;
  let next = null;
  let latest = [];
  const run = () => {
    running = action(...latest).finally(() => { running = null; });
    return running;
  };
  return (...args) => {
    latest = args;
    if (!running) return run();
    next ??= running.catch(() => {}).then(() => {
      next = null;
      return running ?? run();
    });
    return next;
  };
}

export const loadModel = (id) => request(`/api/models/load/${modelPath(id)}?wait=0`, { method: "POST" });
export const unloadModel = (id) => request(`/api/models/unload/${modelPath(id)}`, { method: "POST" });
export const unloadAll = () => request("/api/models/unload", { method: "POST" });
export const sleepModel = (id) => request(`/api/models/sleep/${modelPath(id)}`, { method: "POST" });

// --- actions of a form

/** One cancellable action at a time; *busy*, *error*, and *tookMs* of the last one that succeeded are signals. */
export class AsyncTask {
  #control = null;

  constructor() {
    this.busy = signal(false);
    this.error = signal("");
    this.tookMs = signal(null);
  }

  /** Run *action* with an AbortSignal, unless one is running. */
  async run(action) {
    if (this.busy.peek()) return;
    const control = new AbortController();
    this.#control = control;
    this.busy.value = true;
    this.error.value = "";
    this.tookMs.value = null;
    const began = performance.now();
    try {
      await action(control.signal);
      this.tookMs.value = performance.now() - began;
    } catch (error) {
      if (error.name !== "AbortError") this.error.value = error.status ? `${error.status}: ${error.message}` : error.message;
    } finally {
      this.busy.value = false;
    }
  }

  stop() {
    this.#control?.abort();
  }

  reset() {
    this.stop();
    this.error.value = "";
    this.tookMs.value = null;
  }
}
