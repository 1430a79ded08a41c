// Terminal escape sequences: colours become class names, all others are removed.

const ESCAPES = /\x1b(?:\[([0-9;:]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const OTHER_CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

/** Return [{text, className}] of a line; a line without escapes is one span. */
export function ansiSpans(line) {
  if (!line.includes("\x1b")) return [{ text: line.replace(OTHER_CONTROLS, ""), className: "" }];
  const found = [];
  const style = { colour: "", bold: false, dim: false };
  let end = 0;
  const push = (text) => {
    const clean = text.replace(OTHER_CONTROLS, "");
    if (clean) found.push({ text: clean, className: classOf(style) });
  };
  for (const match of line.matchAll(ESCAPES)) {
    push(line.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] === "m") apply(style, match[1]);
  }
  push(line.slice(end));
  return found;
}

/** The line without escape sequences. */
export const stripAnsi = (line) => (line.includes("\x1b") ? line.replace(ESCAPES, "") : line).replace(OTHER_CONTROLS, "");

const classOf = ({ colour, bold, dim }) => [colour && `ansi-${colour}`, bold && "ansi-bold", dim && "ansi-dim"].filter(Boolean).join(" ");

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

function apply(style, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index];
    if (code === 0) Object.assign(style, { colour: "", bold: false, dim: false });
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code >= 30 && code <= 37) style.colour = NAMES[code - 30];
    else if (code >= 90 && code <= 97) style.colour = NAMES[code - 90];
    else if (code === 39) style.colour = "";
    else if (code === 38 || code === 48) index += codes[index + 1] === 5 ? 2 : 4; // palettes: skipped
  }
}
