// The page refreshes itself (htmx); this adds what markup can't say.
(() => {
  const live = document.getElementById("live");
  const offline = document.getElementById("offline");

  // A hidden page asks for nothing, and catches up when it is seen again.
  live.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) htmx.trigger(live, "refresh");
  });

  live.addEventListener("htmx:afterRequest", (event) => {
    offline.hidden = event.detail.successful;
  });

  // Rows that were not there before are lit for a moment.
  Idiomorph.defaults.callbacks.afterNodeAdded = (node) => {
    if (node.classList?.contains("row")) node.classList.add("arrived");
  };
})();
