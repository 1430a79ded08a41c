// The requests in flight, and a tick for those that finished.

import { batch, signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { perFrame } from "../shared/timing.js";

/** Grows when requests have finished, at most once a frame; open pages fetch by it. */
export const activityTick = signal(0);

/** Requests in flight, oldest first, with *seenMs*; events list fifty, `refreshInflight` lists all. */
export const inflight = signal([]);

/** How many requests are in flight. */
export const inflightTotal = signal(0);

const tick = perFrame(() => { activityTick.value += 1; });

function showInflight({ requests, total }) {
  const seenMs = Date.now();
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

export function startActivity() {
  // A new connection begins with the requests in flight, if there are any.
  subscribe("open", () => {
    showInflight({ requests: [], total: 0 });
    tick();
  });
  subscribe("activity", tick);
  subscribe("inFlight", showInflight);
}
