// The columns of the list: what each shows, and which field of the records it sorts by.

import { html } from "../../core/html.js";
import { ago, bytes, count, dateTime, ms, speed } from "../../core/format.js";
import { StatusBadge } from "../../components/badge.js";
import { MiniWaterfall } from "../../components/waterfall.js";

const number = (id, title, show, field = id) => ({ id, title, field, right: true, show });

/** *show* gets the record, the time now, and the longest duration on the page. */
export const COLUMNS = [
  { id: "id", title: "ID", field: "id", right: true, show: (record) => record.id + 1 },
  { id: "time", title: "Time", field: "ended_ms", show: (record, now) => html`<span class="nowrap" title=${dateTime(record.ended_ms)}>${ago(record.ended_ms, now)}</span>` },
  { id: "model", title: "Model", field: "model_id", show: (record) => html`<span class="model-cell clip" title=${record.requested}>${record.model_id || record.requested}</span>` },
  { id: "path", title: "Path", field: "path", show: (record) => html`<span class="mono tiny">${record.path}</span>` },
  { id: "key", title: "Key", field: "key_name", show: (record) => record.key_name ?? "" },
  { id: "status", title: "Status", field: "status", show: (record) => html`<span title=${record.reason}><${StatusBadge} status=${record.status} left=${record.client_left} /></span>` },
  number("cached", "Cached", (record) => count(record.cached_tokens), "cached_tokens"),
  number("prompt", "Prompt", (record) => count(record.input_tokens), "input_tokens"),
  number("generated", "Generated", (record) => count(record.output_tokens), "output_tokens"),
  number("promptSpeed", "Prompt t/s", (record) => speed(record.prompt_per_second), "prompt_per_second"),
  number("speed", "Gen. t/s", (record) => speed(record.tokens_per_second), "tokens_per_second"),
  number("queued", "Queued", (record) => ms(record.queue_ms), "queue_ms"),
  number("load", "Load", (record) => ms(record.load_ms), "load_ms"),
  number("first", "First token", (record) => ms(record.first_token_ms), "first_token_ms"),
  number("duration", "Duration", (record) => ms(record.duration_ms), "duration_ms"),
  { id: "waterfall", title: "Where time went", field: "", show: (record, now, longest) => html`<${MiniWaterfall} record=${record} longest=${longest} />` },
  number("size", "Answer size", (record) => bytes(record.response_bytes), "response_bytes"),
  { id: "request", title: "Request id", field: "request_id", show: (record) => html`<span class="mono tiny">${record.request_id}</span>` },
];

export const DEFAULT_COLUMNS = ["id", "time", "model", "status", "cached", "prompt", "generated", "promptSpeed", "speed", "duration", "waterfall"];
