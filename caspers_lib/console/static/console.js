// Pages refresh themselves (htmx); this adds what markup can't say.
(() => {
  const part = document.querySelector("[data-refresh]");
  const offline = document.getElementById("offline");
  const own = (event) => part !== null && event.detail.elt === part;

  // A hidden page asks for nothing, and catches up when it is seen again.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (own(event) && document.hidden) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && part) htmx.trigger(part, "refresh");
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (own(event)) offline.hidden = event.detail.successful;
    else if (!event.detail.xhr?.status) say("The console does not answer.", false);
  });

  // What an action did, or why it was refused; the answer's HX-Trigger header brings it.
  document.addEventListener("toast", (event) => say(event.detail.text, event.detail.ok));

  function say(text, ok) {
    const toast = document.createElement("p");
    toast.className = ok ? "toast" : "toast refused";
    toast.textContent = text;
    const toasts = document.getElementById("toasts");
    toasts.replaceChildren(toast);
    setTimeout(() => toast.remove(), ok ? 4000 : 10000);
  }

  // What a person types into, or a script draws, is not the server's to change.
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (node) => !node.dataset || !("keep" in node.dataset);
  // Rows that were not there before are lit for a moment.
  Idiomorph.defaults.callbacks.afterNodeAdded = (node) => {
    if (node.classList?.contains("row")) node.classList.add("arrived");
  };
})();
