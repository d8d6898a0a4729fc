// Sets light or dark before the first paint, so that the page does not flash. The console itself takes over afterwards.
(function () {
  var kept = null;
  try {
    kept = localStorage.getItem("mantine-color-scheme-value");
  } catch (e) {
    // Storage may be forbidden; then the system decides.
  }
  var dark = kept === "dark" || (kept !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
