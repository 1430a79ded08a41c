// Loads a page when it is first opened, and keeps it mounted from then on, hidden behind the others.
//
// A page is active while it is shown and the tab is visible; only then it polls the server.

import { html, useEffect, useRef, useState } from "../shared/html.js";
import { current, pageLink, PAGES } from "../shared/router.js";
import { keyName, limited, signOut } from "../shared/session.js";
import { PageActive, visible } from "../shared/timing.js";
import { attempt } from "../shared/toasts.js";
import { Empty, Problem } from "../shared/controls.js";

/** The component of a page: the default export of its module. */
const loadPage = async (id) => (await import(`../${id}/page.js`)).default;

const pageOf = (id) => PAGES.find((page) => page.id === id);

function AdminKeyRequired({ page }) {
  return html`<div class="page" data-page=${page.id} tabindex="0"><header class="page-head"><h1>${page.title}</h1></header>
    <div class="page-body"><${Empty} icon="warn" title="Admin key required">${keyName.value} can use the <a href=${pageLink("playground")}>Playground</a> only. Sign out to use another key.<p><button type="button" class="btn" onClick=${() => attempt("Not signed out", signOut)}>Sign out</button></p></${Empty}></div></div>`;
}

export function PageHost() {
  const shown = current.value;
  const forbidden = limited.value && !pageOf(shown).anyKey;
  const [loaded, setLoaded] = useState({});
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    if (forbidden || loaded[shown]) return;
    loadPage(shown).then(
      (Page) => setLoaded((before) => ({ ...before, [shown]: Page })),
      (error) => {
        console.error(error);
        setFailed(shown);
      },
    );
  }, [shown, forbidden]);
  const before = useRef(shown);
  const ready = forbidden || loaded[shown] !== undefined;
  // The focus moves with the page, so that keys and screen readers go on there.
  useEffect(() => {
    if (!ready || before.current === shown) return;
    before.current = shown;
    document.querySelector(`[data-page="${shown}"]`)?.focus({ preventScroll: true });
  }, [shown, ready]);
  return html`${forbidden && html`<${AdminKeyRequired} page=${pageOf(shown)} />`}${PAGES.filter((page) => loaded[page.id]).map((page) => {
    const Page = loaded[page.id];
    const isShown = page.id === shown && !forbidden;
    const active = isShown && visible.value;
    return html`<div key=${page.id} class="page" hidden=${!isShown} data-page=${page.id} tabindex="0"><${PageActive.Provider} value=${active}><${Page} active=${active} /></${PageActive.Provider}></div>`;
  })}
  ${failed === shown && !loaded[shown] && html`<div class="page"><div class="page-body"><${Problem}>This page could not be loaded. <a href="">Reload</a></${Problem}></div></div>`}`;
}
