// The filters above the queries, and the choice of the two settings whose answers are shown. They stand in the page's
// address, as `#gallery?picked=worst&verdict=wrong`, so that a link opens the same view.
function setUpGallery(sources) {
  const filters = document.querySelector(".filters");
  if (!filters) { return; }
  const list = document.getElementById("queries");
  const count = document.getElementById("count");
  const change = document.getElementById("change");
  const left = document.getElementById("left"); // absent where only one setting has answers
  const beside = document.getElementById("beside");
  const selects = left ? [left, beside] : [];
  const groups = {};
  filters.querySelectorAll("button").forEach(function (button) {
    (groups[button.dataset.key] = groups[button.dataset.key] || []).push(button);
  });
  const STEP = 12;
  const cards = pager(Array.from(list.children), list, STEP, afterShow);
  const start = words();

  function wanted(key) {
    return groups[key].find(function (one) { return one.getAttribute("aria-pressed") === "true"; }).dataset;
  }

  // The choices by their words in the address.
  function words() {
    const found = {};
    Object.keys(groups).forEach(function (key) { found[key] = wanted(key).word; });
    selects.forEach(function (one) { found[one.id] = one.selectedOptions[0].dataset.word; });
    found.shown = String(cards.limit);
    return found;
  }

  // Makes the choices that `given` names; the others, and those that this page does not have, are as at first.
  function choose(given) {
    Object.keys(groups).forEach(function (key) {
      const named = groups[key].find(function (one) { return one.dataset.word === given.get(key); });
      press(named || groups[key].find(function (one) { return one.dataset.word === start[key]; }));
    });
    selects.forEach(function (one) {
      const options = Array.from(one.options);
      const named = options.find(function (option) { return option.dataset.word === given.get(one.id); });
      (named || options.find(function (option) { return option.dataset.word === start[one.id]; })).selected = true;
    });
    cards.limit = Math.max(STEP, parseInt(given.get("shown"), 10) || STEP);
    show();
  }

  function given() {
    return location.hash.startsWith("#gallery?") ? new URLSearchParams(location.hash.slice("#gallery?".length)) : null;
  }

  // Writes what differs from the first view into the address.
  function write() {
    const found = words();
    const other = new URLSearchParams();
    Object.keys(found).forEach(function (key) { if (found[key] !== start[key]) { other.set(key, found[key]); } });
    const text = String(other);
    if (text || given()) { history.replaceState(null, "", text ? "#gallery?" + text : "#gallery"); }
  }

  function answerOf(card, setting) {
    return card.querySelector('.answer[data-setting="' + setting + '"]');
  }

  // Shows the answers of the chosen settings, and hides the others.
  function showAnswers(card, second) {
    card.querySelectorAll(".answer").forEach(function (answer) {
      const setting = answer.dataset.setting;
      answer.hidden = setting !== left.value && setting !== second;
      answer.style.order = setting === left.value ? 1 : 2;
    });
  }

  // Notes on a card what the filters ask about: whether the first answer is right, and how the second one differs.
  function noteVerdicts(card, second) {
    const first = answerOf(card, left.value);
    const other = second && answerOf(card, second);
    const gain = first && other ? other.dataset.score - first.dataset.score : 0;
    card.dataset.verdict = first ? first.dataset.verdict : "";
    card.dataset.change = gain > 0 ? "better" : gain < 0 ? "worse" : "";
  }

  function show() {
    if (left) {
      const second = beside.value === left.value ? "" : beside.value;
      list.classList.toggle("two", Boolean(second));
      change.hidden = !second;
      if (!second) { press(groups.change[0]); }
      cards.items.forEach(function (card) {
        showAnswers(card, second);
        noteVerdicts(card, second);
      });
    }
    const asked = {};
    Object.keys(groups).forEach(function (key) { asked[key] = wanted(key).value; });
    cards.isWanted = function (card) {
      return Object.keys(asked).every(function (key) { return !asked[key] || card.dataset[key] === asked[key]; });
    };
    cards.show();
  }

  function afterShow(own) {
    const n = Math.min(own.n, own.limit);
    own.items.forEach(function (card) { if (!card.hidden) { fill(card, sources); } });
    count.textContent = n + " of " + own.n + " queries shown; " + own.items.length + " without filters";
    if (start) { write(); }
  }

  function press(button) {
    groups[button.dataset.key].forEach(function (other) {
      other.setAttribute("aria-pressed", String(other === button));
    });
  }

  filters.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (!button) { return; }
    press(button);
    cards.limit = STEP;
    show();
  });
  filters.addEventListener("change", show);
  window.addEventListener("hashchange", function () {
    const asked = given();
    if (asked) { choose(asked); }
  });
  filters.hidden = false;
  choose(given() || new URLSearchParams());
  if (given()) { document.getElementById("gallery").scrollIntoView({ behavior: "instant" }); }
}
