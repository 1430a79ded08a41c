// What the timeline draws: states of the last hours, finished requests, swaps.

import { signal } from "../core/html.js";
import { getJson, single } from "../core/api.js";
import { recordEarlier } from "./states.js";

const WINDOW_MS = 3600 * 1000;
const MAX_REQUESTS = 5000;

/** Finished requests, oldest first. */
export const requests = signal([]);

let newest = 0;

/** Fetch what ended since the last time. */
export const refreshRequests = single(async () => {
  try {
    const since = newest || Date.now() - WINDOW_MS;
    const body = await getJson(`/api/activity?since=${since}&limit=1000`);
    if (!body.records.length) return;
    const known = new Map(requests.peek().map((each) => [each.id, each]));
    for (const record of body.records) known.set(record.id, record);
    requests.value = [...known.values()].sort((a, b) => a.id - b.id).slice(-MAX_REQUESTS);
    newest = Math.max(...body.records.map((record) => record.ended_ms));
  } catch (error) {
    console.info(`/api/activity: ${error.message}`);
  }
});

/** Fetch the states from before this page was opened. */
export const refreshStates = single(async () => {
  try {
    const { states } = await getJson("/api/timeline");
    for (const [model, bars] of Object.entries(states)) recordEarlier(model, bars.map((bar) => ({ state: bar.state, from: bar.from_ms, to: bar.to_ms })));
  } catch (error) {
    console.info(`/api/timeline: ${error.message}`);
  }
});
