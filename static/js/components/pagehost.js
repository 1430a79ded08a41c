// Loads a page when it is first opened, and keeps it alive behind the others from then on.
//
// A page is active while it is the one shown and the tab is in sight: only then it asks the server.

import { html, useEffect, useState } from "../core/html.js";
import { PAGES, current } from "../core/router.js";
import { visible } from "../core/clock.js";
import { refusal } from "../core/events.js";
import { Empty, Problem } from "./controls.js";

const loaders = {
  playground: () => import("../pages/playground.js"),
  models: () => import("../pages/models.js"),
  activity: () => import("../pages/activity.js"),
  timeline: () => import("../pages/timeline.js"),
  logs: () => import("../pages/logs.js"),
  performance: () => import("../pages/performance.js"),
  config: () => import("../pages/config.js"),
};

/** Models answer to any key; all other pages show what others do, and need an admin's. */
const OPEN_TO_ALL = "playground";

function NoRight({ page }) {
  return html`<div class="page" data-page=${page.id}><header class="page-head"><h1>${page.title}</h1></header>
    <div class="page-body"><${Empty} icon="warn" title="Not with this key">The server says: ${refusal.value}. The <a href="#/">Playground</a> works with it. To enter another key, open a private window: a browser asks only once.</${Empty}></div></div>`;
}

export function PageHost() {
  const shown = current.value;
  const barred = refusal.value !== "" && shown !== OPEN_TO_ALL;
  const [loaded, setLoaded] = useState({});
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    if (barred || loaded[shown]) return;
    loaders[shown]().then(
      (module) => setLoaded((before) => ({ ...before, [shown]: module.default })),
      (error) => {
        console.error(error);
        setFailed(shown);
      },
    );
  }, [shown, barred]);
  return html`${barred && html`<${NoRight} page=${PAGES.find((page) => page.id === shown)} />`}${PAGES.filter((page) => loaded[page.id]).map((page) => {
    const Page = loaded[page.id];
    const here = page.id === shown && !barred;
    const active = here && visible.value;
    return html`<div key=${page.id} class="page" hidden=${!here} data-page=${page.id} tabindex="0"><${Page} active=${active} /></div>`;
  })}
  ${failed === shown && !loaded[shown] && html`<div class="page"><div class="page-body"><${Problem}>This page could not be loaded. <a href="">Load it again</a></${Problem}></div></div>`}`;
}
