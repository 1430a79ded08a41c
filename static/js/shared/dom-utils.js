// Clipboard, downloads, media queries and links.

import { useEffect, useState } from "./html.js";

/** Copy *text* to the clipboard, also on plain HTTP. Resolves to whether it worked. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  area.setAttribute("aria-hidden", "true");
  // Inside an open dialog, or its focus trap would take the selection away.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const worked = document.execCommand("copy");
  area.remove();
  return worked;
}

/** Offer *data* for download under *name*. */
export function download(name, data, type = "application/octet-stream") {
  const url = URL.createObjectURL(data instanceof Blob ? data : new Blob([data], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Whether a media query holds, as it changes. */
export function useMedia(query) {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const update = () => setMatches(list.matches);
    list.addEventListener("change", update);
    update();
    return () => list.removeEventListener("change", update);
  }, [query]);
  return matches;
}

/** Whether *address*, from untrusted text, may become a link: an absolute address of another site.
 *
 * A link to this server would be followed with the user's rights, and could load or unload a model.
 */
export function isExternalLink(address) {
  try {
    const { protocol, origin } = new URL(address);
    return protocol === "mailto:" || (["http:", "https:"].includes(protocol) && origin !== location.origin);
  } catch {
    return false; // relative to this page
  }
}
