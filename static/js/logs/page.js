// The log of llmsnap itself and that of all models, side by side or alone.

import { html } from "../shared/html.js";
import { stored } from "../shared/storage.js";
import { Segmented } from "../shared/controls.js";
import { Split } from "../shared/split.js";
import { LogPanel } from "./log-panel.js";
import { logs, useLogs } from "./store.js";

const view = stored("logviewer-view-mode", "panels");
const VIEWS = [["panels", "Both"], ["proxy", "llmsnap"], ["upstream", "Models"]];

export default function LogsPage({ active }) {
  useLogs(active, view.value in logs ? [view.value] : Object.keys(logs));
  const proxy = html`<${LogPanel} id="proxy" title="llmsnap" buffer=${logs.proxy} active=${active} />`;
  const upstream = html`<${LogPanel} id="upstream" title="Models" buffer=${logs.upstream} active=${active} />`;
  return html`
    <header class="page-head"><h1>Logs</h1>
      <div class="tools"><${Segmented} label="Which logs" value=${view.value} options=${VIEWS} onChange=${(next) => { view.value = next; }} /></div>
    </header>
    <div class="page-fill">
      ${view.value === "proxy" && html`<div class="only">${proxy}</div>`}
      ${view.value === "upstream" && html`<div class="only">${upstream}</div>`}
      ${!["proxy", "upstream"].includes(view.value) && html`<${Split} id="logviewer-panel-group" label="Width of the first log" stackBelow="768">${proxy}${upstream}</${Split}>`}
    </div>`;
}
