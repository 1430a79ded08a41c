// Every request: those in flight on top, the finished ones below, with filters, paging and statistics.

import { html, useEffect, useState } from "../shared/html.js";
import { pageLink, query } from "../shared/router.js";
import { getJson } from "../shared/api.js";
import { stored } from "../shared/storage.js";
import { download } from "../shared/dom-utils.js";
import { plural } from "../shared/format.js";
import { attempt, showToast } from "../shared/toasts.js";
import { Check, Empty, Menu, Note, Problem, Select } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { localModels, peerModels } from "../models/store.js";
import { CaptureDialog } from "./capture.js";
import { InFlight } from "./in-flight.js";
import { usePaging } from "./paging.js";
import { RequestStatistics } from "./statistics.js";
import { activityTick } from "./store.js";
import { useLive } from "../shared/timing.js";
import { COLUMNS, DEFAULT_COLUMNS, RequestTable } from "./table.js";

const columns = stored("activity-columns", DEFAULT_COLUMNS);
const filters = stored("activity-filters", { model: "", status: "", key: "" });
const showStatistics = stored("activity-statistics", false);
const EXPORT_LIMIT = 10000;

const STATUSES = [["", "Any outcome"], ["200", "Succeeded"], ["error", "Failed"], ["4xx", "4xx"], ["5xx", "5xx"]];

const set = (name) => (value) => { filters.value = { ...filters.value, [name]: value }; };

/** The names of the keys in *records*, for the filter, which is hidden without any. */
function keysOf(records) {
  return [...new Set(records.map((record) => record.key_name).filter(Boolean))].sort();
}

function Filters({ records }) {
  const names = [...localModels.value, ...[...peerModels.value.values()].flat()].map((model) => model.id);
  const keys = keysOf(records);
  const { model, status, key } = filters.value;
  return html`<${Select} label="Model" hideLabel auto value=${model} onChange=${set("model")}><option value="">All models</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</${Select}>
    <${Select} label="Outcome" hideLabel auto value=${status} onChange=${set("status")}>${STATUSES.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</${Select}>
    ${(keys.length > 0 || key) && html`<${Select} label="Key" hideLabel auto value=${key} onChange=${set("key")}><option value="">All keys</option>${[...new Set([...keys, key])].filter(Boolean).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</${Select}>`}`;
}

function ColumnChoice() {
  const toggle = (id) => (on) => { columns.value = on ? [...columns.value, id] : columns.value.filter((each) => each !== id); };
  return html`<${Menu} label="Columns" icon="columns" text="Columns">${COLUMNS.map((column) => html`<${Check} key=${column.id} label=${column.title} checked=${columns.value.includes(column.id)} onChange=${toggle(column.id)} />`)}</${Menu}>`;
}

const parameters = (wanted) => new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));

async function fetchAll(wanted) {
  const records = [];
  let cursor = "";
  do {
    const page = await getJson(`/api/activity?${parameters({ ...wanted, limit: "1000", cursor })}`);
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

function Export() {
  const save = (kind) => attempt("Exporting", async () => {
    const records = await fetchAll(filters.value);
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

export default function ActivityPage({ active }) {
  const [capture, setCapture] = useState(null);
  const pages = usePaging(filters.value, active, useLive(activityTick));
  const filtered = Object.values(filters.value).some(Boolean);
  const linked = query.value.get("model");
  // Links of other pages may name the model.
  useEffect(() => { if (active && linked) set("model")(linked); }, [active, linked]);
  return html`
    <header class="page-head"><h1>Activity</h1>
      <div class="tools"><${Filters} records=${pages.records} />
        <button type="button" class="btn worded" title="Statistics" aria-pressed=${String(showStatistics.value)} onClick=${() => { showStatistics.value = !showStatistics.value; }}><${Icon} name="rank" size="16" /><span class="word">Statistics</span></button>
        <${ColumnChoice} /><${Export} /></div>
    </header>
    <div class="page-body">
      <${InFlight} active=${active} />
      ${showStatistics.value && html`<${RequestStatistics} filters=${filters.value} active=${active} />`}
      ${pages.error && html`<${Problem}>The list could not be read: ${pages.error}</${Problem}>`}
      ${pages.fresh > 0 && html`<${Note}>${plural(pages.fresh, "newer request")}. <button type="button" class="btn small" onClick=${pages.first}>Show</button></${Note}>`}
      <section class="card" aria-label="Finished requests">
        ${pages.loaded && !pages.records.length ? (filtered ? noMatches : nothing) : html`<${RequestTable} records=${pages.records} columns=${columns.value} sort=${pages.sort} onSort=${pages.setSort} onCapture=${setCapture} />`}
      </section>
      <${Pager} pages=${pages} />
    </div>
    ${capture !== null && html`<${CaptureDialog} record=${capture} onClose=${() => setCapture(null)} />`}`;
}
