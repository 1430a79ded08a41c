// Toasts: short messages in the corner, announced to screen readers, removed after some seconds.

import { html, signal } from "./html.js";
import { IconButton } from "./controls.js";

export const toasts = signal([]);
let serial = 0;
const HELD_MS = 2000;

export function dismiss(id) {
  toasts.value = toasts.value.filter((each) => each.id !== id);
}

/** Remove a toast, unless the pointer or the focus is in one: it may be read, or its button wanted. */
function expire(id) {
  if (document.querySelector(".toasts")?.matches(":hover, :focus-within")) setTimeout(() => expire(id), HELD_MS);
  else dismiss(id);
}

/** *action* is [name, function] of a button. */
export function showToast(text, kind = "info", action = null) {
  const id = ++serial;
  toasts.value = [...toasts.value.slice(-3), { id, text, kind, action }];
  setTimeout(() => expire(id), kind === "bad" || action ? 12000 : 5000);
}

/** Run *action*; a toast shows its error. Resolves to whether it worked. */
export async function attempt(what, action) {
  try {
    await action();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") showToast(`${what}: ${error.message}`, "bad");
    return false;
  }
}

export function Toasts() {
  return html`<div class="toasts" role="region" aria-live="polite" aria-label="Messages">
    ${toasts.value.map(({ id, text, kind, action }) => html`<div key=${id} class="toast ${kind}">
      <span class="grow">${text}</span>${action && html`<button type="button" class="btn small" onClick=${() => { dismiss(id); action[1](); }}>${action[0]}</button>`}<${IconButton} icon="close" label="Dismiss" small onClick=${() => dismiss(id)} />
    </div>`)}
  </div>`;
}
