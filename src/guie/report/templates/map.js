// The map: the image that is pointed at, or reached by the arrow keys, shows its tile, and its class stands out.
function setUpMap() {
  const map = document.getElementById("map");
  if (!map) { return; }
  const tip = document.getElementById("tip");
  const tile = tip.querySelector("img");
  const svg = map.querySelector("svg");
  const columns = Number(map.dataset.columns);
  const side = Number(map.dataset.tile);
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const points = Array.from(map.querySelectorAll("[data-i]")).map(function (mark) {
    const box = mark.getBBox();
    const title = mark.querySelector("title");
    title.remove(); // or the browser would show its own tip as well
    return { mark: mark, x: box.x + box.width / 2, y: box.y + box.height / 2, text: title.textContent };
  });
  let at = -1; // the number of the point that the tip is about

  function leave() {
    points.forEach(function (point) { point.mark.classList.remove("same", "at", "faint"); });
    tip.hidden = true;
    at = -1;
  }

  function go(i) {
    if (i === at) { return; }
    at = i;
    const mark = points[i].mark;
    points.forEach(function (other) {
      const isSame = other.mark.dataset.c === mark.dataset.c;
      other.mark.classList.toggle("same", isSame);
      other.mark.classList.toggle("faint", !isSame);
      other.mark.classList.toggle("at", other.mark === mark);
    });
    tip.querySelector("span").textContent = points[i].text;
    if (tile) {
      tile.style.left = -(i % columns) * side + "px";
      tile.style.top = -Math.floor(i / columns) * side + "px";
    }
    tip.hidden = false;
    placeTip(mark);
  }

  // Puts the tip beside a mark, on the side that has more room, and keeps it within the map.
  function placeTip(mark) {
    const place = mark.getBoundingClientRect();
    const frame = map.getBoundingClientRect();
    const x = place.left + place.width / 2 - frame.left;
    const y = place.top + place.height / 2 - frame.top;
    const left = x < frame.width / 2 ? x + 14 : x - 14 - tip.offsetWidth;
    tip.style.left = Math.max(0, Math.min(left, frame.width - tip.offsetWidth)) + "px";
    tip.style.top = Math.max(0, Math.min(y + 10, frame.height - tip.offsetHeight)) + "px";
  }

  // The number of the point with the smallest cost; -1 if all costs are infinite.
  function cheapest(cost) {
    let best = -1;
    let lowest = Infinity;
    points.forEach(function (point, i) {
      const own = cost(point, i);
      if (own < lowest) {
        lowest = own;
        best = i;
      }
    });
    return best;
  }

  function goToPointer(event) {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const reach = event.pointerType === "mouse" ? 20 : 40;
    const i = cheapest(function (point) {
      const distance = Math.hypot(point.x - place.x, point.y - place.y);
      return distance < reach ? distance : Infinity;
    });
    if (i < 0) { leave(); } else { go(i); }
  }

  // The nearest point in a direction. What lies to the side counts twice, and must not lie too far aside.
  function pointAhead(way) {
    const box = svg.viewBox.baseVal;
    const from = at < 0 ? { x: box.width / 2, y: box.height / 2 } : points[at];
    return cheapest(function (point, i) {
      const ahead = (point.x - from.x) * way[0] + (point.y - from.y) * way[1];
      const aside = Math.abs((point.x - from.x) * way[1]) + Math.abs((point.y - from.y) * way[0]);
      return i === at || ahead <= 0 || aside > 3 * ahead + 5 ? Infinity : ahead + 2 * aside;
    });
  }

  map.addEventListener("pointermove", goToPointer);
  map.addEventListener("pointerdown", goToPointer);
  map.addEventListener("pointerleave", function (event) {
    if (event.pointerType === "mouse") { leave(); }
  });
  map.addEventListener("focusout", leave);
  map.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { leave(); }
    const way = ways[event.key];
    if (!way) { return; }
    event.preventDefault();
    const next = pointAhead(way);
    if (next >= 0) { go(next); }
  });
}
