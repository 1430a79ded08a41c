// A virtualised log: thousands of lines per second, of which only the visible ones are in the document.
//
// Without wrapping every line is one row high. With wrapping the font is monospaced and lines break
// at any letter, so the rows of a line follow from its length, and nothing needs to be measured.

import { classes, html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../shared/html.js";
import { useParameter } from "../shared/router.js";
import { readStored, writeStored } from "../shared/storage.js";
import { themeVersion } from "../shared/theme.js";
import { download } from "../shared/dom-utils.js";
import { timeOfDay } from "../shared/format.js";
import { CopyButton, IconButton, MiddleClip, Select } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { colourOf } from "../performance/colours.js";
import { stripAnsi } from "./ansi.js";
import { content, levelOf } from "./lines.js";
import { toPattern, useFound, useShown } from "./selection.js";

const SIZES = { normal: 13, tiny: 10, small: 11, large: 15 };
const LINE_HEIGHT = 1.5;
const SPARE_ROWS = 12;
const PADDING_PX = 16;
const MAX_MADE = 500; // elements of lines kept

function useStored(key, fallback) {
  const [value, setValue] = useState(() => readStored(key, fallback));
  return [value, (next) => { setValue(next); writeStored(key, next); }];
}

/** Rows above each line when lines wrap; the last entry is the sum. */
function rowsAbove(buffer, shown, columns) {
  const total = shown ? shown.length : buffer.lines.length;
  const above = new Float64Array(total + 1);
  for (let index = 0; index < total; index += 1) {
    const line = buffer.lines[shown ? shown[index] - buffer.first : index];
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

/** The scroll position, and whether the view follows the end: until the user scrolls up.
 *
 * *top* counts only while it does not follow, so that new lines are rendered once, not again for the new position.
 */
function useScroll(view) {
  const [place, setPlace] = useState({ top: 0, height: 400, width: 800 });
  const [following, setFollowing] = useState(true);
  const kept = useRef({ following: true, top: 0 });
  const follow = (on) => {
    kept.current.following = on;
    setFollowing(on);
  };
  const measure = () => {
    const { scrollTop, clientHeight: height, clientWidth: width } = view.current;
    kept.current.top = scrollTop;
    if (!height) return;
    const top = kept.current.following ? 0 : scrollTop;
    setPlace((before) => (before.top === top && before.height === height && before.width === width ? before : { top, height, width }));
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
    kept.current.top = view.current.scrollTop;
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

/** Columns taken by time and model before each line; few on a narrow panel, no time where lines begin with one. */
function prefixOf(width, sources, dated) {
  const narrow = width < 440;
  const time = !narrow && !dated;
  const source = sources ? (narrow ? 10 : 16) : 0;
  return { time, source, columns: (time ? 9 : 0) + (source ? source + 1 : 0) };
}

function Line({ text, origin, colour, time, source: withSource, find, found, current }) {
  const { at, source } = origin;
  return html`<div class=${classes("log-line", `level-${levelOf(text)}`, found && "found", current && "current")}>
    ${time && html`<span class="log-at">${at ? timeOfDay(at) : ""}</span>`}
    ${withSource > 0 && html`<span class="log-source clip" style=${{ borderColor: colour }} title=${source}><${MiddleClip} text=${source} tail=${Math.floor(withSource / 3)} /></span>`}
    <span class="log-text">${content(text, find)}${"\n"}</span></div>`;
}

/** Return a function that makes the element of a line; an unchanged line is the same element, which is not rendered again. */
function useLines(buffer, { find, time, source }) {
  const made = useMemo(() => new Map(), [buffer, find, time, source, themeVersion.value]);
  return (number, found, current) => {
    const text = buffer.lines[number - buffer.first];
    const known = made.get(number);
    if (known && known.text === text && known.found === found && known.current === current) return known.element;
    if (made.size > MAX_MADE) made.clear();
    const origin = buffer.origins[number - buffer.first];
    const colour = origin.source ? colourOf(origin.source) : "transparent";
    const element = html`<${Line} key=${number} text=${text} origin=${origin} colour=${colour} time=${time} source=${source} find=${find} found=${found} current=${current} />`;
    made.set(number, { text, found, current, element });
    return element;
  };
}

function Lines({ buffer, shown, find, found, at, sources, dated, wrap, size, label, active }) {
  const view = useRef(null);
  const version = buffer.version.value;
  const { place, onScroll, following, toEnd, keepToEnd } = useScroll(view);
  const rowPx = Math.round(size * LINE_HEIGHT);
  const prefix = prefixOf(place.width, sources, dated);
  const columns = useColumns(size, place.width) - prefix.columns;
  const total = shown ? shown.length : buffer.lines.length;
  const above = useMemo(() => (wrap ? rowsAbove(buffer, shown, columns) : null), [wrap, shown, columns, version]);
  const height = (above ? above[total] : total) * rowPx;
  const top = following ? Math.max(0, height + PADDING_PX - place.height) : place.top;
  const topRow = Math.max(0, Math.floor(top / rowPx) - SPARE_ROWS);
  const rowCount = Math.ceil(place.height / rowPx) + 2 * SPARE_ROWS;
  const start = Math.min(above ? firstAt(above, topRow) : topRow, Math.max(0, total - 1));
  const marks = useMemo(() => new Set(found), [found]);
  const line = useLines(buffer, { find, time: prefix.time, source: prefix.source });
  const rows = [];
  for (let index = start; index < total; index += 1) {
    if ((above ? above[index] - above[start] : index - start) > rowCount) break;
    const number = shown ? shown[index] : buffer.first + index;
    if (buffer.lines[number - buffer.first] === undefined) break;
    rows.push(line(number, marks.has(index), index === found[at]));
  }
  useLayoutEffect(() => { if (active) keepToEnd(); }, [height, active, place.height, place.width]);
  useEffect(() => {
    const index = found[at];
    if (index === undefined) return;
    // Scrolling up stops following, as when a person does it.
    view.current.scrollTop = Math.max(0, (above ? above[index] : index) * rowPx - place.height / 2);
  }, [at, found.length > 0]);
  const offset = (above ? above[start] ?? 0 : start) * rowPx;
  return html`
    <div ref=${view} class=${classes("virtual log", wrap && "wrap")} tabindex="0" role="log" aria-live="off" aria-label=${label}
      style=${{ fontSize: `${size}px`, lineHeight: `${rowPx}px`, "--source-columns": prefix.source }} onScroll=${onScroll}>
      <div style=${{ height: `${height + PADDING_PX}px` }}></div>
      <div class="virtual-rows" style=${{ transform: `translateY(${offset + PADDING_PX / 2}px)` }}>${rows}</div>
    </div>
    ${!total && html`<p class="log-empty">${buffer.lines.length ? "No line matches the filter." : "Nothing logged yet."}</p>`}
    ${!following && html`<button type="button" class="btn small to-end" onClick=${toEnd}><${Icon} name="end" size="14" />Latest</button>`}`;
}

const LEVELS = [["", "All levels"], ["warn", "Warnings and errors"], ["error", "Errors"]];

/** Steps through the lines found: the place of the current one, and what moves it. */
function useSteps(found, find) {
  const [chosen, choose] = useState(null); // null: the newest
  useEffect(() => choose(null), [find]);
  const at = Math.min(chosen ?? Infinity, found.length - 1);
  const step = (by) => choose((at + by + found.length) % found.length);
  return { at, next: () => found.length && step(1), previous: () => found.length && step(-1) };
}

function FilterBar({ filter, level, find, invalid, found, steps, more }) {
  const onKeyDown = (event) => {
    if (event.key !== "Enter") return;
    if (event.shiftKey) steps.previous();
    else steps.next();
  };
  const field = (label, placeholder, [value, set], more = {}) => html`<input class="input mono" type="search" aria-label=${label} placeholder=${placeholder} value=${value} onInput=${(event) => set(event.currentTarget.value)} ...${more} />`;
  return html`<div class="log-filter">
    ${field("Show lines that match", "Filter, e.g. error|warn", filter, { "aria-invalid": invalid ? "true" : undefined })}
    <${Select} label="Levels" hideLabel auto value=${level[0]} onChange=${level[1]}>${LEVELS.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</${Select}>
    ${field("Find in these lines", "Find", find, { onKeyDown })}
    <div class="row"><span class="tiny muted num nowrap" role="status">${find[0] && (found.length ? `${steps.at + 1} of ${found.length}` : "not found")}</span>
      <${IconButton} icon="up" small label="Previous match" disabled=${!found.length} onClick=${steps.previous} /><${IconButton} icon="down" small label="Next match" disabled=${!found.length} onClick=${steps.next} /></div>
    ${more}${invalid && html`<span class="tiny faint">Not a complete expression yet; all lines are shown.</span>`}
  </div>`;
}

/** A log with its tools. *id* is the storage key of its settings, *tools* are shown before its own.
 *
 * *filters* are shown after its own filters. *page* is the page whose address keeps the filters; *sources*: the lines are of several models, *model* shows one; *dated*: they begin with their time.
 */
export function LogPanel({ id, title, buffer, tools, filters, page = "", sources = false, dated = false, model = "", hideOwn = false, active = true }) {
  const [sizeName, setSizeName] = useStored(`logPanel-${id}-fontSize`, "normal");
  const [wrap, setWrap] = useStored(`logPanel-${id}-wrapText`, false);
  const [showFilter, setShowFilter] = useStored(`logPanel-${id}-showFilter`, false);
  const filter = useParameter(page, `${id}.filter`);
  const level = useParameter(page, `${id}.level`);
  const find = useParameter(page, `${id}.find`);
  const filtering = showFilter || filter[0] || level[0] || find[0];
  const pattern = useMemo(() => toPattern(filter[0]), [filter[0]]);
  const finding = useMemo(() => toPattern(find[0]), [find[0]]);
  const shown = useShown(buffer, { pattern, level: level[0], model, hideOwn });
  const found = useFound(buffer, shown, finding);
  const steps = useSteps(found, finding);
  const names = Object.keys(SIZES);
  const nextSize = () => setSizeName(names[(names.indexOf(sizeName) + 1) % names.length]);
  const toggle = () => {
    setShowFilter(!filtering);
    for (const [, set] of [filter, level, find]) set("");
  };
  const save = () => download(`${id.replaceAll("/", "_")}.log`, buffer.text(), "text/plain");
  return html`<section class="card log-panel" aria-label=${title}>
    <div class="card-head">
      <h2 class="clip grow">${title}</h2>
      <div class="tools">
        ${tools}
        <${IconButton} icon="filter" label="Filter lines" pressed=${Boolean(filtering)} onClick=${toggle} />
        <${IconButton} icon="size" label="Text size: ${sizeName}" onClick=${nextSize} />
        <${IconButton} icon="wrap" label="Wrap long lines" pressed=${wrap} onClick=${() => setWrap(!wrap)} />
        <${CopyButton} text=${() => buffer.lines.map(stripAnsi).join("\n")} label="Copy the log" small=${false} />
        <${IconButton} icon="download" label="Save the log" onClick=${save} />
      </div>
    </div>
    ${filtering && html`<${FilterBar} filter=${filter} level=${level} find=${find} invalid=${filter[0] && !pattern} found=${found} steps=${steps} more=${filters} />`}
    <${Lines} buffer=${buffer} shown=${shown} find=${finding} found=${found} at=${steps.at} sources=${sources} dated=${dated} wrap=${wrap} size=${SIZES[sizeName] ?? SIZES.normal} label=${title} active=${active} />
  </section>`;
}
