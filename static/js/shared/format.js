// Numbers and times for people. An unknown value is a dash, never a zero.

export const NONE = "–";

/** Formats with so many digits after the point; to make one takes longer than to use it. */
const FORMATS = [0, 1].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

const round = (value, digits) => FORMATS[digits].format(value);
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 0.34 -> "340 ms", 8.2 -> "8.2 s", 75 -> "1 min 15 s", 4000 -> "1 h 6 min". */
export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 0) return seconds(0);
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${round(value, 1)} s`;
  if (value < 59.5) return `${Math.round(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export const ms = (value) => (known(value) ? seconds(value / 1000) : NONE);

/** A running clock: 0:07, 12:40, 1:02:03. No jump in width from tick to tick. */
export function clockTime(value) {
  if (!known(value)) return NONE;
  const whole = Math.max(0, Math.floor(value));
  const pad = (part) => String(part).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${pad(whole % 60)}` : `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(whole % 60)}`;
}

export function count(value) {
  if (!known(value) || value < 0) return NONE;
  return FORMATS[0].format(Math.round(value));
}

/** 1234567 -> "1.2 M". */
export function compact(value) {
  if (!known(value)) return NONE;
  const steps = [[1e9, "G"], [1e6, "M"], [1e4, "k"]];
  for (const [size, unit] of steps) {
    if (value >= size) return `${round(value / (unit === "k" ? 1e3 : size), 1)} ${unit}`;
  }
  return count(value);
}

export function bytes(value) {
  if (!known(value) || value < 0) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${round(value, index && value < 100 ? 1 : 0)} ${units[index]}`;
}

export const speed = (value) => (known(value) && value >= 0 ? round(value, value < 100 ? 1 : 0) : NONE);
export const percent = (value) => (known(value) ? `${Math.round(value)}%` : NONE);

/** How long ago, for a list: "now", "12 s ago", "3 min ago", "5 h ago", else the date. */
export function ago(unixMs, nowMs) {
  const past = (nowMs - unixMs) / 1000;
  if (!known(past)) return NONE;
  if (past < 5) return "now";
  if (past < 60) return `${Math.floor(past)} s ago`;
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86400) return `${Math.floor(past / 3600)} h ago`;
  return new Date(unixMs).toLocaleDateString("en-CA");
}

/** 1 -> "1st", 12 -> "12th". */
export function ordinal(value) {
  const ending = { one: "st", two: "nd", few: "rd", other: "th" };
  return `${count(value)}${ending[ORDINALS.select(value)]}`;
}
const ORDINALS = new Intl.PluralRules("en", { type: "ordinal" });

const two = (part) => String(part).padStart(2, "0");

/** Local time of day, 14:05:09. */
export function timeOfDay(unixMs, withSeconds = true) {
  const date = new Date(unixMs);
  const base = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return withSeconds ? `${base}:${two(date.getSeconds())}` : base;
}

/** Day and time, Feb 3 14:05. */
export const dayAndTime = (unixMs) => `${new Date(unixMs).toLocaleDateString("en", { month: "short", day: "numeric" })} ${timeOfDay(unixMs, false)}`;

/** 2026-02-03 14:05:09, local. */
export function dateTime(unixMs) {
  const date = new Date(unixMs);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${timeOfDay(unixMs)}`;
}

export const plural = (number, word, many = `${word}s`) => `${count(number)} ${number === 1 ? word : many}`;
