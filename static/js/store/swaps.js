// Swaps, as they begin and end.

import { signal } from "../core/html.js";
import { subscribe } from "../core/events.js";

const KEPT = 500;

/** Finished swaps, oldest first, and those under way (without *outcome*). */
export const swaps = signal([]);

/** Put *swap* in place of what was known under its id. */
export function addSwap(swap) {
  const rest = swaps.peek().filter((each) => each.swap_id !== swap.swap_id);
  swaps.value = [...rest, swap].sort((a, b) => a.swap_id - b.swap_id).slice(-KEPT);
}

/** The last swap that concerned a model, as target or as evicted. */
export const lastSwapOf = (id) => swaps.value.findLast((swap) => swap.target === id || swap.evicted.includes(id));

export function startSwaps() {
  subscribe("named:swap", addSwap);
}
