// A log: thousands of lines a second, of which only those in sight are in the document.
//
// Without wrapping every line is one row high. With wrapping the font is monospaced and lines break
// at any letter, so the rows of a line follow from its length, and nothing needs to be measured.

import { classes, html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../core/html.js";
import { pieces, plain } from "../core/ansi.js";
import { recall, remember } from "../core/storage.js";
import { CopyButton, IconButton } from "./controls.js";
import { Icon } from "./icons.js";
import { download } from "../core/keys.js";

const SIZES = { normal: 13, tiny: 10, small: 11, large: 15 };
const LINE_HEIGHT = 1.5;
const SPARE_ROWS = 12;

function useKept(key, fallback) {
  const [value, setValue] = useState(() => recall(key, fallback));
  return [value, (next) => { setValue(next); remember(key, next); }];
}

function toPattern(text) {
  if (!text) return null;
  try {
    return new RegExp(text, "i");
  } catch {
    return null; // not a pattern yet: no filter
  }
}

/** Indexes into the buffer of the lines to show; looks only at what is new since the last call. */
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
      if (pattern.test(plain(buffer.lines[next - buffer.first]))) list.push(next);
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

/** Keeps to the end while the person is there. */
function useScroll(view, version, active) {
  const [place, setPlace] = useState({ top: 0, height: 400, width: 800 });
  const atEnd = useRef(true);
  const [following, setFollowing] = useState(true);
  const measure = () => {
    const element = view.current;
    if (!element || !element.clientHeight) return;
    setPlace({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth });
  };
  const onScroll = () => {
    const element = view.current;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 8;
    setFollowing(atEnd.current);
    measure();
  };
  const toEnd = () => {
    atEnd.current = true;
    view.current.scrollTop = view.current.scrollHeight;
    onScroll();
  };
  useEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(view.current);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (active && atEnd.current) {
      view.current.scrollTop = view.current.scrollHeight;
      measure();
    }
  }, [version, active, place.height, place.width]);
  return { place, onScroll, following, toEnd };
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
  const { place, onScroll, following, toEnd } = useScroll(view, version, active);
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
    rows.push(html`<div key=${number} class="log-line">${pieces(text).map((piece) => (piece.className ? html`<span class=${piece.className}>${piece.text}</span>` : piece.text))}${"\n"}</div>`);
  }
  const height = (above ? above[total] : total) * rowPx;
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

/** A log with its tools. *id* names where its settings are kept, *tools* come before them. */
export function LogPanel({ id, title, buffer, tools, active = true }) {
  const [sizeName, setSizeName] = useKept(`logPanel-${id}-fontSize`, "normal");
  const [wrap, setWrap] = useKept(`logPanel-${id}-wrapText`, false);
  const [showFilter, setShowFilter] = useKept(`logPanel-${id}-showFilter`, false);
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
        <${CopyButton} text=${() => buffer.lines.map(plain).join("\n")} label="Copy the log" small=${false} />
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
