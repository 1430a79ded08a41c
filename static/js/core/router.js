// The hash says which page is shown; a page once opened stays alive behind the others.

import { computed, signal } from "./html.js";

const parse = () => {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: decodeURI(path), query: new URLSearchParams(query) };
};

const route = signal(parse());
addEventListener("hashchange", () => { route.value = parse(); });

export const PAGES = [
  { id: "playground", title: "Playground", icon: "chat" },
  { id: "models", title: "Models", icon: "models" },
  { id: "activity", title: "Activity", icon: "activity" },
  { id: "timeline", title: "Timeline", icon: "timeline" },
  { id: "logs", title: "Logs", icon: "logs" },
  { id: "performance", title: "Performance", icon: "gauge" },
  { id: "config", title: "Config", icon: "config" },
];

/** The id of the page shown; anything unknown is the playground. */
export const current = computed(() => {
  const id = route.value.path.split("/")[0];
  return PAGES.some((page) => page.id === id) ? id : "playground";
});

/** What stands behind the question mark of the hash. */
export const query = computed(() => route.value.query);

export const pageLink = (id) => (id === "playground" ? "#/" : `#/${id}`);

/** Whether *address*, which others wrote, may become a link: a whole address of another site.
 *
 * Here a click on it would be one of ours, and could load or unload a model.
 */
export function leadsElsewhere(address) {
  try {
    const { protocol, origin } = new URL(address);
    return protocol === "mailto:" || (["http:", "https:"].includes(protocol) && origin !== location.origin);
  } catch {
    return false; // relative to this page
  }
}

export function go(id, parameters = {}) {
  const text = new URLSearchParams(parameters).toString();
  location.hash = pageLink(id) + (text ? `?${text}` : "");
}
