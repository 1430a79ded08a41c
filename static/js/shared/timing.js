// The clock, and timers that rest while the tab is hidden.

import { createContext, signal, useContext } from "./html.js";

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

/** Whether the page around a component is shown, in a visible tab. */
export const PageActive = createContext(true);

/** The value of a *signal* that changes often; a component of a page that is not shown rests. */
export function useLive(signal) {
  return useContext(PageActive) ? signal.value : signal.peek();
}

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
