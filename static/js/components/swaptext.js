// A swap in words.

import { ms } from "../core/format.js";

/** Why a model came or went, in a sentence. */
export function swapSentence(swap) {
  const wait = swap.longest_wait_ms > 50 ? `, longest wait ${ms(swap.longest_wait_ms)}` : "";
  const gone = swap.evicted.length ? `; ${swap.evicted.join(", ")} left for it` : "";
  const outcome = { failed: " failed", aborted: " was given up" }[swap.outcome] ?? " was loaded";
  const why = { request: "for a request", load: "by hand", preload: "as a preload" }[swap.reason] ?? "";
  return `${swap.target}${outcome} ${why}${gone}${wait}${swap.error ? `: ${swap.error}` : ""}`;
}

/** Its phases in order: "waited 1.2 s, drained 3.1 s, loaded 8.2 s". */
export function phaseSentence(swap) {
  const words = { wait: "waited", drain: "drained", evict: "evicted", load: "loaded" };
  return (swap.phases ?? []).map(({ name, ms: took }) => `${words[name] ?? name} ${ms(took)}`).join(", ");
}
