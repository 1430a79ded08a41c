// Values and signals that survive a reload, as JSON in local storage.

import { effect, signal } from "./html.js";

/** Return the value stored under *key*, or *fallback* if it is missing, unreadable or of another type. */
export function readStored(key, fallback) {
  try {
    const text = localStorage.getItem(key);
    if (text === null) return fallback;
    const value = JSON.parse(text);
    const sameKind = fallback === null || fallback === undefined || typeof value === typeof fallback;
    return sameKind && value !== null ? value : fallback;
  } catch {
    return fallback;
  }
}

/** Store *value*; where storage is full or forbidden it is lost with the page. */
export function writeStored(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch (error) {
    console.info(`not stored: ${key} (${error.name})`);
  }
}

/** Remove the value stored under *key*. */
export function removeStored(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Storage is forbidden: nothing was stored.
  }
}

/** Return a signal that starts with the stored value and stores every change. */
export function stored(key, fallback) {
  const state = signal(readStored(key, fallback));
  let first = true;
  effect(() => {
    const value = state.value;
    if (!first) writeStored(key, value);
    first = false;
  });
  return state;
}

/** Like `stored`, written after *quietMs* without a change: for values that change with every key. */
export function storedDebounced(key, fallback, quietMs = 800) {
  const state = signal(readStored(key, fallback));
  let timer = 0;
  let first = true;
  const write = () => {
    timer = 0;
    writeStored(key, state.peek());
  };
  effect(() => {
    state.value;
    if (!first) {
      clearTimeout(timer);
      timer = setTimeout(write, quietMs);
    }
    first = false;
  });
  addEventListener("pagehide", () => timer && write());
  return state;
}
