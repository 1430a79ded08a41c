// The span of time the timeline shows, kept in the address: #/timeline?span=60&end=1769990000000.

import { useEffect, useState } from "../shared/html.js";
import { parametersOf, setParameters } from "../shared/router.js";
import { now } from "../shared/timing.js";

const MIN_MS = 20000;
const MAX_MS = 7 * 24 * 3600 * 1000;
const DEFAULT_MIN = 15;
const MARGIN = 0.02;
const QUIET_MS = 300;

const clamp = (value) => Math.min(MAX_MS, Math.max(MIN_MS, value));

/** {from, to, spanMs, paused} and what moves it. It follows the present unless it is paused. */
export function useSpan(nowMs) {
  const { span, end: endText } = parametersOf("timeline");
  const [draft, setDraft] = useState(null); // until it stands in the address
  useEffect(() => {
    if (!draft) return undefined;
    const timer = setTimeout(() => {
      setParameters("timeline", { span: String(Math.round((draft.spanMs / 60000) * 1000) / 1000), end: draft.end === null ? "" : String(Math.round(draft.end)) });
      setDraft(null);
    }, QUIET_MS);
    return () => clearTimeout(timer);
  }, [draft]);
  const spanMs = draft?.spanMs ?? clamp((Number(span) || DEFAULT_MIN) * 60000);
  const end = draft ? draft.end : Number(endText) || null;
  const to = end ?? nowMs + spanMs * MARGIN;
  const change = (next) => setDraft({ spanMs, end, ...next });
  return {
    from: to - spanMs,
    to,
    spanMs,
    paused: end !== null,
    setSpan: (next) => change({ spanMs: clamp(next) }),
    pause: () => change({ end: to }),
    follow: () => change({ end: null }),
    pan: (byMs) => change({ end: Math.min(to + byMs, now.peek() + spanMs * MARGIN) }),
    zoom: (factor, around = to) => {
      const next = clamp(spanMs * factor);
      change({ spanMs: next, end: end === null ? null : around + (to - around) * (next / spanMs) });
    },
  };
}
