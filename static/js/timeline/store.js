// What the timeline draws: the states of the last hours and the finished requests.

import { effect, signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { throttle } from "../shared/timing.js";
import { localModels } from "../models/store.js";

const WINDOW_MS = 3 * 3600 * 1000;
const REFRESH_MS = 1000;
const MAX_REQUESTS = 5000;

// --- states of the models, the bars of the timeline

/** Model id -> [{state, from, to}], oldest first; *to* is null while it lasts. */
export const stateBars = new Map();

/** Counts changes of `stateBars`, which itself is changed in place. */
export const barsVersion = signal(0);

/** Record that *model* entered *state* at *at*, Unix ms. */
function recordState(model, state, at) {
  const bars = stateBars.get(model) ?? [];
  const last = bars.at(-1);
  if (last && last.to === null) {
    if (last.state === state) return;
    last.to = Math.max(at, last.from);
  }
  bars.push({ state, from: at, to: null });
  while (bars.length && bars[0].to !== null && bars[0].to < at - WINDOW_MS) bars.shift();
  stateBars.set(model, bars);
  barsVersion.value = barsVersion.peek() + 1;
}

/** Prepend the bars from before the first recorded one, oldest first. */
function recordEarlier(model, earlier) {
  const bars = stateBars.get(model) ?? [];
  const first = bars[0]?.from ?? Infinity;
  const fitting = earlier.filter((bar) => bar.from < first).map((bar) => ({ ...bar, to: Math.min(bar.to ?? first, first) }));
  const last = fitting.at(-1);
  // The first recorded bar continues the last one from before.
  if (last && bars.length && last.state === bars[0].state && last.to >= bars[0].from) bars[0] = { ...bars[0], from: fitting.pop().from };
  stateBars.set(model, [...fitting, ...bars]);
  barsVersion.value += 1;
}

/** Record the states of the models as they change. */
export function startTimeline() {
  effect(() => {
    const at = Date.now();
    for (const { id, state } of localModels.value) recordState(id, state, at);
  });
}

/** Fetch the states from before this page was opened. */
export const refreshStates = singleFlight(async () => {
  try {
    const { states } = await getJson("/api/timeline");
    for (const [model, bars] of Object.entries(states)) recordEarlier(model, bars.map((bar) => ({ state: bar.state, from: bar.from_ms, to: bar.to_ms })));
  } catch (error) {
    console.info(`/api/timeline: ${error.message}`);
  }
});

// --- finished requests

/** Finished requests, oldest first. */
export const requests = signal([]);

let newest = 0;

/** The requests that ended since *unixMs*, the newest first, up to the number drawn. */
async function endedSince(unixMs) {
  const found = [];
  let cursor = "";
  do {
    const page = await getJson(`/api/activity?since=${unixMs}&limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    found.push(...page.records);
    cursor = page.cursor;
  } while (cursor && found.length < MAX_REQUESTS);
  return found;
}

/** Fetch the requests that ended since the last call; at most once a second. */
export const refreshRequests = throttle(REFRESH_MS, singleFlight(async () => {
  try {
    const fresh = await endedSince(newest || Date.now() - WINDOW_MS);
    if (!fresh.length) return;
    const known = new Map(requests.peek().map((each) => [each.id, each]));
    for (const record of fresh) known.set(record.id, record);
    requests.value = [...known.values()].sort((a, b) => a.id - b.id).slice(-MAX_REQUESTS);
    newest = requests.peek().reduce((latest, record) => Math.max(latest, record.ended_ms), 0);
  } catch (error) {
    console.info(`/api/activity: ${error.message}`);
  }
}));
