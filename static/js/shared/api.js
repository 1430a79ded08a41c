// Requests to the server, and its refusals as sentences.
//
// No key is kept here: where keys are asked for, the browser asks the person and sends them itself.

import { signal } from "./html.js";

/** A request that failed. *status* is 0 when the server could not be reached. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

// The page is at <prefix>/ui/, where a reverse proxy may have put us below a prefix of its own.
const ROOT = new URL("../", document.baseURI);

/** Return the address of a *path* of the server, which begins with a slash. */
export const address = (path) => new URL(path.slice(1), ROOT).href;

/** Escape each segment of a model id, keeping its slashes. */
export const modelPath = (id) => id.split("/").map(encodeURIComponent).join("/");

/** Find the sentence in the error body of any of the APIs. */
export function errorText(status, text) {
  try {
    const body = JSON.parse(text);
    const said = body?.error?.message ?? body?.error ?? body?.message ?? body?.detail;
    if (typeof said === "string" && said) return said;
  } catch {
    // Not JSON: the text itself is the sentence.
  }
  return text.trim().slice(0, 500) || `the server answered ${status}`;
}

// A page kept for "back" would keep its connections, too: six of them, and the next page gets none.
// So whatever can be stopped is stopped when the page is left.
let leaving = new AbortController();
addEventListener("pagehide", () => {
  leaving.abort();
  leaving = new AbortController();
});

// The server tells by the referrer that a request is ours where the browser says nothing else of it:
// on plain HTTP, unless that goes to this machine.
const OURS = { credentials: "same-origin", referrerPolicy: "same-origin" };

/** Like fetch, but every failure is an ApiError. Aborting still raises AbortError. */
export async function request(path, options = {}) {
  const signal = options.signal && AbortSignal.any([options.signal, leaving.signal]);
  let response;
  try {
    response = await fetch(address(path), { ...OURS, ...options, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server cannot be reached");
  }
  if (!response.ok) throw new ApiError(response.status, errorText(response.status, await response.text()));
  return response;
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const getText = async (path, options) => (await request(path, options)).text();

export function postJson(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  return request(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

/** Return a function that does *action* unless it is running, for things polled or clicked fast. */
export function single(action) {
  let running = null;
  return (...args) => {
    running ??= action(...args).finally(() => { running = null; });
    return running;
  };
}

export const loadModel = (id) => request(`/api/models/load/${modelPath(id)}?wait=0`, { method: "POST" });
export const unloadModel = (id) => request(`/api/models/unload/${modelPath(id)}`, { method: "POST" });
export const unloadAll = () => request("/api/models/unload", { method: "POST" });
export const sleepModel = (id) => request(`/api/models/sleep/${modelPath(id)}`, { method: "POST" });

// --- one cancellable request of a form

export class Work {
  #control = null;

  constructor() {
    this.busy = signal(false);
    this.error = signal("");
  }

  /** Do *action*, which gets an AbortSignal, unless one is running. */
  async run(action) {
    if (this.busy.peek()) return;
    const control = new AbortController();
    this.#control = control;
    this.busy.value = true;
    this.error.value = "";
    try {
      await action(control.signal);
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
  }
}
