// Every request: those in flight on top, the finished ones below, with filters, paging and statistics.

import { html, useMemo, useState } from "../shared/html.js";
import { pageLink, parametersOf, setParameters } from "../shared/router.js";
import { getJson } from "../shared/api.js";
import { stored } from "../shared/storage.js";
import { now, useLive } from "../shared/timing.js";
import { download } from "../shared/dom-utils.js";
import { count, plural } from "../shared/format.js";
import { useFetched } from "../shared/fetched.js";
import { attempt, showToast } from "../shared/toasts.js";
import { Check, Empty, IconButton, Menu, Note, Problem, Select } from "../shared/controls.js";
import { Chooser } from "../shared/chooser.js";
import { Icon } from "../shared/icons.js";
import { optionOf } from "../models/model-select.js";
import { localModels, peerModels, selectors } from "../models/store.js";
import { CaptureDialog } from "./capture.js";
import { InFlight } from "./in-flight.js";
import { usePaging } from "./paging.js";
import { RequestStatistics } from "./statistics.js";
import { COLUMNS, DEFAULT_COLUMNS, RequestTable } from "./table.js";

const columns = stored("activity-columns-2", DEFAULT_COLUMNS);
const EXPORT_LIMIT = 10000;

const STATUSES = [["", "Any outcome"], ["200", "Succeeded"], ["error", "Failed"], ["4xx", "4xx"], ["5xx", "5xx"]];
const RANGES = [["", "Any time"], ["15", "15 min"], ["60", "1 h"], ["1440", "1 d"], ["10080", "7 d"]];

const set = (name) => (value) => setParameters("activity", { [name]: value });

/** What the address selects: {query, filters, sort, open, showStatistics}. */
function useSelection() {
  const { model = "", status = "", key = "", selector = "", peer = "", range = "", sort = "-id", request = "", lookup = "", statistics } = parametersOf("activity");
  const since = useMemo(() => (Number(range) ? String(Math.floor(now.peek() - Number(range) * 60000)) : ""), [range]);
  const query = new URLSearchParams(Object.entries({ model, status, key, selector, peer, since }).filter(([, value]) => value)).toString();
  return { query, filters: { model, status, key, selector, peer, range }, sort, open: request === "" ? null : Number(request), lookup, showStatistics: Boolean(statistics) };
}

/** The names of the keys in *records*, for the filter, which is hidden without any. */
function keysOf(records) {
  return [...new Set(records.map((record) => record.key_name).filter(Boolean))].sort();
}

const optionsOf = (pairs) => pairs.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`);

function Filters({ records, filters }) {
  const names = [...localModels.value, ...[...peerModels.value.values()].flat()].map((model) => optionOf(model, ""));
  const { model, status, key, selector, range } = filters;
  const choosing = [...new Set([...selectors.value.map(({ id }) => id), selector])].filter(Boolean);
  const keys = [...new Set([...keysOf(records), key])].filter(Boolean);
  return html`<${Chooser} label="Model" hideLabel auto value=${model} options=${[{ value: "", text: "All models" }, ...names]} onChange=${set("model")} />
    <${Select} label="Outcome" hideLabel auto value=${status} onChange=${set("status")}>${optionsOf(STATUSES)}</${Select}>
    <${Select} label="Range" hideLabel auto value=${range} onChange=${set("range")}>${optionsOf(RANGES)}</${Select}>
    ${choosing.length > 0 && html`<${Select} label="Selector" hideLabel auto value=${selector} onChange=${set("selector")}>${optionsOf([["", "All selectors"], ...choosing.map((id) => [id, id])])}</${Select}>`}
    ${keys.length > 0 && html`<${Select} label="Key" hideLabel auto value=${key} onChange=${set("key")}>${optionsOf([["", "All keys"], ...keys.map((name) => [name, name])])}</${Select}>`}`;
}

/** The filters in force, each with a button that ends it. */
function Chips({ filters }) {
  const word = (pairs, value) => pairs.find(([each]) => each === value)?.[1] ?? value;
  const chips = [["model", filters.model], ["status", filters.status && word(STATUSES, filters.status)], ["range", filters.range && word(RANGES, filters.range)], ...["key", "selector", "peer"].map((name) => [name, filters[name] && `${name} ${filters[name]}`])].filter(([, text]) => text);
  if (!chips.length) return null;
  return html`<div class="row" aria-label="Filters" role="group">${chips.map(([name, text]) => html`<span key=${name} class="filter-chip"><span class="clip">Filter: ${text}</span><${IconButton} icon="close" small label="Remove the filter ${text}" onClick=${() => set(name)("")} /></span>`)}</div>`;
}

function ColumnChoice() {
  const toggle = (id) => (on) => { columns.value = on ? [...columns.value, id] : columns.value.filter((each) => each !== id); };
  return html`<${Menu} label="Columns" icon="columns" text="Columns">${COLUMNS.map((column) => html`<${Check} key=${column.id} label=${column.title} checked=${columns.value.includes(column.id)} onChange=${toggle(column.id)} />`)}</${Menu}>`;
}

async function fetchAll(query) {
  const records = [];
  let cursor = "";
  do {
    const page = await getJson(`/api/activity?${query}&limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
    records.push(...page.records);
    cursor = page.cursor;
  } while (cursor && records.length < EXPORT_LIMIT);
  return records;
}

/** Spreadsheets evaluate a cell that begins with one of these as a formula. */
const cell = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

function toCsv(records) {
  const names = Object.keys(records[0] ?? { id: 0 });
  return [names, ...records.map((record) => names.map((name) => record[name]))].map((row) => row.map(cell).join(",")).join("\r\n");
}

function Export({ query }) {
  const save = (kind) => attempt("Exporting", async () => {
    const records = await fetchAll(query);
    if (kind === "csv") download("activity.csv", toCsv(records), "text/csv");
    else download("activity.json", JSON.stringify({ schema_version: 1, records }, null, 1), "application/json");
    showToast(`${plural(records.length, "request")} exported`, "ok");
  });
  return html`<${Menu} label="Export" icon="download" text="Export"><button type="button" class="btn quiet" onClick=${() => save("csv")}>As CSV</button><button type="button" class="btn quiet" onClick=${() => save("json")}>As JSON</button></${Menu}>`;
}

function Pager({ pages }) {
  if (!pages.hasOlder && !pages.hasNewer) return null;
  return html`<nav class="pager" aria-label="Pages of requests">
    <button type="button" class="btn small" disabled=${!pages.hasNewer} onClick=${pages.first}>Newest</button>
    <button type="button" class="btn small" disabled=${!pages.hasNewer} onClick=${pages.newer}><${Icon} name="left" size="14" />Newer</button>
    <span class="small muted num">Page ${pages.number}</span>
    <button type="button" class="btn small" disabled=${!pages.hasOlder} onClick=${pages.older}>Older<${Icon} name="right" size="14" /></button>
  </nav>`;
}

const nothing = html`<${Empty} icon="activity" title="No requests yet">They appear here as they end. The <a href=${pageLink("playground")}>Playground</a> is a quick way to send one.</${Empty}>`;
const noMatches = html`<${Empty} icon="filter" title="No request matches">Change the filters above to see more.</${Empty}>`;

/** Whether the pointer or the focus is in the element: what the person looks at must not move. */
function useHeld() {
  const [held, setHeld] = useState(false);
  return [held, { onPointerEnter: (event) => event.pointerType === "mouse" && setHeld(true), onPointerLeave: () => setHeld(false) }];
}

/** The request that the address names, by number or by request id, above the list if that does not show it. */
function Linked({ id, lookup, records, active, ...rest }) {
  const wanted = lookup !== "" || (id !== null && !records.some((record) => record.id === id));
  const found = useFetched(active && wanted, `/api/activity?${lookup ? new URLSearchParams({ request_id: lookup }) : `id=${id}`}`);
  if (!wanted || !found?.records) return null;
  if (!found.records.length) return html`<${Note}>No request ${lookup || `#${id + 1}`} was recorded, or it has been dropped since.</${Note}>`;
  return html`<section class="card" aria-label="Linked request"><${RequestTable} records=${found.records} open=${found.records[0].id} columns=${columns.value} ...${rest} /></section>`;
}

export default function ActivityPage({ active }) {
  const [capture, setCapture] = useState(null);
  const { query, filters, sort, open, lookup, showStatistics } = useSelection();
  const [hovered, holding] = useHeld();
  const pages = usePaging(query, sort, active, hovered || open !== null);
  const onOpen = (id) => setParameters("activity", { request: id === null ? "" : String(id), lookup: "" });
  const shared = { onOpen, onCapture: setCapture };
  const reload = () => { onOpen(null); pages.first(); };
  // The same element again is not rendered again: the page is, with each tick.
  const table = useMemo(
    () => html`<${RequestTable} records=${pages.records} columns=${columns.value} sort=${sort} onSort=${(next) => set("sort")(next === "-id" ? "" : next)} open=${open} ...${shared} />`,
    [pages.records, columns.value, sort, open],
  );
  return html`
    <header class="page-head"><h1>Activity</h1>
      <div class="tools"><${Filters} records=${pages.records} filters=${filters} />
        <button type="button" class="btn worded" title="Statistics" aria-pressed=${String(showStatistics)} onClick=${() => set("statistics")(showStatistics ? "" : "1")}><${Icon} name="rank" size="16" /><span class="word">Statistics</span></button>
        <${ColumnChoice} /><${Export} query=${query} /></div>
    </header>
    <div class="page-body">
      <${Chips} filters=${filters} />
      <${InFlight} active=${active} />
      ${showStatistics && html`<${RequestStatistics} query=${query} active=${active} />`}
      ${pages.error && html`<${Problem}>The list could not be read: ${pages.error}</${Problem}>`}
      <${Linked} id=${open} lookup=${lookup} records=${pages.records} active=${active && pages.loaded} ...${shared} />
      <section class="card" aria-label="Finished requests" ...${holding}>
        <div class="card-head"><h2>Finished</h2><span class="small muted num">${pages.total !== null && plural(pages.total, "request")}</span>
          <div class="tools">${pages.fresh > 0 && html`<span class="small num" role="status">${count(pages.fresh)} new</span><button type="button" class="btn small" onClick=${reload}>Show</button>`}</div></div>
        ${pages.loaded && !pages.records.length ? (Object.values(filters).some(Boolean) ? noMatches : nothing) : table}
      </section>
      <${Pager} pages=${pages} />
    </div>
    ${capture !== null && html`<${CaptureDialog} record=${capture} onClose=${() => setCapture(null)} />`}`;
}
