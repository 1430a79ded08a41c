// Signals that outlive the page, kept as JSON in local storage.

import { effect, signal } from "./html.js";

/** Return what is kept under *key*, or *fallback* when it is missing, unreadable or of another type. */
export function recall(key, fallback) {
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

/** Keep *value*; a full or forbidden storage costs only the memory of it. */
export function remember(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch (error) {
    console.info(`not remembered: ${key} (${error.name})`);
  }
}

/** Return a signal that starts with what was kept and keeps what it becomes. */
export function stored(key, fallback) {
  const state = signal(recall(key, fallback));
  let first = true;
  effect(() => {
    const value = state.value;
    if (!first) remember(key, value);
    first = false;
  });
  return state;
}

/** Like `stored`, for values that change with every token: written once they are quiet. */
export function storedLater(key, fallback, quietMs = 800) {
  const state = signal(recall(key, fallback));
  let timer = 0;
  let first = true;
  const write = () => {
    timer = 0;
    remember(key, state.peek());
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
