// The finished requests, as a table or on narrow screens as cards; one opens into all that is known of it.

import { classes, html } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { now, useLive } from "../shared/timing.js";
import { useMedia } from "../shared/dom-utils.js";
import { ago, bytes, count, dateTime, ms, speed } from "../shared/format.js";
import { MiddleClip } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { StatusBadge } from "../shared/badges.js";
import { WhyButton } from "../timeline/why.js";
import { MiniWaterfall, Waterfall } from "./waterfall.js";

// --- columns

const number = (id, title, show, field = id) => ({ id, title, field, right: true, show });
const nameOf = (record) => record.model_id || record.requested;

/** How long ago *at* was: of the table, only this is rendered each second. */
function Age({ at }) {
  return html`<span class="nowrap" title=${dateTime(at)}>${ago(at, useLive(now))}</span>`;
}

/** *field* is the sort key; *show* gets the record, and the longest duration of the page. */
export const COLUMNS = [
  { id: "id", title: "ID", field: "id", right: true, show: (record) => record.id + 1 },
  { id: "time", title: "Time", field: "id", show: (record) => html`<${Age} at=${record.ended_ms} />` },
  { id: "model", title: "Model", field: "model_id", show: (record) => html`<span class="model-cell clip" title=${nameOf(record)}><${MiddleClip} text=${nameOf(record)} /></span>` },
  { id: "path", title: "Path", field: "path", show: (record) => html`<span class="mono tiny">${record.path}</span>` },
  { id: "session", title: "Session", field: "session", show: (record) => html`<span class="mono tiny clip" title=${record.session}>${record.session}</span>` },
  { id: "key", title: "Key", field: "key_name", show: (record) => record.key_name ?? "" },
  { id: "status", title: "Status", field: "status", show: (record) => html`<span title=${record.reason}><${StatusBadge} status=${record.status} left=${record.client_left} /></span>` },
  number("cached", "Cached", (record) => count(record.cached_tokens), "cached_tokens"),
  number("prompt", "Prompt", (record) => count(record.input_tokens), "input_tokens"),
  number("generated", "Generated", (record) => count(record.output_tokens), "output_tokens"),
  number("promptSpeed", "Prompt t/s", (record) => speed(record.prompt_per_second), "prompt_per_second"),
  number("speed", "Gen. t/s", (record) => speed(record.tokens_per_second), "tokens_per_second"),
  number("queued", "Queued", (record) => ms(record.queue_ms), "queue_ms"),
  number("load", "Load", (record) => ms(record.load_ms), "load_ms"),
  number("first", "Time to first token", (record) => ms(record.first_token_ms), "first_token_ms"),
  number("duration", "Duration", (record) => ms(record.duration_ms), "duration_ms"),
  { id: "waterfall", title: "Time breakdown", field: "", show: (record, longest) => html`<${MiniWaterfall} record=${record} longest=${longest} />` },
  number("size", "Response size", (record) => bytes(record.response_bytes), "response_bytes"),
  { id: "request", title: "Request id", field: "request_id", show: (record) => html`<span class="mono tiny">${record.request_id}</span>` },
];

export const DEFAULT_COLUMNS = ["time", "model", "status", "prompt", "generated", "speed", "duration", "waterfall"];

// --- one request

export function RequestDetails({ record, onCapture }) {
  const facts = [
    ["Finished", dateTime(record.ended_ms)], ["Path", `${record.method} ${record.path}`],
    record.requested !== record.model_id && ["Requested as", record.requested],
    record.selector && ["Selector", record.selector], record.peer && ["Peer", record.peer], record.key_name && ["Key", record.key_name], record.session && ["Session", record.session],
    record.reason && ["Reason", record.reason],
    ["Tokens", `${count(record.input_tokens)} prompt (${count(record.cached_tokens)} cached), ${count(record.output_tokens)} generated`],
    record.draft_tokens && ["Draft tokens", `${count(record.draft_accepted)} of ${count(record.draft_tokens)} accepted`],
    ["Speed", `${speed(record.prompt_per_second)} prompt, ${speed(record.tokens_per_second)} generation tokens/s`],
    ["Sizes", `${bytes(record.request_bytes)} sent, ${bytes(record.response_bytes)} answered${record.stream ? ", streamed" : ""}`],
    ["Request id", record.request_id], record.swap_id !== null && ["Swap", `#${record.swap_id}`],
  ].filter(Boolean);
  const around = linkTo("timeline", { span: "15", end: String(Math.round(record.ended_ms + 5 * 60000)) });
  return html`<div class="request-details">
    <${Waterfall} record=${record} />
    <dl class="facts">${facts.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
    <div class="row">${record.has_capture ? html`<button type="button" class="btn small" onClick=${() => onCapture(record)}><${Icon} name="eye" size="14" />View request and answer</button>` : html`<span class="tiny faint">Request and answer were not captured, or have been dropped since.</span>`}
      ${(record.swap_id !== null || record.queue_ms > 0) && html`<${WhyButton} request=${String(record.id)} of="Request ${record.id + 1}" />`}<a class="btn small quiet" href=${around}><${Icon} name="timeline" size="14" />Show on the timeline</a></div>
  </div>`;
}

function RowTools({ record, isOpen, onOpen, onCapture }) {
  return html`${record.has_capture && html`<button type="button" class="btn small" aria-label="View capture ${record.id + 1}" onClick=${() => onCapture(record)}>View</button>`}
    <button type="button" class="btn quiet icon small" aria-expanded=${String(isOpen)} aria-label="Details of request ${record.id + 1}" onClick=${() => onOpen(isOpen ? null : record.id)}><${Icon} name=${isOpen ? "up" : "down"} size="16" /></button>`;
}

// --- all of them

function SortHead({ column, sort, onSort }) {
  const [field, descending] = [sort.replace("-", ""), sort.startsWith("-")];
  const here = column.field && field === column.field;
  const order = here ? (descending ? "descending" : "ascending") : undefined;
  const next = here && descending ? column.field : `-${column.field}`;
  return html`<th scope="col" class=${classes(column.right && "right")} aria-sort=${order}>
    ${column.field && onSort ? html`<button type="button" class="sort" onClick=${() => onSort(next)}>${column.title}${here && html`<${Icon} name=${descending ? "down" : "up"} />`}</button>` : column.title}</th>`;
}

const inButton = (event) => event.target.closest("button, a, .details-row");

function Cards({ records, open, onOpen, onCapture, longest }) {
  const card = (record) => {
    const isOpen = open === record.id;
    const parts = [ms(record.duration_ms), record.output_tokens > 0 && `${count(record.output_tokens)} tokens`, record.tokens_per_second > 0 && `${speed(record.tokens_per_second)} t/s`];
    return html`<li key=${record.id} class=${classes("request-card", isOpen && "open")} data-request=${record.id}>
      <div class="row" onClick=${(event) => inButton(event) || onOpen(isOpen ? null : record.id)}><span class="grow clip"><${MiddleClip} text=${nameOf(record)} /></span><${StatusBadge} status=${record.status} left=${record.client_left} /></div>
      <div class="row"><span class="grow small muted num"><${Age} at=${record.ended_ms} /> · ${parts.filter(Boolean).join(" · ")}</span><${RowTools} record=${record} isOpen=${isOpen} onOpen=${onOpen} onCapture=${onCapture} /></div>
      <${MiniWaterfall} record=${record} longest=${longest} />
      ${isOpen && html`<${RequestDetails} record=${record} onCapture=${onCapture} />`}</li>`;
  };
  return html`<ul class="request-cards">${records.map(card)}</ul>`;
}

/** *open* is the id of the opened request; without *onSort* the heads do not sort. */
export function RequestTable({ records, columns, sort = "-id", onSort, open, onOpen, onCapture }) {
  const narrow = useMedia("(max-width: 699.98px)");
  const shown = COLUMNS.filter((column) => columns.includes(column.id));
  const longest = Math.max(1, ...records.map((record) => record.duration_ms));
  if (narrow) return html`<${Cards} records=${records} open=${open} onOpen=${onOpen} onCapture=${onCapture} longest=${longest} />`;
  const row = (record) => {
    const isOpen = open === record.id;
    return html`<tr key=${record.id} class=${classes("can-open", isOpen && "open")} data-request=${record.id} onClick=${(event) => inButton(event) || onOpen(isOpen ? null : record.id)}>
        ${shown.map((column) => html`<td key=${column.id} class=${classes(column.right && "right", `col-${column.id}`)}>${column.show(record, longest)}</td>`)}
        <td class="row-tools"><div><${RowTools} record=${record} isOpen=${isOpen} onOpen=${onOpen} onCapture=${onCapture} /></div></td>
      </tr>
      ${isOpen && html`<tr key="${record.id}-details" class="details-row"><td colspan=${shown.length + 1}><${RequestDetails} record=${record} onCapture=${onCapture} /></td></tr>`}`;
  };
  return html`<div class="table-wrap requests-wrap" tabindex="0" role="region" aria-label="Finished requests">
    <table class="table requests"><thead><tr>${shown.map((column) => html`<${SortHead} key=${column.id} column=${column} sort=${sort} onSort=${onSort} />`)}<th scope="col" class="row-tools"><span class="visually-hidden">Actions</span></th></tr></thead>
      <tbody>${records.map(row)}</tbody></table>
  </div>`;
}
