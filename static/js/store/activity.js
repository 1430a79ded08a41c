// Finished requests of this session's view, and those in flight.

import { signal } from "../core/html.js";
import { getJson, single } from "../core/api.js";
import { subscribe } from "../core/events.js";

const MAX_METRICS = 5000;

/** Token metrics, oldest first, bounded; the statistics of the Models page. */
export const metrics = signal([]);

/** Ticks with each finished request, so that open pages fetch what they show. */
export const activityTick = signal(0);

/** Requests in flight, oldest first, with *seenMs*. */
export const inflight = signal([]);

function onMetrics(list) {
  const fresh = new Map(metrics.peek().map((metric) => [metric.id, metric]));
  for (const metric of list) fresh.set(metric.id, metric);
  metrics.value = [...fresh.values()].sort((a, b) => a.id - b.id).slice(-MAX_METRICS);
  activityTick.value += 1;
}

export const refreshInflight = single(async () => {
  try {
    const body = await getJson("/api/inflight");
    const seenMs = Date.now();
    inflight.value = body.requests.map((each) => ({ ...each, seenMs })).sort((a, b) => a.started_ms - b.started_ms);
  } catch (error) {
    console.info(`/api/inflight: ${error.message}`);
  }
});

let soon = 0;
function askSoon() {
  soon ||= setTimeout(() => {
    soon = 0;
    refreshInflight();
  }, 150);
}

export function startActivity() {
  subscribe("open", () => {
    metrics.value = [];
    askSoon();
  });
  subscribe("metrics", onMetrics);
  subscribe("named:metrics", () => {
    activityTick.value += 1;
    askSoon();
  });
  subscribe("named:inFlight", askSoon);
}
