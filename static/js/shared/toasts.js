// Short messages at the corner of the page; read out, and gone after a while.

import { html, signal } from "./html.js";
import { IconButton } from "./controls.js";

export const notices = signal([]);
let serial = 0;

export function dismiss(id) {
  notices.value = notices.value.filter((each) => each.id !== id);
}

export function notify(text, kind = "info") {
  const id = ++serial;
  notices.value = [...notices.value.slice(-3), { id, text, kind }];
  setTimeout(() => dismiss(id), kind === "bad" ? 12000 : 5000);
}

/** Do *action*; say what went wrong, if anything did. Resolves to whether it worked. */
export async function attempt(what, action) {
  try {
    await action();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") notify(`${what}: ${error.message}`, "bad");
    return false;
  }
}

export function Toasts() {
  return html`<div class="toasts" role="region" aria-live="polite" aria-label="Messages">
    ${notices.value.map(({ id, text, kind }) => html`<div key=${id} class="toast ${kind}">
      <span class="grow">${text}</span><${IconButton} icon="close" label="Dismiss" small onClick=${() => dismiss(id)} />
    </div>`)}
  </div>`;
}
