// A virtualised log: thousands of lines per second, of which only the visible ones are in the document.
//
// Without wrapping every line is one row high. With wrapping the font is monospaced and lines break
// at any letter, so the rows of a line follow from its length, and nothing needs to be measured.

import { classes, html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../shared/html.js";
import { readStored, writeStored } from "../shared/storage.js";
import { download } from "../shared/dom-utils.js";
import { CopyButton, IconButton } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { ansiSpans, stripAnsi } from "./ansi.js";

const SIZES = { normal: 13, tiny: 10, small: 11, large: 15 };
const LINE_HEIGHT = 1.5;
const SPARE_ROWS = 12;

function useStored(key, fallback) {
  const [value, setValue] = useState(() => readStored(key, fallback));
  return [value, (next) => { setValue(next); writeStored(key, next); }];
}

function toPattern(text) {
  if (!text) return null;
  try {
    return new RegExp(text, "i");
  } catch {
    return null; // not a pattern yet: no filter
  }
}

/** The numbers of the lines that match, null without a pattern; only new lines are tested. */
function useMatching(buffer, pattern) {
  const memo = useRef({});
  const version = buffer.version.value;
  return useMemo(() => {
    if (!pattern) return null;
    const kept = memo.current;
    const stale = kept.buffer !== buffer || kept.pattern !== pattern || kept.generation !== buffer.generation;
    const list = stale ? [] : kept.list.filter((number) => number >= buffer.first);
    // The last line may have grown since.
    let next = stale ? buffer.first : Math.max(buffer.first, kept.next - 1);
    while (list.length && list.at(-1) >= next) list.pop();
    for (; next < buffer.first + buffer.lines.length; next += 1) {
      if (pattern.test(stripAnsi(buffer.lines[next - buffer.first]))) list.push(next);
    }
    memo.current = { buffer, pattern, generation: buffer.generation, list, next };
    return list;
  }, [buffer, pattern, version]);
}

/** Rows above each line when lines wrap; the last entry is the sum. */
function rowsAbove(buffer, matching, columns) {
  const total = matching ? matching.length : buffer.lines.length;
  const above = new Float64Array(total + 1);
  for (let index = 0; index < total; index += 1) {
    const line = buffer.lines[matching ? matching[index] - buffer.first : index];
    above[index + 1] = above[index] + Math.max(1, Math.ceil((line.length || 1) / columns));
  }
  return above;
}

function firstAt(above, row) {
  let low = 0;
  let high = above.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (above[middle + 1] > row) high = middle;
    else low = middle + 1;
  }
  return low;
}

const NEAR_END_PX = 8;

/** The scroll position, and whether the view follows the end: until the user scrolls up. */
function useScroll(view) {
  const [place, setPlace] = useState({ top: 0, height: 400, width: 800 });
  const [following, setFollowing] = useState(true);
  const kept = useRef({ following: true, top: 0 });
  const follow = (on) => {
    kept.current.following = on;
    setFollowing(on);
  };
  const measure = () => {
    const { scrollTop: top, clientHeight, clientWidth: width } = view.current;
    kept.current.top = top;
    if (clientHeight) setPlace((before) => (before.top === top && before.height === clientHeight && before.width === width ? before : { top, height: clientHeight, width }));
  };
  const onScroll = () => {
    if (!view.current) return; // removed before the event arrived
    const { scrollTop, scrollHeight, clientHeight } = view.current;
    // Only the user scrolls up: new lines move the end further down.
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) follow(true);
    else if (scrollTop < kept.current.top) follow(false);
    measure();
  };
  const toEnd = () => {
    view.current.scrollTop = view.current.scrollHeight;
    follow(true);
    measure();
  };
  useEffect(() => {
    const observer = new ResizeObserver(() => view.current && measure());
    observer.observe(view.current);
    return () => observer.disconnect();
  }, []);
  const keepToEnd = () => {
    if (!kept.current.following) return;
    view.current.scrollTop = view.current.scrollHeight;
    measure();
  };
  return { place, onScroll, following, toEnd, keepToEnd };
}

function useColumns(size, width) {
  return useMemo(() => {
    const context = document.createElement("canvas").getContext("2d");
    context.font = `${size}px ${getComputedStyle(document.documentElement).getPropertyValue("--mono")}`;
    return Math.max(8, Math.floor((width - 24) / context.measureText("0").width));
  }, [size, width]);
}

function Lines({ buffer, pattern, wrap, size, label, active }) {
  const view = useRef(null);
  const version = buffer.version.value;
  const matching = useMatching(buffer, pattern);
  const { place, onScroll, following, toEnd, keepToEnd } = useScroll(view);
  const rowPx = Math.round(size * LINE_HEIGHT);
  const columns = useColumns(size, place.width);
  const total = matching ? matching.length : buffer.lines.length;
  const above = useMemo(() => (wrap ? rowsAbove(buffer, matching, columns) : null), [wrap, matching, columns, version]);
  const topRow = Math.max(0, Math.floor(place.top / rowPx) - SPARE_ROWS);
  const rowCount = Math.ceil(place.height / rowPx) + 2 * SPARE_ROWS;
  const start = Math.min(above ? firstAt(above, topRow) : topRow, Math.max(0, total - 1));
  const rows = [];
  for (let index = start; index < total; index += 1) {
    if ((above ? above[index] - above[start] : index - start) > rowCount) break;
    const number = matching ? matching[index] : buffer.first + index;
    const text = buffer.lines[number - buffer.first];
    if (text === undefined) break;
    rows.push(html`<div key=${number} class="log-line">${ansiSpans(text).map((span) => (span.className ? html`<span class=${span.className}>${span.text}</span>` : span.text))}${"\n"}</div>`);
  }
  const height = (above ? above[total] : total) * rowPx;
  useLayoutEffect(() => { if (active) keepToEnd(); }, [height, active, place.height, place.width]);
  const offset = (above ? above[start] ?? 0 : start) * rowPx;
  return html`
    <div ref=${view} class=${classes("virtual log", wrap && "wrap")} tabindex="0" role="log" aria-live="off" aria-label=${label}
      style=${{ fontSize: `${size}px`, lineHeight: `${rowPx}px` }} onScroll=${onScroll}>
      <div style=${{ height: `${height + 16}px` }}></div>
      <div class="virtual-rows" style=${{ transform: `translateY(${offset + 8}px)` }}>${rows}</div>
    </div>
    ${!total && html`<p class="log-empty">${pattern && buffer.lines.length ? "No line matches the filter." : "Nothing logged yet."}</p>`}
    ${!following && html`<button type="button" class="btn small to-end" onClick=${toEnd}><${Icon} name="end" size="14" />Latest</button>`}`;
}

/** A log with its tools. *id* is the storage key of its settings, *tools* are shown before its own. */
export function LogPanel({ id, title, buffer, tools, active = true }) {
  const [sizeName, setSizeName] = useStored(`logPanel-${id}-fontSize`, "normal");
  const [wrap, setWrap] = useStored(`logPanel-${id}-wrapText`, false);
  const [showFilter, setShowFilter] = useStored(`logPanel-${id}-showFilter`, false);
  const [filter, setFilter] = useState("");
  const pattern = useMemo(() => toPattern(showFilter ? filter : ""), [filter, showFilter]);
  const invalid = showFilter && filter && !pattern;
  const names = Object.keys(SIZES);
  const nextSize = () => setSizeName(names[(names.indexOf(sizeName) + 1) % names.length]);
  const save = () => download(`${id.replaceAll("/", "_")}.log`, buffer.text(), "text/plain");
  return html`<section class="card log-panel" aria-label=${title}>
    <div class="card-head">
      <h2 class="clip grow">${title}</h2>
      <div class="tools">
        ${tools}
        <${IconButton} icon="filter" label="Filter lines" pressed=${showFilter} onClick=${() => { setShowFilter(!showFilter); setFilter(""); }} />
        <${IconButton} icon="size" label="Text size: ${sizeName}" onClick=${nextSize} />
        <${IconButton} icon="wrap" label="Wrap long lines" pressed=${wrap} onClick=${() => setWrap(!wrap)} />
        <${CopyButton} text=${() => buffer.lines.map(stripAnsi).join("\n")} label="Copy the log" small=${false} />
        <${IconButton} icon="download" label="Save the log" onClick=${save} />
      </div>
    </div>
    ${showFilter && html`<div class="log-filter">
      <input class="input mono" type="search" aria-label="Show lines that match" placeholder="Regular expression, e.g. error|warn" value=${filter}
        aria-invalid=${invalid ? "true" : undefined} onInput=${(event) => setFilter(event.currentTarget.value)} />
      ${invalid && html`<span class="tiny faint">Not a complete expression yet; all lines are shown.</span>`}
    </div>`}
    <${Lines} buffer=${buffer} pattern=${pattern} wrap=${wrap} size=${SIZES[sizeName] ?? SIZES.normal} label=${title} active=${active} />
  </section>`;
}
