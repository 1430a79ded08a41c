// Swaps, as they begin and end.

import { signal } from "../shared/html.js";
import { getJson, single } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { ms } from "../shared/format.js";

const KEPT = 500;

/** Swaps, oldest first; one under way has no *outcome* yet. */
export const swaps = signal([]);

/** Put each of *list* in place of what was known under its id. */
function addSwaps(list) {
  const known = new Map(swaps.peek().map((each) => [each.id, each]));
  for (const swap of list) known.set(swap.id, { ...known.get(swap.id), ...swap });
  swaps.value = [...known.values()].sort((a, b) => a.id - b.id).slice(-KEPT);
}

/** The last finished swap that concerned a model, as target or as evicted. */
export const lastSwapOf = (id) => swaps.value.findLast((swap) => swap.outcome && (swap.target === id || swap.evicted.includes(id)));

const refreshSwaps = single(async () => {
  try {
    const body = await getJson("/api/swaps");
    swaps.value = [];
    addSwaps(body.swaps);
  } catch (error) {
    console.info(`/api/swaps: ${error.message}`);
  }
});

export function startSwaps() {
  subscribe("open", refreshSwaps);
  subscribe("named:swapStarted", (swap) => addSwaps([{ ...swap, started_ms: Date.now() }]));
  subscribe("named:swap", (swap) => addSwaps([swap]));
}

// --- a swap in words

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
