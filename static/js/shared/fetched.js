// The answer of a request of the server, as a component sees it.

import { useEffect, useRef, useState } from "./html.js";
import { getJson } from "./api.js";

const AGAIN_MS = 1500;

/** Fetch *path* while *active*, at once when it changes and soon after *tick* does; null before the first answer.
 *
 * A failure is an Error in place of the answer.
 */
export function useFetched(active, path, tick) {
  const [answer, setAnswer] = useState({ path: "", body: null });
  const asked = useRef("");
  useEffect(() => {
    if (!active) return undefined;
    const read = () => {
      asked.current = path;
      getJson(path).catch((error) => error).then((body) => asked.current === path && setAnswer({ path, body }));
    };
    const timer = setTimeout(read, asked.current === path ? AGAIN_MS : 0);
    return () => clearTimeout(timer);
  }, [active, path, tick]);
  return answer.path === path ? answer.body : null;
}
