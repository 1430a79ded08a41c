// Small helpers for pointer and keyboard.

/** Copy *text*, also where the page is not on a secure origin. Resolves to whether it worked. */
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
  // Inside an open dialog, or the dialog's focus trap would take the selection away.
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

/** Run *action* at most once per frame, with the last arguments. */
export function perFrame(action) {
  let pending = 0;
  return () => {
    pending ||= requestAnimationFrame(() => {
      pending = 0;
      action();
    });
  };
}

/** Return a function that runs *action* at once, but not more often than every *everyMs*. */
export function paced(everyMs, action) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    action();
  };
  return () => { timer ||= setTimeout(run, Math.max(0, last + everyMs - performance.now())); };
}

/** Call *action* every *everyMs* while the tab is visible; returns how to stop. */
export function everyVisible(everyMs, action) {
  const timer = setInterval(() => document.hidden || action(), everyMs);
  return () => clearInterval(timer);
}
