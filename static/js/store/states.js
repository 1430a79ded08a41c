// What state each model was in, when: the bars of the timeline.

import { signal } from "../core/html.js";

const KEPT_MS = 3 * 3600 * 1000;

/** Model id -> [{state, from, to}], oldest first; *to* is null while it lasts. */
export const stateBars = new Map();

/** Counts changes of `stateBars`, which itself is changed in place. */
export const barsVersion = signal(0);

/** Note that *model* is in *state* from *at* (Unix ms) on. */
export function recordState(model, state, at) {
  const bars = stateBars.get(model) ?? [];
  const last = bars.at(-1);
  if (last && last.to === null) {
    if (last.state === state) return;
    last.to = Math.max(at, last.from);
  }
  bars.push({ state, from: at, to: null });
  while (bars.length && bars[0].to !== null && bars[0].to < at - KEPT_MS) bars.shift();
  stateBars.set(model, bars);
  barsVersion.value += 1;
}

/** Put what was before the first bar we saw ourselves: bars with both ends, oldest first. */
export function recordEarlier(model, earlier) {
  const bars = stateBars.get(model) ?? [];
  const first = bars[0]?.from ?? Infinity;
  const fitting = earlier.filter((bar) => bar.from < first).map((bar) => ({ ...bar, to: Math.min(bar.to ?? first, first) }));
  const last = fitting.at(-1);
  // What we found on arrival is the end of what was there before.
  if (last && bars.length && last.state === bars[0].state && last.to >= bars[0].from) bars[0] = { ...bars[0], from: fitting.pop().from };
  stateBars.set(model, [...fitting, ...bars]);
  barsVersion.value += 1;
}
