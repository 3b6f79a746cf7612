// A picture that is clicked, or that has the focus when Enter is pressed, is shown large, with the name of its file.
function setUpDialog(sources) {
  const dialog = document.getElementById("large");
  if (!dialog || !dialog.showModal) { return; }
  const image = document.createElement("img"); // part of the page while the dialog is open
  const file = document.getElementById("large-file");
  const what = document.getElementById("large-what");
  let group = []; // the pictures among which the arrow keys go
  let at = 0;
  let opener = null;

  document.querySelectorAll(".card").forEach(function (card) { card.tabIndex = 0; });
  document.querySelectorAll(".card img[data-picture]").forEach(function (one) { one.tabIndex = -1; });
  document.querySelectorAll("td img[data-picture]").forEach(function (one) { one.tabIndex = 0; });

  // The visible pictures of the card or row that an element belongs to.
  function picturesOf(element) {
    const all = Array.from(element.closest(".card, tr").querySelectorAll("img[data-picture]"));
    return all.filter(function (one) { return one.getClientRects().length > 0; }).sort(function (a, b) {
      const first = a.getBoundingClientRect();
      const second = b.getBoundingClientRect();
      const below = first.top - second.top;
      return Math.abs(below) > 20 ? below : first.left - second.left;
    });
  }

  function show(i) {
    at = (i + group.length) % group.length;
    const shown = group[at];
    const sign = shown.parentNode.querySelector(".sign");
    image.src = shown.src || sources[shown.dataset.picture];
    image.alt = shown.alt;
    file.textContent = shown.dataset.file || shown.title;
    what.textContent = shown.alt + (sign && shown.closest(".answer") ? " · " + sign.textContent.trim() : "");
    dialog.querySelectorAll("[data-way]").forEach(function (button) { button.hidden = group.length < 2; });
  }

  function open(target) {
    opener = target;
    group = picturesOf(target);
    show(Math.max(0, group.indexOf(target)));
    dialog.querySelector("figure").prepend(image);
    dialog.showModal();
  }

  document.addEventListener("click", function (event) {
    const picture = event.target.closest(".card img[data-picture], td img[data-picture]");
    const target = picture || event.target.closest(".card");
    const isText = String(window.getSelection()); // somebody marks a text to copy it
    if (target && !event.target.closest("a, button, dialog") && (picture || !isText)) { open(target); }
  });
  document.addEventListener("keydown", function (event) {
    if (dialog.open || !event.target.matches(".card, .card img, td img[data-picture]")) { return; }
    if (event.key === "Enter") {
      event.preventDefault();
      open(event.target);
    }
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (way && event.target.closest(".card")) {
      event.preventDefault();
      const stops = [event.target.closest(".card"), ...picturesOf(event.target)];
      const next = stops[stops.indexOf(event.target) + way];
      if (next) { next.focus(); }
    }
  });
  dialog.addEventListener("keydown", function (event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (way) { show(at + way); }
  });
  dialog.addEventListener("click", function (event) {
    if (event.target.dataset.way) { show(at + Number(event.target.dataset.way)); }
    const isBeside = event.target === dialog; // on the ground, not on what lies in the dialog
    if (isBeside || event.target.closest(".close")) { dialog.close(); }
  });
  dialog.addEventListener("close", function () { // it comes after close(): another picture may be open by then
    if (dialog.open) { return; }
    image.remove();
    if (opener) { opener.focus({ preventScroll: true }); }
  });
}
