// Paging of the request list. The first page follows new requests unless it is held; older pages do not change.

import { useEffect, useMemo, useRef, useState } from "../shared/html.js";
import { getJson } from "../shared/api.js";
import { useChanges } from "../shared/timing.js";

const PAGE = 50;
const FOLLOW_EVERY_MS = 2000;
const COUNT_EVERY_MS = 10000;

/** The page of *query* sorted by *sort*; the signal *tick* grows with each finished request, *held* stops following. */
export function usePaging(query, sort, active, tick, held) {
  const [trail, setTrail] = useState([""]); // cursors of the pages up to this one
  const [page, setPage] = useState({ records: [], cursor: null, total: null, loaded: false, error: "" });
  const [fresh, setFresh] = useState(0);
  const serial = useRef(0);
  const last = useRef({ read: 0, counted: 0, key: "" });
  const ended = useRef({ seen: tick.peek(), since: 0 }); // requests since the page was read
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
    const mine = ++serial.current;
    const at = performance.now();
    const counting = last.current.key !== key || at - last.current.counted > COUNT_EVERY_MS;
    last.current = { read: at, counted: counting ? at : last.current.counted, key };
    ended.current = { seen: tick.peek(), since: 0 };
    setFresh(0);
    const wanted = Object.entries({ limit: String(PAGE), sort, cursor, count: counting ? "1" : "" }).filter(([, value]) => value);
    try {
      const body = await getJson(`/api/activity?${query}&${new URLSearchParams(wanted)}`);
      if (mine === serial.current) setPage((before) => ({ records: body.records, cursor: body.cursor, total: body.total ?? before.total, loaded: true, error: "" }));
    } catch (error) {
      if (mine === serial.current) setPage((before) => ({ ...before, loaded: true, error: error.message }));
    }
  };
  useEffect(() => setTrail([""]), [key]);
  useEffect(() => { if (active) read(); }, [key, cursor, active]);
  const readSoon = () => {
    timer.current ||= setTimeout(read, Math.max(60, FOLLOW_EVERY_MS - (performance.now() - last.current.read)));
  };
  const follow = () => {
    const { seen, since } = ended.current;
    ended.current = { seen: tick.peek(), since: since + tick.peek() - seen };
    if (!ended.current.since) return;
    if (following) readSoon();
    else setFresh(ended.current.since);
  };
  useChanges(active && page.loaded, tick, follow);
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
