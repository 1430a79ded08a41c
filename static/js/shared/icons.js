// Line icons on a 20 x 20 grid, in the colour of the text around them.

import { html } from "./html.js";

const PATHS = {
  home: "M3 9.5 10 3.5l7 6M5 8v8.5h10V8M8.5 16.5v-5h3v5",
  chat: "M4 4.5h12a1.5 1.5 0 0 1 1.5 1.5v7a1.5 1.5 0 0 1-1.5 1.5H9L5 17.5v-3H4A1.5 1.5 0 0 1 2.5 13V6A1.5 1.5 0 0 1 4 4.5Z",
  models: "M10 2.5 17 6l-7 3.5L3 6ZM3 10l7 3.5L17 10M3 14l7 3.5 7-3.5",
  activity: "M2.5 10.5h3l2.5-7 4 13 2.5-6h3",
  timeline: "M3 5.5h7M6 10h9M4 14.5h5M12.5 14.5H17M13 5.5h3",
  logs: "M4 4.5h12M4 8.2h12M4 11.8h8M4 15.5h10",
  gauge: "M3.5 14.5a7.5 7.5 0 1 1 13 0M10 11.5l3.5-4M10 11.5a1 1 0 1 0 .01 0",
  chip: "M5.5 5.5h9v9h-9ZM8 2.5v3M12 2.5v3M8 14.5v3M12 14.5v3M2.5 8h3M2.5 12h3M14.5 8h3M14.5 12h3",
  config: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4a2 2 0 1 1 0 4 2 2 0 0 1 0-4ZM7 12a2 2 0 1 1 0 4 2 2 0 0 1 0-4Z",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  close: "m5 5 10 10M15 5 5 15",
  sun: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7ZM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  moon: "M16.5 12A7 7 0 0 1 8 3.5a7 7 0 1 0 8.5 8.5Z",
  auto: "M10 3a7 7 0 1 0 0 14ZM10 3a7 7 0 0 1 0 14",
  play: "M6 4v12l10-6Z",
  pause: "M7 4v12M13 4v12",
  stop: "M5.5 5.5h9v9h-9Z",
  eject: "m4 11 6-6.5 6 6.5ZM4 15h12",
  copy: "M7 7h9.5v9.5H7ZM13 7V3.5H3.5V13H7",
  check: "m4 10.5 4 4L16 6",
  refresh: "M16.5 9A6.7 6.7 0 0 0 4.6 6.4L3 8M3 4v4h4M3.5 11a6.7 6.7 0 0 0 11.9 2.6L17 12M17 16v-4h-4",
  edit: "m12.5 4.5 3 3L7 16l-3.5.5L4 13ZM11 6l3 3",
  search: "M8.5 3a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11ZM12.5 12.5 17 17",
  filter: "M3 5h14l-5.5 6.5V16l-3-1.5v-3Z",
  wrap: "M3 5h14M3 10h11a2.5 2.5 0 0 1 0 5H9M11 13l-2 2 2 2M3 15h3",
  size: "M3 15 7 5l4 10M4.4 11.5h5.2M12.5 15l2.2-6 2.3 6M13.3 13h2.9",
  down: "m5 8 5 5 5-5",
  up: "m5 12 5-5 5 5",
  right: "m8 5 5 5-5 5",
  left: "m12 5-5 5 5 5",
  end: "M10 3v10M5.5 9l4.5 4.5L14.5 9M4 17h12",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  eye: "M2 10s3-5.5 8-5.5 8 5.5 8 5.5-3 5.5-8 5.5S2 10 2 10ZM10 7.7a2.3 2.3 0 1 1 0 4.6 2.3 2.3 0 0 1 0-4.6Z",
  eyeOff: "M3 3l14 14M8 4.8A8.6 8.6 0 0 1 10 4.5c5 0 8 5.5 8 5.5a14 14 0 0 1-2.4 3M5 6.3A14 14 0 0 0 2 10s3 5.5 8 5.5a8 8 0 0 0 3.6-.9",
  link: "M8 4H4v12h12v-4M11 3h6v6M17 3l-8 8",
  download: "M10 3v9M6 8.5l4 4 4-4M3.5 16.5h13",
  image: "M3 4h14v12H3ZM3 13l4-4 4 4 2-2 4 4M12.8 7.2a.8.8 0 1 0 .01 0",
  speaker: "M3 8v4h3l4 3.5v-11L6 8ZM13 7.5a3.5 3.5 0 0 1 0 5M15.2 5a7 7 0 0 1 0 10",
  mic: "M10 2.5a2.5 2.5 0 0 1 2.5 2.5v4.5a2.5 2.5 0 0 1-5 0V5A2.5 2.5 0 0 1 10 2.5ZM5 9.5a5 5 0 0 0 10 0M10 14.5v3",
  rank: "M4 16V9M8 16V4M12 16v-5M16 16v-9",
  compare: "M10 3v14M3 6h4.5M3 10h4.5M3 14h4.5M12.5 6H17M12.5 10H17M12.5 14H17",
  bolt: "M11 2.5 4.5 11H10l-1 6.5L15.5 9H10Z",
  warn: "M10 3 2.5 16.5h15ZM10 8v4M10 14.2v.3",
  info: "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15ZM10 9v5M10 6.2v.3",
  send: "M3 10h13M11 5l5 5-5 5",
  clip: "m8 11 5-5a2 2 0 0 1 3 3l-7 7a3.5 3.5 0 0 1-5-5l7-7",
  trash: "M3.5 5.5h13M8 5.5V3.5h4v2M5 5.5l.8 11h8.4l.8-11M8.5 8.5v5M11.5 8.5v5",
  gear: "M10 7.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5ZM10 2.5v2M10 15.5v2M2.5 10h2M15.5 10h2M4.7 4.7l1.4 1.4M13.9 13.9l1.4 1.4M4.7 15.3l1.4-1.4M13.9 6.1l1.4-1.4",
  swap: "M4 7h11M12 4l3 3-3 3M16 13H5M8 10l-3 3 3 3",
  columns: "M3 4h14v12H3ZM8 4v12M12.5 4v12",
  clock: "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15ZM10 6v4.3l3 1.7",
  expand: "M11.5 3H17v5.5M8.5 17H3v-5.5M17 3l-6 6M3 17l6-6",
  branch: "M6 7v9M6 4.2a1.4 1.4 0 1 0 .01 0M6 16.4a1.4 1.4 0 1 0 .01 0M14 6.8a1.4 1.4 0 1 0 .01 0M14 8.5c0 4-8 2.5-8 6.5",
  key: "M6.5 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7ZM10 10h7.5v3M14 10v2.5",
  list: "M7 5h10M7 10h10M7 15h10M3.5 5h.1M3.5 10h.1M3.5 15h.1",
};

/** A decorative icon; its meaning is in the text beside it or in the control's label. */
export function Icon({ name, size = 18 }) {
  return html`<svg width=${size} height=${size} viewBox="0 0 20 20" fill="none" stroke="currentColor"
    stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}

/** The mark: three models, one of them in place. */
export function Logo({ size = 24 }) {
  return html`<svg width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <rect x="2" y="2" width="20" height="20" rx="6" fill="currentColor" />
    <path d="M7 7.5h6M7 12h10M7 16.5h4" stroke="var(--on-accent)" stroke-width="2.4" stroke-linecap="round" />
  </svg>`;
}
