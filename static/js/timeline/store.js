// What the timeline draws: the states of the models, the finished requests, and those in flight.

import { computed, effect, signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { serverNow, throttle } from "../shared/timing.js";
import { localModels } from "../models/store.js";

const LIVE_MS = 3 * 3600 * 1000;
const KEPT_MS = 7 * 24 * 3600 * 1000;
const REFRESH_MS = 1000;
const MAX_REQUESTS = 5000;

// --- states of the models, the bars of the timeline

/** Model id -> [{state, from, to, reason}], oldest first; *to* is null while it lasts. */
export const stateBars = new Map();

/** Counts changes of `stateBars`, which itself is changed in place. */
export const barsVersion = signal(0);

let statesSince = Infinity;

/** Record that *model* entered *state* at *at*, Unix ms. */
function recordState(model, state, at) {
  const bars = stateBars.get(model) ?? [];
  const last = bars.at(-1);
  if (last && last.to === null) {
    if (last.state === state) return;
    last.to = Math.max(at, last.from);
  }
  bars.push({ state, from: at, to: null });
  while (bars.length && bars[0].to !== null && bars[0].to < at - KEPT_MS) bars.shift();
  stateBars.set(model, bars);
  barsVersion.value = barsVersion.peek() + 1;
}

/** Note why *model* entered *state*, which may be recorded already. */
function noteReason({ processName: model, newState: state, reason }) {
  if (!reason) return;
  recordState(model, state, serverNow());
  stateBars.get(model).at(-1).reason = reason;
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
  subscribe("modelStatus", noteReason);
  effect(() => {
    const at = serverNow();
    for (const { id, state } of localModels.value) recordState(id, state, at);
  });
}

const readStates = singleFlight(async (sinceMs) => {
  try {
    const { states } = await getJson(`/api/timeline?since=${sinceMs}`);
    statesSince = sinceMs;
    for (const [model, bars] of Object.entries(states)) recordEarlier(model, bars.map((bar) => ({ state: bar.state, from: bar.from_ms, to: bar.to_ms, reason: bar.reason })));
  } catch (error) {
    console.info(`/api/timeline: ${error.message}`);
  }
});

/** Fetch the states from *sinceMs* on that this page has not seen. */
export function refreshStates(sinceMs) {
  if (sinceMs < statesSince) readStates(Math.max(0, Math.floor(sinceMs)));
}

// --- finished requests

/** Those of the last hours, and those of an earlier span that is looked at; oldest first. */
const live = signal([]);
const past = signal([]);
export const requests = computed(() => (past.value.length ? [...past.value, ...live.value] : live.value));

/** Where the drawn requests begin, Unix ms, if there are more than can be drawn; else null. */
export const cutAt = signal(null);

let newest = 0;
let liveSince = 0;
let pastSpan = "";

/** The requests that ended in a span, the newest first, up to the number drawn. */
async function endedIn(parameters) {
  const found = [];
  let cursor = "";
  do {
    const page = await getJson(`/api/activity?${new URLSearchParams({ ...parameters, limit: "1000", cursor })}`);
    found.push(...page.records);
    cursor = page.cursor;
  } while (cursor && found.length < MAX_REQUESTS);
  return { found, more: Boolean(cursor) };
}

const ascending = (list) => list.sort((a, b) => a.id - b.id);

/** Fetch the requests that ended since the last call; at most once a second. */
export const refreshRequests = throttle(REFRESH_MS, singleFlight(async () => {
  try {
    liveSince ||= Math.floor(serverNow() - LIVE_MS);
    const { found } = await endedIn({ since: newest || liveSince });
    if (!found.length) return;
    const known = new Map(live.peek().map((each) => [each.id, each]));
    for (const record of found) known.set(record.id, record);
    const list = ascending([...known.values()]);
    if (list.length > MAX_REQUESTS) liveSince = list.at(-MAX_REQUESTS).ended_ms;
    live.value = list.slice(-MAX_REQUESTS);
    newest = list.reduce((latest, record) => Math.max(latest, record.ended_ms), 0);
  } catch (error) {
    console.info(`/api/activity: ${error.message}`);
  }
}));

/** Fetch the requests of a span that begins before the last hours. */
export async function refreshPast(from, to) {
  if (!liveSince || from >= liveSince) return;
  const [since, until] = [Math.floor(from), Math.floor(Math.min(to, liveSince))];
  const span = `${since} ${until}`;
  if (span === pastSpan) return;
  pastSpan = span;
  try {
    const { found, more } = await endedIn({ since, until });
    if (span !== pastSpan) return;
    past.value = ascending(found);
    cutAt.value = more ? found.at(-1).ended_ms : null;
  } catch (error) {
    console.info(`/api/activity: ${error.message}`);
  }
}

// --- requests in flight

const stillLoading = (model, started) => {
  const bar = stateBars.get(model)?.at(-1);
  return bar?.to === null && ["starting", "waking"].includes(bar.state) ? Math.max(started, bar.from) : null;
};

/** A request in flight in the shape of a finished one that would end now. */
export function openRequest(each, nowMs) {
  const loadFrom = each.phase === "waiting" ? stillLoading(each.model_id, each.started_ms) : null;
  const queued = each.phase === "waiting" ? (loadFrom ?? nowMs) - each.started_ms : each.queue_ms;
  return { ...each, open: true, ended_ms: nowMs, duration_ms: nowMs - each.started_ms, queue_ms: queued, load_ms: loadFrom === null ? each.load_ms : nowMs - loadFrom };
}
