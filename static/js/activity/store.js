// Token metrics of finished requests, and the requests in flight.

import { batch, signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";

const MAX_METRICS = 5000;

/** Token metrics, oldest first, bounded; the statistics of the Models page. */
export const metrics = signal([]);

/** Grows with each finished request; open pages fetch by it. */
export const activityTick = signal(0);

/** Requests in flight, oldest first, with *seenMs*; events list fifty, `refreshInflight` lists all. */
export const inflight = signal([]);

/** How many requests are in flight. */
export const inflightTotal = signal(0);

function onMetrics(list) {
  const fresh = new Map(metrics.peek().map((metric) => [metric.id, metric]));
  for (const metric of list) fresh.set(metric.id, metric);
  metrics.value = [...fresh.values()].sort((a, b) => a.id - b.id).slice(-MAX_METRICS);
  activityTick.value += 1;
}

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
  // A new connection sends the whole state.
  subscribe("open", () => {
    metrics.value = [];
    showInflight({ requests: [], total: 0 });
  });
  subscribe("metrics", onMetrics);
  subscribe("named:metrics", () => { activityTick.value += 1; });
  subscribe("named:inFlight", showInflight);
}
