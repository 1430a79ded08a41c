// The page is being drawn; its hash address already leads here.

import { html } from "../core/html.js";

export default function Page() {
  return html`<header class="page-head"><h1>playground</h1></header>`;
}
