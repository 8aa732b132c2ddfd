// What the page does beyond plain HTML. Without it everything can still be read and done.
"use strict";

(() => {
  const NARROW = "(max-width: 48rem)";
  const trouble = () => document.getElementById("trouble");

  // Where the pages' names do not fit, that of the present one is in sight. To scroll it into view
  // would have Chromium go on from there at the first Tab, past the link that skips to the content.
  const present = document.querySelector("header [aria-current]");
  if (present) {
    const middle = ({ left, width }) => left + width / 2;
    const names = present.parentElement;
    names.scrollLeft += middle(present.getBoundingClientRect()) - middle(names.getBoundingClientRect());
  }

  // The language is changed on the page that is shown, with the search as it stands.
  for (const back of document.querySelectorAll("[name=back]")) {
    back.form.addEventListener("submit", () => {
      if (document.body.dataset.method === "GET") back.value = location.pathname + location.search;
    });
  }

  // On a phone the search gets out of the way until it is wanted.
  for (const fold of document.querySelectorAll("details[data-fold]")) {
    if (matchMedia(NARROW).matches && !fold.hasAttribute("data-used")) fold.open = false;
  }

  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => print());
  }

  // How many records are listed, said again when older ones have been added.
  const recount = (list) => {
    const count = document.getElementById("count");
    const shown = list.children.length.toLocaleString(document.documentElement.lang);
    const more = document.querySelector("#older a") !== null && count.dataset.part;
    count.textContent = (more || count.dataset.all).replace("{count}", shown);
  };

  let last = null;

  document.addEventListener("htmx:beforeSwap", (event) => {
    trouble().hidden = true;
    if (event.detail.target.id === "rows") last = event.detail.target.lastElementChild;
  });

  // How many there are is said aloud by what stays on the page; what is put in new may not be.
  const say = () => {
    document.getElementById("said").textContent = document.getElementById("count").textContent;
  };

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target.id === "results") say();
    if (event.detail.target.id !== "rows" || last === null) return;
    recount(event.detail.target);
    say();
    // What was pressed is gone: the first of what came is where one goes on.
    (last.nextElementSibling ?? document.getElementById("older"))?.querySelector("a")?.focus();
    last = null;
  });

  for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(failure, () => { trouble().hidden = false; });
  }
})();
