// The clock, and timers that rest while the tab is hidden.

import { signal } from "./html.js";

/** Whether the tab is visible. */
export const visible = signal(!document.hidden);

/** Unix milliseconds, updated once a second while the tab is visible. */
export const now = signal(Date.now());

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => {
  visible.value = !document.hidden;
  now.value = Date.now();
});

/** Return a function that runs *action* with the next frame, once however often it is called. */
export function perFrame(action) {
  let pending = 0;
  return () => {
    pending ||= requestAnimationFrame(() => {
      pending = 0;
      action();
    });
  };
}

/** Return a function that runs *action* at once, but at most once in *everyMs*. */
export function throttle(everyMs, action) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    action();
  };
  return () => { timer ||= setTimeout(run, Math.max(0, last + everyMs - performance.now())); };
}

/** Call *action* every *everyMs* while the tab is visible; returns a function that stops it. */
export function everyWhileVisible(everyMs, action) {
  const timer = setInterval(() => document.hidden || action(), everyMs);
  return () => clearInterval(timer);
}
