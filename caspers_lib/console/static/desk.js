// Keys of the list: j and k move, Enter opens, a approves, r rejects, x selects, / searches.
(() => {
  const rows = () => [...document.querySelectorAll(".case")];
  const current = () => document.activeElement?.closest?.(".case");
  const filter = document.getElementById("filter");
  const typing = (node) => node.matches?.("input:not([type=checkbox]), textarea, select");

  const keys = {
    j: () => move(1),
    k: () => move(-1),
    Enter: () => current()?.querySelector("a.open")?.click(),
    a: () => current()?.querySelector("button.approve")?.click(),
    r: () => current()?.querySelector("button.reject")?.click(),
    x: () => current()?.querySelector("input[type=checkbox]")?.click(),
    "/": () => {
      if (filter) filter.open = true;
      document.getElementById("search")?.focus();
    },
  };

  function move(by) {
    const all = rows();
    const at = all.indexOf(current());
    all[Math.max(0, Math.min(all.length - 1, at + by))]?.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    // Enter on a button or a link is that button's or link's.
    if (event.key === "Enter" && !event.target.matches?.(".case")) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  // On a phone the list comes first, unless something is looked for.
  if (filter && matchMedia("(max-width: 40rem)").matches && !location.search) filter.open = false;

  // The server says when something changed; a hidden page doesn't listen.
  const list = document.getElementById("list");
  let source = null;
  function listen() {
    if (document.hidden || source || !list?.dataset.changes) return;
    source = new EventSource(list.dataset.changes);
    let first = true;
    source.addEventListener("changed", () => {
      if (!first) htmx.trigger(list, "refresh");
      first = false;
    });
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = null; }
    else listen();
  });
  window.addEventListener("load", listen);
})();
