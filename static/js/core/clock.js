// One clock for all that counts seconds. It stands while nobody looks.

import { signal } from "./html.js";

/** Wall clock in Unix milliseconds, once a second. */
export const now = signal(Date.now());

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => { now.value = Date.now(); });
