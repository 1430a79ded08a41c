// Swaps, as they begin and end.

import { signal } from "../core/html.js";
import { getJson, single } from "../core/api.js";
import { subscribe } from "../core/events.js";

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
