// One clock for all that counts seconds. It stands while nobody looks.

import { signal } from "./html.js";

/** Whether the tab is in sight. */
export const visible = signal(!document.hidden);

/** Wall clock in Unix milliseconds, once a second. */
export const now = signal(Date.now());

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => {
  visible.value = !document.hidden;
  now.value = Date.now();
});
