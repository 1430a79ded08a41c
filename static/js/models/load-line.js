// What a request waits for, in a line: other models, the load, and how long it may take.

import { html, useEffect } from "../shared/html.js";
import { limited } from "../shared/session.js";
import { isOurs } from "../shared/api.js";
import { now, useLive } from "../shared/timing.js";
import { ordinal, seconds } from "../shared/format.js";
import { inflight } from "../activity/store.js";
import { WhyButton } from "../timeline/why.js";
import { loadSentence } from "./load-progress.js";
import { modelStatus } from "./model-status.js";
import { details, findModel, isLoading, modelLink, watchDetails } from "./store.js";

/** The local model with this id or alias. */
function localModel(name) {
  const alias = [...details.value].find(([, entry]) => entry.aliases.includes(name));
  const model = findModel(name) ?? (alias && findModel(alias[0]));
  return model && !model.peerID ? model : null;
}

/** The place of the page's newest request for *model* in its queue; null if it does not wait. */
const placeOf = (model) => inflight.value.findLast((each) => each.model_id === model.id && each.position && isOurs(each.request_id))?.position ?? null;

/** The parts of the line: "2nd in line", "alpha is serving 1 request for 12 s", "about 20 s left". */
function parts(model, status) {
  const place = placeOf(model);
  const line = place > 1 && `${ordinal(place)} in line`;
  if (isLoading(model)) return [line, loadSentence(model, status)];
  if (!status.waiting || !status.why) return [];
  return [line, status.why, status.etaS && `about ${seconds(Math.max(1, status.etaS))} left`];
}

/** Shown while a request for *model* has no response yet; empty while the model only computes. */
export function LoadLine({ model: name }) {
  // Without admin right the server does not say what others wait for.
  useEffect(() => (limited.peek() ? undefined : watchDetails()), []);
  const time = useLive(now);
  const model = localModel(name);
  const text = model ? parts(model, modelStatus(model, time)).filter(Boolean).join(" · ") : "";
  if (!text) return null;
  return html` <span class="load-line num">${text} · <a href=${modelLink(model.id)}>View log</a> <${WhyButton} model=${model.id} of=${model.id} /></span>`;
}
