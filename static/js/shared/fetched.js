// The answer of a request of the server, as a component sees it.

import { signal, useEffect, useState } from "./html.js";
import { getJson, singleFlight } from "./api.js";
import { onEach, throttle } from "./timing.js";

const AGAIN_MS = 1500;
const NEVER = signal(0);

/** Fetch *path* while *active*, at once when it changes and soon after *changes* does; null before the first answer.
 *
 * A failure is an Error in place of the answer.
 */
export function useFetched(active, path, changes = NEVER) {
  const [answer, setAnswer] = useState({ path: "", body: null });
  useEffect(() => {
    if (!active) return undefined;
    let wanted = true;
    const read = singleFlight(async () => {
      if (!wanted) return;
      const body = await getJson(path).catch((error) => error);
      if (wanted) setAnswer({ path, body });
    });
    const stop = onEach(changes, throttle(AGAIN_MS, read));
    return () => {
      wanted = false;
      stop();
    };
  }, [active, path]);
  return answer.path === path ? answer.body : null;
}
