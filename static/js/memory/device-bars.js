// A bar for each device of the memory budget: who holds how much of it, and what is free.

import { classes, html, useState } from "../shared/html.js";
import { percent } from "../shared/format.js";
import { MiddleClip } from "../shared/controls.js";
import { modelLink } from "../models/store.js";
import { cssColourOf } from "../performance/colours.js";
import { amountText, devices, nodes } from "./store.js";

/** The parts of a device from left to right: {key, kind, name, bytes, text, note, model, source}. */
function partsOf({ others, residents, reserved, free, reserve, unit }) {
  const ours = residents.map(({ model, bytes, asleep, source }) => ({ key: `m-${model}`, kind: asleep ? "asleep" : "awake", name: model, model, bytes, note: asleep ? "asleep" : "", source }));
  const coming = reserved.map(({ model, bytes }) => ({ key: `r-${model}`, kind: "coming", name: model, model, bytes, note: "reserved for its load" }));
  return [
    others.bytes > 0 && { key: "others", kind: "others", name: unit === "gpus" ? "other jobs" : "other programs", bytes: others.bytes, note: others.holders },
    ...ours, ...coming,
    free > 0 && { key: "free", kind: "free", name: "free", bytes: free, note: "" },
    reserve > 0 && { key: "reserve", kind: "reserve", name: "reserve", bytes: reserve, note: "" },
  ].filter(Boolean).map((part) => ({ ...part, text: amountText(part.bytes, unit) }));
}

const partText = ({ name, text, note, source, kind }) => (kind === "free" ? `${text} free` : [`${name} ${text}`, note, source].filter(Boolean).join(", "));

const title = ({ name, label }) => [name === "ram" ? "RAM" : name, label].filter(Boolean).join(", ");

const freeText = ({ free, capacity, unit }) => `${amountText(free, unit)} of ${amountText(capacity, unit)} free`;

/** The bar in a sentence: "gpu0, RTX 4090: 4 GiB of 24 GiB free; qwen 14 GiB; reserve 0.5 GiB". */
const sentence = (device, parts) => [`${title(device)}: ${freeText(device)}`, ...parts.filter(({ kind }) => kind !== "free").map(partText)].join("; ");

/** What a swap reserves beyond what is free is not drawn: models that leave still hold it. */
function widthsOf(parts, capacity) {
  let left = capacity - parts.filter(({ kind }) => kind === "reserve").reduce((sum, { bytes }) => sum + bytes, 0);
  return parts.map(({ kind, bytes }) => {
    if (kind === "reserve") return bytes / capacity;
    const drawn = Math.max(0, Math.min(bytes, left));
    left -= drawn;
    return drawn / capacity;
  });
}

function Part({ part, width, at, onAt }) {
  const { kind, name } = part;
  const text = kind === "free" ? `${part.text} free` : kind === "others" ? "others" : name;
  return html`<span class=${classes("part-of-device", kind, at && "at")} style=${{ width: `${width * 100}%`, "--part": part.model && cssColourOf(part.model) }} title=${partText(part)}
    onPointerEnter=${() => onAt(part.key)} onPointerLeave=${() => onAt("")}><span class="clip">${text}</span></span>`;
}

function LegendItem({ part, at, onAt }) {
  const { kind, name, text, note, model } = part;
  const on = { onPointerEnter: () => onAt(part.key), onPointerLeave: () => onAt(""), onFocus: () => onAt(part.key), onBlur: () => onAt("") };
  const words = html`<span class="device-swatch ${kind}" style=${{ "--part": model && cssColourOf(model) }}></span><span class="clip"><${MiddleClip} text=${name} /></span>`;
  return html`<li class=${classes("device-part", at && "at")} ...${on}>${model ? html`<a class="row-link" href=${modelLink(model)} title=${partText(part)}>${words}</a>` : html`<span class="row-link" title=${partText(part)}>${words}</span>`}
    <b class="num nowrap">${text}</b>${note && html`<span class="muted clip" title=${note}>${note}</span>`}</li>`;
}

/** *load*: how busy it is, in percent. */
function DeviceBar({ device, load }) {
  const [at, setAt] = useState("");
  const parts = partsOf(device);
  const widths = widthsOf(parts, device.capacity);
  const shown = parts.map((part, index) => [part, widths[index]]).filter(([, width]) => width > 0);
  return html`<li class="device" data-device=${device.name}>
    <div class="row"><span class="grow clip"><b>${device.name === "ram" ? "RAM" : device.name}</b>${device.label && html` <span class="muted small">${device.label}</span>`}</span>
      <span class="small muted num nowrap">${load !== undefined && load !== null && `${percent(load)} busy · `}${freeText(device)}</span></div>
    <div class="device-bar" role="img" aria-label=${sentence(device, parts)}>${shown.map(([part, width]) => html`<${Part} key=${part.key} part=${part} width=${width} at=${at === part.key} onAt=${setAt} />`)}</div>
    <ul class="device-parts small" aria-label="In ${device.name}">${parts.filter(({ kind }) => kind !== "free").map((part) => html`<${LegendItem} key=${part.key} part=${part} at=${at === part.key} onAt=${setAt} />`)}</ul>
  </li>`;
}

/** The bars of all devices and machines of launchers; *loadOf* returns how busy a device is. Nothing without a memory budget and launchers; the page watches the memory. */
export function DeviceBars({ loadOf = () => null }) {
  return [...devices.value, ...nodes.value].map((device) => html`<${DeviceBar} key=${device.name} device=${device} load=${loadOf(device.name)} />`);
}
