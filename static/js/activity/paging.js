// Paging of the request list. The first page follows new requests unless it is held; older pages do not change.

import { useEffect, useMemo, useRef, useState } from "../shared/html.js";
import { getJson } from "../shared/api.js";
import { useChanges } from "../shared/timing.js";
import { activityTick, endedCount } from "./store.js";

const PAGE = 50;
const FOLLOW_EVERY_MS = 2000;
const COUNT_EVERY_MS = 10000;

/** The page of *query* sorted by *sort*; it follows the requests that finish unless it is *held*. */
export function usePaging(query, sort, active, held) {
  const [trail, setTrail] = useState([""]); // cursors of the pages up to this one
  const [page, setPage] = useState({ records: [], cursor: null, total: null, loaded: false, error: "" });
  const [fresh, setFresh] = useState(0);
  const reads = useRef({ begun: 0, shown: 0, span: 0 }); // *span* grows when another page is wanted
  const last = useRef({ read: 0, counted: 0, key: "" });
  const seen = useRef({ ticks: 0, ended: 0 }); // when the page was read
  const timer = useRef(0);
  const key = `${query} ${sort}`;
  const cursor = trail.at(-1);
  const following = trail.length === 1 && sort === "-id" && !held;

  const stopTimer = () => {
    clearTimeout(timer.current);
    timer.current = 0;
  };
  const read = async () => {
    stopTimer();
    const { span } = reads.current;
    const mine = ++reads.current.begun;
    const show = (change) => {
      if (span !== reads.current.span || mine < reads.current.shown) return;
      reads.current.shown = mine;
      setPage((before) => ({ ...before, loaded: true, ...change(before) }));
    };
    const at = performance.now();
    const counting = last.current.key !== key || at - last.current.counted > COUNT_EVERY_MS;
    last.current = { read: at, counted: counting ? at : last.current.counted, key };
    seen.current = { ticks: activityTick.peek(), ended: endedCount.peek() };
    setFresh(0);
    const wanted = Object.entries({ limit: String(PAGE), sort, cursor, count: counting ? "1" : "" }).filter(([, value]) => value);
    try {
      const body = await getJson(`/api/activity?${query}&${new URLSearchParams(wanted)}`);
      show((before) => ({ records: body.records, cursor: body.cursor, total: body.total ?? before.total, error: "" }));
    } catch (error) {
      show(() => ({ error: error.message }));
    }
  };
  useEffect(() => setTrail([""]), [key]);
  useEffect(() => {
    if (!active) return undefined;
    read();
    return () => { reads.current.span += 1; }; // a page that was left does not change
  }, [key, cursor, active]);
  const readSoon = () => {
    timer.current ||= setTimeout(read, Math.max(60, FOLLOW_EVERY_MS - (performance.now() - last.current.read)));
  };
  const follow = () => {
    if (activityTick.peek() === seen.current.ticks) return;
    if (following) readSoon();
    else setFresh(endedCount.peek() - seen.current.ended);
  };
  useChanges(active && page.loaded, activityTick, follow);
  useEffect(() => {
    if (active && page.loaded) follow();
    return stopTimer;
  }, [following, active]);

  return useMemo(() => ({
    ...page,
    fresh: following ? 0 : fresh,
    number: trail.length,
    hasOlder: Boolean(page.cursor),
    hasNewer: trail.length > 1,
    older: () => setTrail([...trail, page.cursor]),
    newer: () => setTrail(trail.slice(0, -1)),
    first: () => { if (trail.length > 1) setTrail([""]); else read(); },
  }), [page, key, trail, fresh, following]);
}
