// How far a load is: the share of the model's files that was read, else the time it has taken so far.

import { html } from "../shared/html.js";
import { bytes, seconds } from "../shared/format.js";

const NEARLY = 0.97; // a load that takes longer than usual is not done

const usualS = (model, { durations }) => (model.state === "waking" ? durations.wake : durations.start)?.p50_s ?? null;

/** What was read of the files, in words; empty where that is unknown. */
function readText(load) {
  if (!load) return "";
  if (load.loaded_bytes >= load.total_bytes) return "files read";
  return `${load.percent}% of ${bytes(load.total_bytes)} at ${bytes(load.bytes_per_s)}/s`;
}

/** How long it may take yet, by earlier loads, else by the rate of this one. */
function leftText(usual, passedS, load) {
  if (usual) return usual > passedS ? `about ${seconds(Math.max(1, usual - passedS))} left` : `usually ${seconds(usual)}`;
  if (load?.bytes_per_s > 0 && load.loaded_bytes < load.total_bytes) return `about ${seconds((load.total_bytes - load.loaded_bytes) / load.bytes_per_s)} left`;
  return "no load measured yet";
}

/** The load of *model*, whose *state* is that of modelStatus, in a sentence: "loading for 6 s of about 12 s, 40% of 17 GiB at 1.2 GiB/s". */
export function loadSentence(model, state) {
  const usual = usualS(model, state);
  return [`loading for ${seconds(state.stateForS ?? 0)}${usual ? ` of about ${seconds(usual)}` : ""}`, readText(state.load)].filter(Boolean).join(", ");
}

export function LoadProgress({ model, state }) {
  const [usual, passedS, { load }] = [usualS(model, state), state.stateForS ?? 0, state];
  const share = load ? load.percent / 100 : usual ? Math.min(NEARLY, passedS / usual) : undefined;
  return html`<span class="load-progress"><progress class="bar" max="1" value=${share} aria-label="Loading ${model.id}"></progress>
    <span class="tiny muted num">${[readText(load), leftText(usual, passedS, load)].filter(Boolean).join(", ")}</span></span>`;
}
