// The log of llmsnap itself and that of all models, side by side or alone.

import { html } from "../shared/html.js";
import { parametersOf, setParameters } from "../shared/router.js";
import { Check, Segmented } from "../shared/controls.js";
import { Chooser } from "../shared/chooser.js";
import { Split } from "../shared/split.js";
import { optionOf } from "../models/model-select.js";
import { localModels } from "../models/store.js";
import { LogPanel } from "./log-panel.js";
import { logs, useLogs } from "./store.js";

const VIEWS = [["panels", "Both"], ["proxy", "llmsnap"], ["upstream", "Models"]];

const set = (name) => (value) => setParameters("logs", { [name]: value });

export default function LogsPage({ active }) {
  const { view = "panels", model = "", own = "" } = parametersOf("logs");
  useLogs(active, ["proxy", "upstream"].includes(view) ? [view] : ["proxy", "upstream"]);
  const options = [{ value: "", text: "All models" }, ...localModels.value.map((each) => optionOf(each, ""))];
  const choice = html`<${Chooser} label="Log of" hideLabel auto value=${model} options=${options} onChange=${set("model")} />`;
  const ownRequests = html`<${Check} label="Requests of this interface" checked=${own === "1"} onChange=${(on) => set("own")(on ? "1" : "")} />`;
  const proxy = html`<${LogPanel} id="proxy" page="logs" title="llmsnap" dated buffer=${logs.proxy} filters=${ownRequests} hideOwn=${own !== "1"} active=${active} />`;
  const upstream = html`<${LogPanel} id="upstream" page="logs" title="Models" buffer=${logs.upstream} tools=${choice} sources model=${model} active=${active} />`;
  return html`
    <header class="page-head"><h1>Logs</h1>
      <div class="tools"><${Segmented} label="Which logs" value=${view} options=${VIEWS} onChange=${(next) => set("view")(next === "panels" ? "" : next)} /></div>
    </header>
    <div class="page-fill">
      ${view === "proxy" && html`<div class="only">${proxy}</div>`}
      ${view === "upstream" && html`<div class="only">${upstream}</div>`}
      ${!["proxy", "upstream"].includes(view) && html`<${Split} id="logviewer-panel-group" label="Width of the first log" stackBelow="768">${proxy}${upstream}</${Split}>`}
    </div>`;
}
