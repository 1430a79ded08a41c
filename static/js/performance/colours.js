// A colour for each name: the same in every chart and after a reload, and no two alike.

import { readStored, writeStored } from "../shared/storage.js";
import { token } from "../shared/theme.js";

const KEY = "performance-colours";
const MOST = 500;

/** Degrees between the hues of two numbers in a row; no multiple of it comes close to another. */
const GOLDEN_ANGLE = 137.508;

let numbers = readStored(KEY, {});

function numberOf(name) {
  if (!(name in numbers)) {
    if (Object.keys(numbers).length >= MOST) numbers = {};
    numbers[name] = Object.keys(numbers).length;
    writeStored(KEY, numbers);
  }
  return numbers[name];
}

const inLightness = (lightness, name) => `oklch(${lightness} 0.14 ${((250 + numberOf(name) * GOLDEN_ANGLE) % 360).toFixed(1)})`;

/** The colour of *name* in the theme; its lightness is the same for all, and reaches 3:1. */
export const colourOf = (name) => inLightness(token("--chart-lightness"), name);

/** The same for style sheets, where it follows the theme by itself. */
export const cssColourOf = (name) => inLightness("var(--chart-lightness)", name);
