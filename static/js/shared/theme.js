// Light, dark, or the system's preference.

import { effect, signal } from "./html.js";
import { writeStored } from "./storage.js";

export const THEMES = ["system", "light", "dark"];

function initial() {
  try {
    const kept = JSON.parse(localStorage.getItem("theme"));
    if (kept === true) return "dark"; // true and false were written by earlier versions
    if (kept === false) return "light";
    return THEMES.includes(kept) ? kept : "system";
  } catch {
    return "system";
  }
}

export const theme = signal(initial());

/** Counts changes of the colours; canvases redraw by it. */
export const themeVersion = signal(0);

const changed = () => requestAnimationFrame(() => { themeVersion.value += 1; });

effect(() => {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
  changed();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);

export function chooseTheme(name) {
  theme.value = name;
  writeStored("theme", name);
}

/** Return the value of a token such as "--accent" as it is now. */
export const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
