// Swaps: the list, and each in words.

import { signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { ms } from "../shared/format.js";

const KEPT = 500;

/** Swaps, oldest first; an active one has no *outcome* yet. */
export const swaps = signal([]);

/** Add each of *list*, or update the one with its id. */
function addSwaps(list) {
  const known = new Map(swaps.peek().map((each) => [each.id, each]));
  for (const swap of list) known.set(swap.id, { ...known.get(swap.id), ...swap });
  swaps.value = [...known.values()].sort((a, b) => a.id - b.id).slice(-KEPT);
}

/** The last finished swap that loaded or evicted a model. */
export const lastSwapOf = (id) => swaps.value.findLast((swap) => swap.outcome && (swap.target === id || swap.evicted.includes(id)));

/** Swaps that events told of while the list was fetched; the list may be older than they are. */
let early = null;

function onSwap(swap) {
  early?.push(swap);
  addSwaps([swap]);
}

const refreshSwaps = singleFlight(async () => {
  early = [];
  try {
    const body = await getJson("/api/swaps");
    swaps.value = [];
    addSwaps([...body.swaps, ...early]);
  } catch (error) {
    console.info(`/api/swaps: ${error.message}`);
  }
  early = null;
});

export function startSwaps() {
  subscribe("open", refreshSwaps);
  subscribe("swapStarted", onSwap);
  subscribe("swap", onSwap);
}

/** The first line of a swap's *error*: what failed, without the output of the model's server below it. */
export const errorHeadline = (error) => error.split("\n")[0].replace(/; its last output:$/, "");

/** A swap in a sentence: "beta was loaded for a request, evicting alpha", "beta failed to load for a request: exit code 1". */
export function swapSentence(swap) {
  const wait = swap.longest_wait_ms > 50 ? `, longest wait ${ms(swap.longest_wait_ms)}` : "";
  const gone = swap.evicted.length ? `, evicting ${swap.evicted.join(", ")}` : "";
  const outcome = { failed: " failed to load", aborted: " was cancelled" }[swap.outcome] ?? " was loaded";
  const why = { request: "for a request", load: "manually", preload: "as a preload" }[swap.reason] ?? "";
  return `${swap.target}${outcome} ${why}${gone}${wait}${swap.error ? `: ${errorHeadline(swap.error).replace(`${swap.target}: `, "")}` : ""}`;
}

/** Its phases in order: "waited 1.2 s, drained 3.1 s, loaded 8.2 s". */
export function phaseSentence(swap) {
  const words = { wait: "waited", drain: "drained", save: "saved prompts", evict: "evicted", barrier: "waited for memory", failed_wake: "failed to wake", failed_check: "got wrong answers", placing: "waited for a machine", load: "loaded", restore: "restored prompts", canary: "checked answers" };
  return (swap.phases ?? []).map(({ name, ms: took }) => `${words[name] ?? name} ${ms(took)}`).join(", ");
}
