// The clock, and timers that rest while the tab is hidden.

import { createContext, effect, signal, untracked, useContext, useEffect, useRef } from "./html.js";

/** Whether the tab is visible. */
export const visible = signal(!document.hidden);

const UNIMPORTANT_MS = 1500;

let skewMs = 0;

/** Unix milliseconds by the clock of the server, which all records and states go by. */
export const serverNow = () => Date.now() + skewMs;

/** Set the clock by the Date header of a response to a request sent at *sentMs*.
 *
 * The response was made somewhere between the two, so that a slow one says little.
 */
export function noteServerDate(text, sentMs) {
  const date = Date.parse(text);
  const [least, most] = [date - Date.now() - UNIMPORTANT_MS, date + 1000 - sentMs + UNIMPORTANT_MS];
  const fits = (skew) => least <= skew && skew <= most;
  if (Number.isNaN(date) || fits(skewMs)) return;
  skewMs = fits(0) ? 0 : (least + most) / 2;
  now.value = serverNow();
}

/** `serverNow`, updated once a second while the tab is visible. */
export const now = signal(serverNow());

setInterval(() => {
  if (!document.hidden) now.value = serverNow();
}, 1000);
document.addEventListener("visibilitychange", () => {
  visible.value = !document.hidden;
  now.value = serverNow();
});

/** Whether the page around a component is shown, in a visible tab. */
export const PageActive = createContext(true);

/** The value of a *signal* that changes often; a component of a page that is not shown rests. */
export function useLive(signal) {
  return useContext(PageActive) ? signal.value : signal.peek();
}

/** Call *action* at once and with each change of *signal*; returns a function that stops it. */
export const onEach = (signal, action) => effect(() => {
  void signal.value;
  untracked(action);
});

/** Call *action* at once and with each change of *signal* while *active*; the component is not rendered by it. */
export function useChanges(active, signal, action) {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => (active ? onEach(signal, () => latest.current()) : undefined), [active, signal]);
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
