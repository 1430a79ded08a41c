// The address says which page is shown, and what of it: #/activity?model=x, #/models/qwen3-coder.
//
// A page once opened stays alive behind the others, with the parameters it had when it was left.

import { computed, signal, useState } from "./html.js";
import { limited } from "./session.js";

/** *text* without its percent escapes; as it is where they are malformed. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function parse() {
  const [path, ...query] = location.hash.replace(/^#\/?/, "").split("?");
  const [id, ...rest] = path.split("/");
  return { id: decoded(id), rest: decoded(rest.join("/")), query: query.join("?") };
}

/** The pages in the order of the navigation, from pages.json by way of the template:
 *
 * {id, title, icon, key, anyKey}; the module of a page is <id>/page.js, *key* leads there after "g".
 */
export const PAGES = JSON.parse(document.getElementById("app").dataset.pages);

const START = PAGES[0].id;

/** The pages that work with the key. */
export const openPages = computed(() => PAGES.filter((page) => page.anyKey || !limited.value));

const pageIn = ({ id }) => (PAGES.some((page) => page.id === id) ? id : openPages.value[0].id);

const route = signal(parse());

/** Page id -> the text behind the question mark when it was shown last. */
const remembered = signal({});

function follow() {
  const next = parse();
  // The query of a part of a page is not that of the page.
  if (!next.rest) remembered.value = { ...remembered.peek(), [pageIn(next)]: next.query };
  route.value = next;
}
addEventListener("hashchange", follow);
follow();

/** The id of the page shown; an unknown one leads to the first that works. */
export const current = computed(() => pageIn(route.value));

/** What follows the page's id in the address: the model of the Models page. */
export const subject = computed(() => (current.value === route.value.id ? route.value.rest : ""));

/** The parameters of page *id*: of the address while it is shown, else those it was left with. */
export const parametersOf = (id) => Object.fromEntries(new URLSearchParams(remembered.value[id] ?? ""));

const hashOf = (id, query) => `#/${id === START ? "" : id}${query ? `?${query}` : ""}`;

/** The link to a page as it was left. */
export const pageLink = (id) => hashOf(id, remembered.value[id]);

const textOf = (parameters) => new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();

/** The link to a page with these parameters; empty ones are left out. */
export const linkTo = (id, parameters = {}) => hashOf(id, textOf(parameters));

export function go(id, parameters = {}) {
  location.hash = linkTo(id, parameters);
}

/** Change parameters of page *id*; the address follows without a step in the history. */
export function setParameters(id, changes) {
  const query = textOf({ ...parametersOf(id), ...changes });
  remembered.value = { ...remembered.peek(), [id]: query };
  if (current.peek() !== id || subject.peek()) return;
  history.replaceState(null, "", hashOf(id, query));
  route.value = parse();
}

/** [value, set] of a parameter of *page*; without a page, of a state of the component. */
export function useParameter(page, name) {
  const [own, setOwn] = useState("");
  return page ? [parametersOf(page)[name] ?? "", (value) => setParameters(page, { [name]: value })] : [own, setOwn];
}
