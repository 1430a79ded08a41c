// The configuration: what is active since when, the errors of the file, what a reload would change.

import { html, signal, useEffect, useMemo, useState } from "../shared/html.js";
import { getJson, request, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { now, useLive } from "../shared/timing.js";
import { ago, dateTime, plural } from "../shared/format.js";
import { attempt } from "../shared/toasts.js";
import { CopyButton, Empty, Note, Problem } from "../shared/controls.js";
import { Confirm } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { refreshStatus, status } from "./status.js";
import { YamlLine } from "./yaml-line.js";

const plan = signal(null);
const file = signal(null);
const problem = signal("");

const refresh = singleFlight(async () => {
  try {
    [plan.value, file.value] = await Promise.all([getJson("/api/config/plan"), getJson("/api/config/file"), refreshStatus()]);
    problem.value = "";
  } catch (error) {
    problem.value = error.message;
  }
});

const KINDS = [
  ["added", "Added", "plus", "become available"],
  ["removed", "Removed", "trash", "finish their requests, then stop"],
  ["restart", "Restarted", "refresh", "finish their requests, then restart with the next one"],
  ["hot", "Changed in place", "bolt", "keep running"],
];

function Plan() {
  const changes = plan.value?.changes;
  if (!changes) return null;
  const touched = KINDS.filter(([key]) => changes[key].length);
  const parts = changes.parts ?? [];
  if (!touched.length && !parts.length) return html`<p class="muted">The active configuration matches the file. A reload would change nothing.</p>`;
  return html`<ul class="plan">${touched.map(([key, title, icon, meaning]) => html`<li key=${key}><${Icon} name=${icon} /><div><b>${title}</b> <span class="muted small">${meaning}</span><p class="mono small">${changes[key].join(", ")}</p></div></li>`)}
    ${parts.length > 0 && html`<li><${Icon} name="gear" /><div><b>Settings</b> <span class="muted small">apply at once</span><p class="mono small">${parts.join(", ")}</p></div></li>`}</ul>
    <p class="small muted num">${plural(changes.unchanged.length, "model")} unchanged.</p>`;
}

function Errors({ errors }) {
  return html`<${Problem}><strong>The file has ${plural(errors.length, "error")} and was not loaded.</strong> The previous configuration is still running.
    <ol class="config-errors">${errors.map((each, index) => html`<li key=${index}><${Place} problem=${each} /> <span class="mono">${each.where}</span>: ${each.what}${each.fix ? html` <span class="fix">${each.fix}</span>` : ""}</li>`)}</ol></${Problem}>`;
}

function Advice({ advice }) {
  return html`<section class="card" aria-label="Advice"><div class="card-head"><h2>Advice</h2><span class="small faint">${plural(advice.length, "setting")} to look at; the configuration works</span></div>
    <div class="card-body"><ol class="config-errors">${advice.map((each, index) => html`<li key=${index}>${each.line ? html`<${Place} problem=${each} /> ` : ""}<span class="mono">${each.where}</span>: ${each.what}${each.fix ? html` <span class="fix">${each.fix}</span>` : ""}</li>`)}</ol></div></section>`;
}

let wantedLine = "";

/** Show the line that a link asked for, once the text of its file is there. */
function showWantedLine() {
  const found = wantedLine && document.getElementById(wantedLine);
  if (!found) return;
  wantedLine = "";
  found.scrollIntoView({ block: "center" });
  found.focus();
}

/** A link to the line of a problem, which names its file where there are several. */
function Place({ problem: { file: path, line } }) {
  const id = lineId(path, line);
  const show = (event) => {
    event.preventDefault();
    wantedLine = id;
    showWantedLine();
  };
  return html`<a href=${`#${id}`} onClick=${show}>${path ? `${path.split("/").pop()}, ` : ""}line ${line}</a>`;
}

/** The id of a line; the path is that of a file among several, else empty. */
const lineId = (path, line) => `config-line-${path ? `${encodeURIComponent(path)}-` : ""}${line}`;

function FileText({ path, title, text, reason, errors }) {
  // Long, and the page is rendered each second.
  const lines = useMemo(() => {
    const bad = new Set(errors.filter((each) => (each.file ?? "") === path).map((each) => each.line));
    return text.replace(/\n$/, "").split("\n").map((line, index) => html`<div key=${index} id=${lineId(path, index + 1)} tabindex="-1" class=${bad.has(index + 1) ? "line bad" : "line"}><span class="line-number" aria-hidden="true">${index + 1}</span><${YamlLine} line=${line} /></div>`);
  }, [path, text, errors]);
  useEffect(showWantedLine, [lines]);
  return html`<section class="card" aria-label=${title}>
    <div class="card-head"><h2>${title}</h2><span class="small faint">${reason || "secrets are masked"}</span><div class="tools"><${CopyButton} withText label="Copy" text=${text} /></div></div>
    <pre class="config-text" tabindex="0" role="region" aria-label="Text of the configuration">${lines}</pre>
  </section>`;
}

function Files({ errors }) {
  if (!file.value) return null;
  const files = file.value.files ?? [];
  if (files.length > 1) return files.map((each) => html`<${FileText} key=${each.path} ...${each} title=${each.path} errors=${errors} />`);
  if (file.value.text) return html`<${FileText} path="" title="The file" text=${file.value.text} errors=${errors} />`;
  return html`<${Empty} icon="config" title="No file to show">${file.value.reason ?? "This server was started without a configuration file."}</${Empty}>`;
}

function Reload({ disabled }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const reload = async () => {
    setBusy(true);
    // The event of the reload reports a file with errors.
    await attempt("Not reloaded", () => request("/api/config/reload", { method: "POST" }).catch((error) => { if (error.status !== 422) throw error; }));
    await refresh();
    setBusy(false);
  };
  const careful = plan.value?.changes?.restart.length || plan.value?.changes?.removed.length;
  return html`<button type="button" class="btn primary" disabled=${disabled || busy} onClick=${() => (careful ? setAsking(true) : reload())}><${Icon} name="refresh" size="16" />${busy ? "Reloading…" : "Reload"}</button>
    ${asking && html`<${Confirm} title="Reload the configuration?" action="Reload" onYes=${reload} onClose=${() => setAsking(false)}><${Plan} /></${Confirm}>`}`;
}

export default function ConfigPage({ active }) {
  const time = useLive(now);
  useEffect(() => { if (active) refresh(); }, [active]);
  useEffect(() => subscribe("configReload", ({ phase }) => { if (phase !== "start") refresh(); }), []);
  const state = status.value;
  const errors = plan.value?.errors ?? state?.errors ?? [];
  if (!state) return html`<header class="page-head"><h1>Config</h1></header><div class="page-body">${problem.value && html`<${Problem}>The configuration cannot be shown: ${problem.value}</${Problem}>`}</div>`;
  return html`
    <header class="page-head"><h1>Config</h1><span class="mono small muted clip">${state.source}</span>
      <div class="tools"><button type="button" class="btn" onClick=${refresh}>Check again</button><${Reload} disabled=${errors.length > 0} /></div></header>
    <div class="page-body">
      ${problem.value && html`<${Problem}>${problem.value}</${Problem}>`}
      ${errors.length > 0 && html`<${Errors} errors=${errors} />`}
      ${(state.advice ?? []).length > 0 && html`<${Advice} advice=${state.advice} />`}
      <section class="card" aria-label="Active configuration"><div class="card-head"><h2>Active configuration</h2></div><div class="card-body stack">
        <dl class="facts"><dt>Loaded</dt><dd><span title=${dateTime(state.loaded_at * 1000)}>${dateTime(state.loaded_at * 1000)}, ${ago(state.loaded_at * 1000, time)}</span></dd><dt>Hash</dt><dd class="mono">${String(state.hash).slice(0, 12)}</dd></dl>
        ${!errors.length && html`<div><h3>What a reload would do</h3><${Plan} /></div>`}
      </div></section>
      <${Files} errors=${errors} />
      ${!state.source && html`<${Note}>The active configuration did not come from a file.</${Note}>`}
    </div>`;
}
