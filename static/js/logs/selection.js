// Which lines of a log are shown, and which of these are found.

import { useMemo, useRef } from "../shared/html.js";
import { stripAnsi } from "./ansi.js";
import { isOwnRequest, reaches } from "./lines.js";

/** The pattern of *text*; null if it is empty or not yet a regular expression. */
export function toPattern(text) {
  if (!text) return null;
  try {
    return new RegExp(text, "i");
  } catch {
    return null;
  }
}

/** The numbers of the lines that *accepts* takes, null without one; only new lines are tested. */
function useAccepted(buffer, accepts) {
  const memo = useRef({});
  const version = buffer.version.value;
  return useMemo(() => {
    if (!accepts) return null;
    const kept = memo.current;
    const stale = kept.buffer !== buffer || kept.accepts !== accepts || kept.generation !== buffer.generation;
    const list = stale ? [] : kept.list.filter((number) => number >= buffer.first);
    // The last line may have grown since.
    let next = stale ? buffer.first : Math.max(buffer.first, kept.next - 1);
    while (list.length && list.at(-1) >= next) list.pop();
    for (; next < buffer.first + buffer.lines.length; next += 1) {
      const index = next - buffer.first;
      if (accepts(stripAnsi(buffer.lines[index]), buffer.origins[index])) list.push(next);
    }
    memo.current = { buffer, accepts, generation: buffer.generation, list, next };
    return list;
  }, [buffer, accepts, version]);
}

/** The numbers of the lines shown, null for all: by pattern, level, model, and without our own requests. */
export function useShown(buffer, { pattern, level, model, hideOwn }) {
  const accepts = useMemo(() => {
    if (!pattern && !level && !model && !hideOwn) return null;
    return (text, { source }) => (!pattern || pattern.test(text)) && reaches(text, level) && (!model || source === model) && !(hideOwn && isOwnRequest(text));
  }, [pattern, level, model, hideOwn]);
  return useAccepted(buffer, accepts);
}

const NONE = [];

/** The places, among the lines *shown*, of those that match *find*. */
export function useFound(buffer, shown, find) {
  const accepts = useMemo(() => (find ? (text) => find.test(text) : null), [find]);
  const found = useAccepted(buffer, accepts);
  return useMemo(() => {
    if (!found) return NONE;
    if (!shown) return found.map((number) => number - buffer.first);
    const places = new Map(shown.map((number, place) => [number, place]));
    return found.map((number) => places.get(number)).filter((place) => place !== undefined);
  }, [found, shown]);
}
