// Loads a page when it is first opened, and keeps it alive behind the others from then on.
//
// A page is active while it is the one shown and the tab is in sight: only then it asks the server.

import { html, useEffect, useState } from "../shared/html.js";
import { current, PAGES } from "../shared/router.js";
import { refusal } from "../shared/event-stream.js";
import { visible } from "../shared/timing.js";
import { Empty, Problem } from "../shared/controls.js";

/** The component of a page: the default export of its module. */
const loadPage = async (id) => (await import(`../${id}/page.js`)).default;

const pageOf = (id) => PAGES.find((page) => page.id === id);

function NoRight({ page }) {
  return html`<div class="page" data-page=${page.id}><header class="page-head"><h1>${page.title}</h1></header>
    <div class="page-body"><${Empty} icon="warn" title="Not with this key">The server says: ${refusal.value}. The <a href="#/">Playground</a> works with it. To enter another key, open a private window: a browser asks only once.</${Empty}></div></div>`;
}

export function PageHost() {
  const shown = current.value;
  const barred = refusal.value !== "" && !pageOf(shown).anyKey;
  const [loaded, setLoaded] = useState({});
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    if (barred || loaded[shown]) return;
    loadPage(shown).then(
      (Page) => setLoaded((before) => ({ ...before, [shown]: Page })),
      (error) => {
        console.error(error);
        setFailed(shown);
      },
    );
  }, [shown, barred]);
  return html`${barred && html`<${NoRight} page=${pageOf(shown)} />`}${PAGES.filter((page) => loaded[page.id]).map((page) => {
    const Page = loaded[page.id];
    const here = page.id === shown && !barred;
    const active = here && visible.value;
    return html`<div key=${page.id} class="page" hidden=${!here} data-page=${page.id} tabindex="0"><${Page} active=${active} /></div>`;
  })}
  ${failed === shown && !loaded[shown] && html`<div class="page"><div class="page-body"><${Problem}>This page could not be loaded. <a href="">Load it again</a></${Problem}></div></div>`}`;
}
