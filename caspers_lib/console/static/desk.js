// Keys of the list: j and k move, Enter opens, a approves, r rejects, u undoes, x selects, / searches.
(() => {
  const list = document.getElementById("list");
  const filter = document.getElementById("filter");
  const rows = () => [...document.querySelectorAll(".case")];
  const current = () => document.activeElement?.closest?.(".case");
  const typing = (node) => node.matches?.("input:not([type=checkbox]), textarea, select");
  const dollars = (usd) => usd.toLocaleString("en-US", { style: "currency", currency: "USD" });
  const refuse = (text) => document.dispatchEvent(new CustomEvent("toast", { detail: { text, ok: false } }));

  const keys = {
    j: () => move(1),
    k: () => move(-1),
    Enter: () => current()?.querySelector("a.open")?.click(),
    a: () => press("button.approve"),
    r: () => press("button.reject"),
    u: () => press("button.undo", "There is nothing to undo here."),
    x: () => press("input[type=checkbox]", "This one is decided for itself."),
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

  function press(what, otherwise) {
    const row = list ? current() : document.getElementById("main");
    const control = row?.querySelector(what);
    if (control && getComputedStyle(control).visibility !== "hidden") control.click();
    else if (list) refuse(row ? `${otherwise ?? row.dataset.why} Enter opens it.` : "Press j to go to a row first.");
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    // Enter on a button or a link is that button's or link's.
    if (event.key === "Enter" && !event.target.matches?.(".case")) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || "jk".includes(event.key)) action();
  });

  // Where the last click decided and the pointer still is, another case is not decided: the page moved.
  let last = null;
  const near = (event) => Math.hypot(event.clientX - last.x, event.clientY - last.y) < 5;
  document.addEventListener("scroll", () => { last = null; });
  document.addEventListener("pointermove", (event) => { if (last && !near(event)) last = null; });
  list?.addEventListener("click", (event) => {
    const row = event.target.closest("button[name=offer]")?.closest(".case").id;
    if (!row || !event.detail) return;
    if (last && last.row !== row && near(event)) {
      event.preventDefault();
      event.stopImmediatePropagation();
      refuse("The list moved under the pointer: nothing was decided. Point again.");
    } else last = { row, x: event.clientX, y: event.clientY };
  }, true);

  // How many are selected and how much that is: shown before it acts, and sent with it.
  function count() {
    const bar = document.querySelector(".bulk");
    if (!bar) return;
    const ticked = [...list.querySelectorAll("input[name=pick]:checked")];
    const usd = ticked.reduce((sum, box) => sum + Math.round(100 * box.dataset.usd), 0) / 100;
    bar.querySelector("[name=count]").value = ticked.length;
    bar.querySelector("[name=usd]").value = usd.toFixed(2);
    for (const button of bar.querySelectorAll("[data-words]")) {
      const sum = button.value === "approve" ? `: ${dollars(usd)}` : "";
      button.textContent = `${button.dataset.words} ${ticked.length}${sum}`;
      button.disabled = !ticked.length;
    }
  }
  list?.addEventListener("change", count);
  count();

  // Who pressed a button that is gone goes on from its row.
  let acted = null;
  document.addEventListener("htmx:beforeRequest", (event) => {
    acted = event.target.closest?.(".case")?.id ?? acted;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target !== list) return;
    htmx.process(list);
    count();
    if (acted && document.activeElement === document.body) {
      document.getElementById(acted)?.focus({ preventScroll: true });
    }
  });

  // The first button of a case's form says what it will give: what stands in the field.
  const form = document.querySelector("form.decide");
  const give = form?.querySelector(".give");
  const isOffer = () => form.elements.amount_usd.value === "" || form.elements.amount_usd.valueAsNumber === Number(give.dataset.usd);
  function label() {
    const usd = form.elements.amount_usd.valueAsNumber;
    if (usd > 0) give.textContent = `${isOffer() ? give.dataset.words : "Give"} ${dollars(usd)}`;
    else give.textContent = "Give the amount above";
  }
  if (give) {
    form.elements.amount_usd.addEventListener("input", label);
    window.addEventListener("pageshow", label);
    label();
  }
  form?.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    form.elements.reason.required = "reason" in button.dataset || (button === give && !isOffer());
    if (give) form.elements.amount_usd.required = button === give;
  });

  // On a phone the list comes first, unless something is looked for.
  if (filter && matchMedia("(max-width: 40rem)").matches && !location.search) filter.open = false;

  // The server says when something changed; a hidden page doesn't listen.
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
