// How long the last request of a tab took, and the way to the requests of its model.

import { html } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { limited } from "../shared/session.js";
import { ms } from "../shared/format.js";

export function Took({ task, model }) {
  if (task.busy.value || task.tookMs.value === null) return null;
  return html`<p class="small muted num">Took ${ms(task.tookMs.value)}${!limited.value && html` · <a href=${linkTo("activity", { model })}>Requests of ${model}</a>`}</p>`;
}
