// Runs before the first paint: a dark page must not flash white, and a browser that is too old shows a message.
// In the language of old browsers, which read this file too.

(function () {
  var choice = null;
  var page = document.documentElement;
  try {
    choice = JSON.parse(localStorage.getItem("theme"));
  } catch (error) {
    // Storage may be forbidden or hold something else: the system's choice then.
  }
  // true and false were written by earlier versions.
  if (choice === true || choice === "dark") page.setAttribute("data-theme", "dark");
  if (choice === false || choice === "light") page.setAttribute("data-theme", "light");
  if (!window.Map || !Map.groupBy || !window.AbortSignal || !AbortSignal.any) page.setAttribute("data-old", "");
})();
