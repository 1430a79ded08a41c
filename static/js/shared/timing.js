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

/** Run *action* at most once per frame, with the last arguments. */
export function perFrame(action) {
  let pending = 0;
  return () => {
    pending ||= requestAnimationFrame(() => {
      pending = 0;
      action();
    });
  };
}

/** Return a function that runs *action* at once, but not more often than every *everyMs*. */
export function paced(everyMs, action) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    action();
  };
  return () => { timer ||= setTimeout(run, Math.max(0, last + everyMs - performance.now())); };
}

/** Call *action* every *everyMs* while the tab is visible; returns how to stop. */
export function everyVisible(everyMs, action) {
  const timer = setInterval(() => document.hidden || action(), everyMs);
  return () => clearInterval(timer);
}
