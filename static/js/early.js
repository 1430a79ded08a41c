// Runs before the first paint, so that a dark page does not flash white.

(() => {
  let choice = null;
  try {
    choice = JSON.parse(localStorage.getItem("theme"));
  } catch {
    // Storage may be forbidden or hold something else: the system's choice then.
  }
  // true and false were written by earlier versions.
  if (choice === true || choice === "dark") document.documentElement.dataset.theme = "dark";
  if (choice === false || choice === "light") document.documentElement.dataset.theme = "light";
})();
