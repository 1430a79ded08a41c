// Paging of the request list. The first page follows new requests; older pages do not change.

import { useEffect, useMemo, useRef, useState } from "../shared/html.js";
import { getJson } from "../shared/api.js";

const PAGE = 50;
const FOLLOW_EVERY_MS = 2000;

const address = (filters, sort, cursor) => {
  const wanted = { ...filters, limit: String(PAGE), sort, cursor };
  return `/api/activity?${new URLSearchParams(Object.entries(wanted).filter(([, value]) => value))}`;
};

/** *tick* grows with each finished request. */
export function usePaging(filters, active, tick) {
  const [sort, chooseSort] = useState("-id");
  const [trail, setTrail] = useState([""]); // cursors of the pages up to this one
  const [page, setPage] = useState({ records: [], cursor: null, loaded: false, error: "" });
  const [fresh, setFresh] = useState(0);
  const serial = useRef(0);
  const last = useRef(0);
  const key = JSON.stringify([filters, sort]);
  const cursor = trail.at(-1);
  const following = trail.length === 1 && sort === "-id";

  const read = async () => {
    const mine = ++serial.current;
    last.current = Date.now();
    try {
      const body = await getJson(address(filters, sort, cursor));
      if (mine === serial.current) setPage({ records: body.records, cursor: body.cursor, loaded: true, error: "" });
    } catch (error) {
      if (mine === serial.current) setPage((before) => ({ ...before, loaded: true, error: error.message }));
    }
  };
  useEffect(() => setTrail([""]), [key]);
  useEffect(() => {
    if (!active) return;
    setFresh(0);
    read();
  }, [key, cursor, active]);
  useEffect(() => {
    if (!active || !page.loaded) return undefined;
    if (!following) {
      setFresh((number) => number + 1);
      return undefined;
    }
    const timer = setTimeout(read, Math.max(60, FOLLOW_EVERY_MS - (Date.now() - last.current)));
    return () => clearTimeout(timer);
  }, [tick]);

  return useMemo(() => ({
    ...page,
    sort,
    fresh: following ? 0 : fresh,
    number: trail.length,
    hasOlder: Boolean(page.cursor),
    hasNewer: trail.length > 1,
    setSort: chooseSort,
    older: () => setTrail([...trail, page.cursor]),
    newer: () => setTrail(trail.slice(0, -1)),
    first: () => { chooseSort("-id"); setTrail([""]); setFresh(0); read(); },
  }), [page, sort, trail, fresh, following]);
}
