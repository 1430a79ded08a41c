// A small panel below what it explains, above everything else on the page.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";

const MARGIN = 8;
const DELAY_MS = 150;

/** Below *anchor*, or above it where there is no room; shown while it has content. */
export function Tip({ anchor, id, children }) {
  const element = useRef(null);
  useEffect(() => { element.current.showPopover?.(); }, []);
  useLayoutEffect(() => {
    const place = () => {
      if (!anchor.current || !element.current) return;
      const box = anchor.current.getBoundingClientRect();
      const { offsetWidth: width, offsetHeight: height } = element.current;
      const below = box.bottom + MARGIN / 2;
      element.current.style.left = `${Math.max(MARGIN, Math.min(box.left, innerWidth - width - MARGIN))}px`;
      element.current.style.top = `${below + height > innerHeight - MARGIN ? box.top - height - MARGIN / 2 : below}px`;
    };
    const observer = new ResizeObserver(place);
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return html`<div ref=${element} id=${id} class="floating-tip small" role="tooltip" popover="manual">${children}</div>`;
}

/** {open, close, on}: whether the pointer has rested on *anchor*, or the focus is in it, and what it listens to. */
export function useHover(anchor) {
  const [open, setOpen] = useState(false);
  const timer = useRef(0);
  const later = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setOpen(true), DELAY_MS);
  };
  const close = () => {
    clearTimeout(timer.current);
    setOpen(false);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  useEffect(() => {
    if (!open) return undefined;
    const onKey = (event) => event.key === "Escape" && close();
    const onScroll = (event) => event.target.contains(anchor.current) && close();
    document.addEventListener("keydown", onKey);
    document.addEventListener("scroll", onScroll, true);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("scroll", onScroll, true);
    };
  }, [open]);
  return { open, close, on: { onPointerEnter: (event) => event.pointerType === "mouse" && later(), onPointerLeave: close, onFocusIn: later, onFocusOut: close } };
}
