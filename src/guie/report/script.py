"""The report's one script, a text that goes into the page. Without it the page shows every query, and the buttons that need it stay hidden."""

FILTERS = """
  var filters = document.querySelector(".filters");
  var cards = Array.from(document.querySelectorAll(".card"));
  var list = document.querySelector(".cards"), count = document.getElementById("count"), change = document.getElementById("change");
  var left = document.getElementById("left"), beside = document.getElementById("beside");
  var wanted = { domain: "", picked: "", verdict: "", change: "" };

  // Thumbnails by number: answers that are hidden at first have only the numbers.
  var sources = {}, rest = document.getElementById("thumbnails");
  if (rest) {
    var given = JSON.parse(rest.textContent);
    Object.keys(given).forEach(function (number) { sources[number] = "data:image/jpeg;base64," + given[number]; });
  }
  document.querySelectorAll("img[data-picture][src]").forEach(function (image) { sources[image.dataset.picture] = image.src; });

  // What one setting answers to a card's query.
  function answer(card, setting) { return card.querySelector('.answer[data-setting="' + setting + '"]'); }

  // Shows the chosen settings' answers in their order, and notes on the card what the filters ask about.
  function choose() {
    var second = beside.value === left.value ? "" : beside.value;
    list.classList.toggle("two", Boolean(second));
    change.hidden = !second;
    if (!second && wanted.change) { press(change.querySelector("button")); }
    cards.forEach(function (card) {
      card.querySelectorAll(".answer").forEach(function (one) {
        one.hidden = one.dataset.setting !== left.value && one.dataset.setting !== second;
        if (!one.hidden) { one.querySelectorAll("img:not([src])").forEach(function (image) { image.src = sources[image.dataset.picture]; }); }
        one.style.order = one.dataset.setting === left.value ? 1 : 2;
      });
      var first = answer(card, left.value), other = second && answer(card, second);
      card.dataset.verdict = first ? first.dataset.verdict : "";
      var gain = first && other ? other.dataset.score - first.dataset.score : 0;
      card.dataset.change = gain > 0 ? "better" : gain < 0 ? "worse" : "";
    });
  }

  function show() {
    var shown = 0;
    cards.forEach(function (card) {
      card.hidden = !Object.keys(wanted).every(function (key) { return !wanted[key] || card.dataset[key] === wanted[key]; });
      shown += card.hidden ? 0 : 1;
    });
    count.textContent = shown + " of " + cards.length + " queries shown";
  }

  function press(button) {
    wanted[button.dataset.key] = button.dataset.value;
    button.parentNode.querySelectorAll("button").forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
  }

  if (filters) {
    filters.addEventListener("click", function (event) {
      var button = event.target.closest("button");
      if (button) { press(button); show(); }
    });
    if (left) {
      filters.addEventListener("change", function () { choose(); show(); });
      choose();
    }
    filters.hidden = false;
    show();
  }
"""

MAP = """
  var map = document.getElementById("map");
  if (!map) { return; }
  var tip = document.getElementById("tip"), tile = tip.querySelector("img"), svg = map.querySelector("svg"), at = -1;
  var columns = Number(map.dataset.columns), side = Number(map.dataset.tile);
  var points = Array.from(map.querySelectorAll("[data-i]")).map(function (mark) {
    var box = mark.getBBox(), title = mark.querySelector("title"), text = title.textContent;
    title.remove();  // else the browser shows its own tip as well
    return { mark: mark, x: box.x + box.width / 2, y: box.y + box.height / 2, text: text };
  });

  function leave() {
    points.forEach(function (point) { point.mark.classList.remove("same", "at", "faint"); });
    tip.hidden = true;
    at = -1;
  }

  function go(i) {
    if (i === at) { return; }
    at = i;
    var point = points[i], family = point.mark.dataset.c;
    points.forEach(function (other) {
      var same = other.mark.dataset.c === family;
      other.mark.classList.toggle("same", same);
      other.mark.classList.toggle("faint", !same);
      other.mark.classList.toggle("at", other === point);
    });
    tip.querySelector("span").textContent = point.text;
    if (tile) { tile.style.left = -(i % columns) * side + "px"; tile.style.top = -Math.floor(i / columns) * side + "px"; }
    tip.hidden = false;
    var place = point.mark.getBoundingClientRect(), frame = map.getBoundingClientRect();
    var x = place.left + place.width / 2 - frame.left, y = place.top + place.height / 2 - frame.top;
    tip.style.left = Math.max(0, Math.min(x < frame.width / 2 ? x + 14 : x - 14 - tip.offsetWidth, frame.width - tip.offsetWidth)) + "px";
    tip.style.top = Math.max(0, Math.min(y + 10, frame.height - tip.offsetHeight)) + "px";
  }

  // The point with the smallest cost, -1 if it is infinite for all.
  function least(cost) {
    var best = -1, lowest = Infinity;
    points.forEach(function (point, i) { var own = cost(point, i); if (own < lowest) { lowest = own; best = i; } });
    return best;
  }

  function under(event) {
    var place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    var reach = event.pointerType === "mouse" ? 20 : 40;
    var i = least(function (point) { var far = Math.hypot(point.x - place.x, point.y - place.y); return far < reach ? far : Infinity; });
    if (i < 0) { leave(); } else { go(i); }
  }

  var ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  map.addEventListener("pointermove", under);
  map.addEventListener("pointerdown", under);
  map.addEventListener("pointerleave", function (event) { if (event.pointerType === "mouse") { leave(); } });
  map.addEventListener("focusout", leave);
  map.addEventListener("keydown", function (event) {
    var way = ways[event.key];
    if (event.key === "Escape") { leave(); }
    if (!way) { return; }
    event.preventDefault();
    var box = svg.viewBox.baseVal, from = at < 0 ? { x: box.width / 2, y: box.height / 2 } : points[at];
    // The nearest one ahead; what lies aside counts twice.
    var next = least(function (point, i) {
      var ahead = (point.x - from.x) * way[0] + (point.y - from.y) * way[1];
      var aside = Math.abs((point.x - from.x) * way[1]) + Math.abs((point.y - from.y) * way[0]);
      return i === at || ahead <= 0 || aside > 3 * ahead + 5 ? Infinity : ahead + 2 * aside;
    });
    if (next >= 0) { go(next); }
  });
"""

SCRIPT = f"""
(function () {{
  "use strict";
{FILTERS}
{MAP}
}})();
"""
