// Pictures, lists that show a part of their items, tables that sort, and edges that show that there is more.

// The sources of all pictures by number. Images that are hidden at first have only the number: the page holds each
// picture that no visible image shows once, as JSON.
function pictureSources() {
  const sources = {};
  const rest = document.getElementById("thumbnails");
  const given = rest ? JSON.parse(rest.textContent) : {};
  Object.keys(given).forEach(function (number) {
    sources[number] = "data:image/jpeg;base64," + given[number];
  });
  document.querySelectorAll("#queries img[data-picture][src]").forEach(function (image) {
    sources[image.dataset.picture] = image.src;
  });
  return sources;
}

// Gives an image within a visible item its source.
function fill(item, sources) {
  item.querySelectorAll("img[data-picture]:not([src])").forEach(function (image) {
    const source = sources[image.dataset.picture];
    if (source && !image.closest("[hidden]")) { image.src = source; }
  });
}

// Shows the first items of a list, and after `anchor` a button for as many more.
function pager(items, anchor, step, onShow) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  anchor.after(button);
  const own = { items: items, limit: step, isWanted: function () { return true; }, n: 0, show: show };

  function show() {
    own.n = 0;
    own.items.forEach(function (item) {
      const isWanted = own.isWanted(item);
      own.n += isWanted ? 1 : 0;
      item.hidden = !isWanted || own.n > own.limit;
    });
    button.hidden = own.n <= own.limit;
    button.textContent = "more (" + (own.n - own.limit) + " left)";
    onShow(own);
  }

  button.addEventListener("click", function () {
    const next = own.items.filter(own.isWanted)[own.limit];
    own.limit += step;
    show();
    const stop = next.tabIndex === 0 ? next : next.querySelector("[tabindex='0']");
    if (stop) { stop.focus({ preventScroll: true }); } // the button may be gone
  });
  return own;
}

// Lists of cards that have no filters: those of `guie look`.
function setUpCards(sources) {
  document.querySelectorAll(".cards:not(#queries)").forEach(function (list) {
    pager(Array.from(list.children), list, 12, function (own) {
      own.items.forEach(function (item) { if (!item.hidden) { fill(item, sources); } });
    }).show();
  });
}

// A table with many rows: 20 are shown, then more; a click on the head of a column sorts.
function setUpTables(sources) {
  document.querySelectorAll("table.sortable").forEach(function (table) {
    const body = table.tBodies[0];
    const rows = pager(Array.from(body.rows), table.closest(".scroll"), 20, function (own) {
      own.items.forEach(function (row) { if (!row.hidden) { fill(row, sources); } });
    });
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      if (rows.items.some(function (row) { return row.cells[column].querySelector("img"); })) { return; }
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", function () { sortRows(rows, body, head, column); });
    });
    rows.show();
  });
  document.querySelectorAll("table:not(.sortable)").forEach(function (table) { fill(table, sources); });
}

// Texts rise at first, numbers fall; a second click turns the order round. Empty cells come last.
function sortRows(rows, body, head, column) {
  const isNumber = head.classList.contains("n");
  const first = isNumber ? "descending" : "ascending";
  const turned = first === "ascending" ? "descending" : "ascending";
  const way = head.getAttribute("aria-sort") === first ? turned : first;
  Array.from(head.parentNode.cells).forEach(function (cell) { cell.removeAttribute("aria-sort"); });
  head.setAttribute("aria-sort", way);
  const valued = rows.items.map(function (row) {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    const value = isNumber ? number : text;
    return { row: row, value: value, isEmpty: isNumber ? isNaN(number) : !text };
  });
  valued.sort(function (a, b) {
    if (a.isEmpty || b.isEmpty) { return a.isEmpty - b.isEmpty; }
    const order = isNumber ? a.value - b.value : a.value.localeCompare(b.value);
    return way === "ascending" ? order : -order;
  });
  rows.items = valued.map(function (one) { return one.row; });
  body.append(...rows.items);
  rows.show();
}

// Marks what can be scrolled sideways, so that the style sheet fades the edge behind which there is more.
function setUpEdges() {
  const watch = new ResizeObserver(function (entries) {
    entries.forEach(function (entry) { mark(entry.target.closest("nav ul, .scroll, pre") || entry.target); });
  });

  function mark(box) {
    box.classList.toggle("more-left", box.scrollLeft > 1);
    box.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  }

  document.querySelectorAll("nav ul, .scroll, pre").forEach(function (box) {
    box.addEventListener("scroll", function () { mark(box); }, { passive: true });
    watch.observe(box);
    if (box.firstElementChild) { watch.observe(box.firstElementChild); }
  });
}
