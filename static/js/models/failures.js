// Failed loads: which models failed last, what probably was the cause, and the card that shows it.

import { computed, html } from "../shared/html.js";
import { loadModel } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { now, useLive } from "../shared/timing.js";
import { ago, dateTime } from "../shared/format.js";
import { attempt, showToast } from "../shared/toasts.js";
import { CopyButton } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { WithLoadPlan } from "../memory/load-plan.js";
import { needs, needText } from "../memory/store.js";
import { WhyButton } from "../timeline/why.js";
import { errorHeadline, swaps } from "../timeline/swaps.js";
import { localModels } from "./store.js";

const SHOWN_LINES = 5;
const AT_REST = new Set(["stopped", "asleep", "shutdown"]);

const OUT_OF_MEMORY = "Out of memory";

/** Causes that the output of model servers names: [pattern, cause, what helps], the first match counts. */
const CAUSES = [
  [/out of memory|cudaMalloc failed|OutOfMemoryError|failed to allocate|No available memory for the cache blocks/i, OUT_OF_MEMORY, "Unload other models, use a smaller quantization or context, or offload fewer layers to the GPU."],
  [/address already in use|couldn't bind|failed to bind/i, "The port is taken", "Another program listens there: use ${PORT} in cmd, or change startPort."],
  [/failed to open GGUF|failed to open .*\.gguf|no such file or directory|FileNotFoundError/i, "A file was not found", "Check the paths in cmd."],
  [/(unknown|unrecognized|invalid) (argument|option)/i, "An option was not understood", "Check the options in cmd against the version of the server."],
  [/unknown model architecture|invalid magic|unsupported model/i, "The server does not support this model file", "Update the server, or use another file."],
];
const KILLED = /\b(SIGKILL|exit code 137)\b/;

function causeOf(headline, output) {
  const found = CAUSES.find(([pattern]) => pattern.test(`${headline}\n${output}`));
  if (found) return { cause: found[1], fix: found[2] };
  if (KILLED.test(headline)) return { cause: "Killed, probably by the system for lack of memory", fix: "Unload other models, or use a smaller model or context." };
  return { cause: "", fix: "" };
}

/** Model id -> {headline, lines, cause, fix, endedMs, swapId} of each model at rest whose last load failed. */
export const failures = computed(() => {
  const last = new Map();
  for (const swap of swaps.value) if (["done", "failed"].includes(swap.outcome)) last.set(swap.target, swap);
  const found = new Map();
  for (const { id, state } of localModels.value) {
    const swap = last.get(id);
    if (swap?.outcome !== "failed" || !AT_REST.has(state)) continue;
    const headline = errorHeadline(swap.error);
    const lines = swap.error.split("\n").slice(1).filter((line) => line.trim());
    found.set(id, { headline, lines: lines.slice(-SHOWN_LINES), ...causeOf(headline, lines.join("\n")), endedMs: swap.ended_ms, swapId: swap.id });
  }
  return found;
});

/** Ids of the models whose load was asked for on this page. */
const requested = new Set();

/** Load a model; a toast tells if it fails, at once or later. */
export function requestLoad(id) {
  requested.add(id);
  return attempt(`Loading ${id}`, () => loadModel(id));
}

export function startFailures() {
  subscribe("swap", ({ target, outcome, error }) => {
    if (requested.delete(target) && outcome === "failed") showToast(`Loading failed: ${errorHeadline(error)}`, "bad");
  });
}

/** For a model that ran out of memory: by which figure its load began. */
function NeedLine({ id }) {
  const need = needs.value.get(id);
  if (!need) return null;
  return html`<p class="small">It is taken to need ${needText(need)}. If that is too little, correct <code>memory</code> in the configuration; see “When a load runs out of memory” in docs/what-fits.md.</p>`;
}

/** What failed, when and why, with the last lines of output. */
export function FailureCard({ id, failure, onRetry, onLog }) {
  const { headline, lines, cause, fix, endedMs, swapId } = failure;
  const text = () => [`${headline} (${dateTime(endedMs)})`, ...lines].join("\n");
  return html`<section class="failure" aria-label="Last failure of ${id}">
    <p><strong>${cause || "The last load failed"}</strong> <span class="muted small" title=${dateTime(endedMs)}>${ago(endedMs, useLive(now))}</span></p>
    <p class="small">${headline}.${fix && html` ${fix}`}</p>${cause === OUT_OF_MEMORY && html`<${NeedLine} id=${id} />`}
    ${lines.length > 0 && html`<pre class="code-block tiny" tabindex="0" role="region" aria-label="Last output of ${id}">${lines.join("\n")}</pre>`}
    <div class="row"><${WithLoadPlan} id=${id}>${(tip) => html`<button type="button" class="btn small" aria-label="Retry ${id}" aria-describedby=${tip} onClick=${onRetry}><${Icon} name="refresh" size="14" />Retry</button>`}</${WithLoadPlan}>
      <button type="button" class="btn small" onClick=${onLog}><${Icon} name="logs" size="14" />View log</button>
      <${CopyButton} withText label="Copy error" text=${text} /><${WhyButton} swap=${swapId} of="Swap ${swapId}" /></div>
  </section>`;
}
