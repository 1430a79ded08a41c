// The hash says which page is shown; a page once opened stays alive behind the others.

import { computed, signal } from "./html.js";
import { limited } from "./session.js";

const parse = () => {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: decodeURI(path), query: new URLSearchParams(query) };
};

const route = signal(parse());
addEventListener("hashchange", () => { route.value = parse(); });

/** The pages in the order of the navigation, from pages.json by way of the template:
 *
 * {id, title, icon, key, anyKey}; the module of a page is <id>/page.js, *key* leads there after "g".
 */
export const PAGES = JSON.parse(document.getElementById("app").dataset.pages);

const START = PAGES[0].id;

/** The pages that work with the key. */
export const openPages = computed(() => PAGES.filter((page) => page.anyKey || !limited.value));

/** The id of the page shown; an unknown one leads to the first that works. */
export const current = computed(() => {
  const id = route.value.path.split("/")[0];
  return PAGES.some((page) => page.id === id) ? id : openPages.value[0].id;
});

/** What stands behind the question mark of the hash. */
export const query = computed(() => route.value.query);

export const pageLink = (id) => (id === START ? "#/" : `#/${id}`);

export function go(id, parameters = {}) {
  const text = new URLSearchParams(parameters).toString();
  location.hash = pageLink(id) + (text ? `?${text}` : "");
}
