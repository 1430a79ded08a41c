// Loads a page when it is first opened, and keeps it alive behind the others from then on.

import { html, useEffect, useState } from "../core/html.js";
import { PAGES, current } from "../core/router.js";
import { Problem } from "./controls.js";

const loaders = {
  playground: () => import("../pages/playground.js"),
  models: () => import("../pages/models.js"),
  activity: () => import("../pages/activity.js"),
  timeline: () => import("../pages/timeline.js"),
  logs: () => import("../pages/logs.js"),
  performance: () => import("../pages/performance.js"),
  config: () => import("../pages/config.js"),
};

export function PageHost() {
  const shown = current.value;
  const [loaded, setLoaded] = useState({});
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    if (loaded[shown]) return;
    loaders[shown]().then(
      (module) => setLoaded((before) => ({ ...before, [shown]: module.default })),
      (error) => {
        console.error(error);
        setFailed(shown);
      },
    );
  }, [shown]);
  return html`${PAGES.filter((page) => loaded[page.id]).map((page) => {
    const Page = loaded[page.id];
    const active = page.id === shown;
    return html`<div key=${page.id} class="page" hidden=${!active} data-page=${page.id} tabindex="0"><${Page} active=${active} /></div>`;
  })}
  ${failed === shown && !loaded[shown] && html`<div class="page"><div class="page-body"><${Problem}>This page could not be loaded. <a href="">Load it again</a></${Problem}></div></div>`}`;
}
