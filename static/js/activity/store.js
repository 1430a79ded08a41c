// The requests in flight, and a tick for those that finished.

import { batch, signal } from "../shared/html.js";
import { getJson, request, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { serverNow, throttle } from "../shared/timing.js";

/** Grows as requests finish, at most four times a second, and with each connection; open pages fetch by it. */
export const activityTick = signal(0);

/** How many requests are known to have finished since the page was loaded. */
export const endedCount = signal(0);

/** Requests in flight, oldest first, with *seenMs*; events list fifty, `refreshInflight` lists all. */
export const inflight = signal([]);

/** How many requests are in flight. */
export const inflightTotal = signal(0);

function showInflight({ requests, total }) {
  const seenMs = serverNow();
  batch(() => {
    inflight.value = requests.map((each) => ({ ...each, seenMs })).sort((a, b) => a.started_ms - b.started_ms);
    inflightTotal.value = total;
  });
}

/** Fetch all requests in flight and the bytes each has received, which no event carries. */
export const refreshInflight = singleFlight(async () => {
  try {
    const { requests } = await getJson("/api/inflight");
    showInflight({ requests, total: requests.length });
  } catch (error) {
    console.info(`/api/inflight: ${error.message}`);
  }
});

/** End requests in flight; their clients get an error. One that has ended meanwhile is no failure. */
export async function cancelRequests(list) {
  const cancel = (each) => request(`/api/inflight/${each.id}/cancel`, { method: "POST" }).catch((error) => {
    if (error.status !== 404) throw error;
  });
  await Promise.all(list.map(cancel));
  await refreshInflight();
}

/** At most so often pages react to ended requests: each reaction renders a page. */
const TICK_EVERY_MS = 250;

let ended = 0;
let newest = null; // the number of the last record known to have ended
const tick = throttle(TICK_EVERY_MS, () => batch(() => {
  endedCount.value += ended;
  activityTick.value += 1;
  ended = 0;
}));

/** *id* is that of the newest record; several may have ended since the last event. */
function onEnd({ id }) {
  ended += newest === null ? 1 : Math.max(1, id - newest);
  newest = id;
  tick();
}

export function startActivity() {
  // A new connection begins with the requests in flight, if there are any.
  subscribe("open", () => {
    showInflight({ requests: [], total: 0 });
    tick(); // some may have ended meanwhile
  });
  subscribe("activity", onEnd);
  subscribe("inFlight", showInflight);
}
