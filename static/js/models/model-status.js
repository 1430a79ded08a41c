// What a model is doing, from the last overview and the seconds since.

import { useComputed, useContext } from "../shared/html.js";
import { now, PageActive } from "../shared/timing.js";
import { details, isLoading, loads, since } from "./store.js";

const LOADED = new Set(["starting", "ready", "waking", "sleepPending", "asleep", "stopping"]);

/** Return state age, requests, countdowns and measured durations; null where unknown. */
export function modelStatus(model, nowMs, entry = details.value.get(model.id)) {
  const passed = entry ? Math.max(0, (nowMs - entry.seenMs) / 1000) : 0;
  const fresh = entry && entry.state === model.state;
  return {
    stateForS: stateFor(model, entry, fresh, passed, nowMs),
    inFlight: entry?.in_flight ?? 0,
    waiting: entry?.waiting ?? 0,
    etaS: entry?.eta_s == null ? null : Math.max(0, entry.eta_s - passed),
    why: entry?.why ?? "",
    idleLeftS: fresh && entry.rest_in_s != null && !entry.in_flight ? Math.max(0, entry.rest_in_s - passed) : null,
    idleState: entry?.rest ?? "stopped",
    memoryBytes: entry?.memory_bytes ?? null,
    failures: entry?.failures ?? 0,
    backoffS: entry?.backoff_s ? Math.max(0, entry.backoff_s - passed) : 0,
    durations: entry?.durations ?? {},
    load: isLoading(model) ? loads.value.get(model.id) ?? null : null,
    aliases: entry?.aliases ?? [],
    cmd: entry?.cmd ?? "",
    proxy: entry?.proxy ?? "",
    place: entry?.place ?? null,
  };
}

/** The status for a component, which rests while nothing of it changes with time. */
export function useStatus(model) {
  const entry = useComputed(() => details.value.get(model.id)).value;
  const moves = useContext(PageActive) && (LOADED.has(model.state) || entry?.waiting || entry?.backoff_s);
  return modelStatus(model, moves ? now.value : now.peek(), entry);
}

function stateFor(model, entry, fresh, passed, nowMs) {
  if (!LOADED.has(model.state)) return null;
  if (fresh && entry.state_for_s != null) return entry.state_for_s + passed;
  const began = since.value.get(model.id);
  return began ? Math.max(0, (nowMs - began) / 1000) : null;
}
