// What the timeline draws: states of the last hours, finished requests, swaps.

import { signal } from "../core/html.js";
import { getJson, single } from "../core/api.js";
import { paced } from "../core/keys.js";
import { recordEarlier } from "./states.js";

const WINDOW_MS = 3 * 3600 * 1000;
const ASK_EVERY_MS = 1000;
const MAX_REQUESTS = 5000;

/** Finished requests, oldest first. */
export const requests = signal([]);

let newest = 0;

/** All that ended since, the newest first, as far as it is drawn. */
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

/** Fetch what ended since the last time; not more often than once a second. */
export const refreshRequests = paced(ASK_EVERY_MS, single(async () => {
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

/** Fetch the states from before this page was opened. */
export const refreshStates = single(async () => {
  try {
    const { states } = await getJson("/api/timeline");
    for (const [model, bars] of Object.entries(states)) recordEarlier(model, bars.map((bar) => ({ state: bar.state, from: bar.from_ms, to: bar.to_ms })));
  } catch (error) {
    console.info(`/api/timeline: ${error.message}`);
  }
});
