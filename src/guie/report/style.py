"""The report's style sheet and its one script, as texts that go into the page: nothing is fetched."""

CSS = """
:root { color-scheme: light dark;
  --ground: #f6f7f9; --paper: #ffffff; --ink: #16202c; --soft: #566372; --rule: #d9dfe6; --grid: #e8ecf1;
  --accent: #1d5fd1; --accent-ink: #ffffff; --step: #8fb4ee; --step-ink: #10233f; --first: #a9b4c0; --first-ink: #16202c; --second: #b4530a;
  --right: #13773a; --right-ground: #e4f5ea; --wrong: #b3261e; --wrong-ground: #fdeceb; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #10151b; --paper: #182029; --ink: #e7edf3; --soft: #9fb0c0; --rule: #303c48; --grid: #26313c;
  --accent: #6ea8ff; --accent-ink: #0b1a30; --step: #2f5590; --step-ink: #e7edf3; --first: #55636f; --first-ink: #f2f5f8; --second: #f2a65a;
  --right: #5fd08a; --right-ground: #15301f; --wrong: #ff8a80; --wrong-ground: #3a1a18; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
html { scroll-behavior: smooth; scroll-padding-top: 3.6rem; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 1rem; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .3rem; font-size: 1.3rem; }
h3 { margin: 0 0 .3rem; font-size: 1rem; overflow-wrap: anywhere; }
p { margin: 0 0 .8rem; max-width: 95ch; }
code, pre { font: .85em/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999px; top: 0; background: var(--paper); padding: .5rem 1rem; z-index: 9; }
.skip:focus { left: 0; }
header { padding-top: 2rem; }
.kicker { color: var(--soft); margin: 0 0 .2rem; }
.facts { color: var(--soft); margin: .4rem 0 1rem; overflow-wrap: anywhere; }
.facts b { color: var(--ink); font-weight: 600; }
.hero { display: grid; grid-template-columns: auto repeat(5, auto); gap: .6rem 1.6rem; align-items: start;
  background: var(--paper); border: 1px solid var(--rule);
  border-radius: 12px; padding: 1rem 1.3rem; margin-bottom: 1rem; }
.hero > div > span { display: block; color: var(--soft); font-size: .88rem; }
.hero > div:not(.score) { padding-top: 1.5rem; }
.hero b { display: block; white-space: nowrap; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.hero .score b { font-size: clamp(3.2rem, 12vw, 4.6rem); line-height: 1; color: var(--accent); letter-spacing: -.02em; }
nav { position: sticky; top: 0; z-index: 5; background: var(--ground); border-bottom: 1px solid var(--rule); }
nav ul { display: flex; gap: .2rem; list-style: none; margin: 0 auto; padding: .35rem 1rem; max-width: 1120px; overflow-x: auto; }
nav a { display: block; padding: .35rem .6rem; text-decoration: none; white-space: nowrap; border-radius: 6px; }
nav a:hover { background: var(--paper); }
section { background: var(--paper); border: 1px solid var(--rule); border-radius: 12px; padding: 1.1rem 1.3rem; margin: 1rem 0; }
.note { color: var(--soft); font-size: .92rem; }
.absent { color: var(--soft); font-style: italic; }
.pair { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 1rem 1.6rem; align-items: start; }
.pair.data { grid-template-columns: minmax(0, 4fr) minmax(0, 9fr); }
.pair > * { min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody th { color: var(--ink); font-weight: 500; vertical-align: top; min-width: 8rem; max-width: 20rem; overflow-wrap: break-word; }
tr > th:first-child { position: sticky; left: 0; background: var(--paper); }
td.n small, th small { display: block; font-weight: 400; font-size: .82em; color: var(--soft); }
.short { max-width: 40rem; margin-bottom: 1rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n, td.tight { white-space: nowrap; }
tr.final th, tr.final td { font-weight: 700; background: color-mix(in srgb, var(--accent) 10%, var(--paper)); }
tr.stage th { padding-left: 1.6rem; font-weight: 400; color: var(--soft); }
tr.total th, tr.total td { font-weight: 700; border-bottom: 0; }
.wide { overflow-wrap: anywhere; min-width: 12rem; }
.meter { height: .55rem; margin-top: .45rem; border-radius: 3px; background: var(--accent); min-width: 1px; }
tr.stage .meter { background: var(--step); }
.meters { width: 34%; min-width: 5rem; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
.bars svg { max-width: 520px; }
svg text { fill: var(--ink); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .label { font-weight: 600; }
svg .tick, svg .axis { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--grid); } svg .rule { stroke: var(--soft); }
svg .first { fill: var(--first); } svg .step { fill: var(--step); } svg .final { fill: var(--accent); }
svg .inside.on-first { fill: var(--first-ink); } svg .inside.on-step { fill: var(--step-ink); } svg .inside.on-final { fill: var(--accent-ink);
  font-weight: 700; }
svg .mark { fill: var(--paper); stroke: var(--second); stroke-width: 2; }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg polyline.one { stroke: var(--accent); } svg circle.one { fill: var(--accent); }
svg polyline.two { stroke: var(--second); stroke-dasharray: 6 3; } svg circle.two { fill: var(--second); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .2rem 0 .5rem; padding: 0; list-style: none; font-size: .88rem; color: var(--soft); }
.legend i { display: inline-block; width: .85rem; height: .85rem; border-radius: 3px; margin-right: .4rem; vertical-align: -.08rem; }
.legend .first { background: var(--first); } .legend .step { background: var(--step); } .legend .final { background: var(--accent); }
.legend .mark { width: .65rem; height: .65rem; border: 2px solid var(--second); border-radius: 0; transform: rotate(45deg); }
.legend .one, .legend .two { height: 0; border-top: 3px solid var(--accent); border-radius: 0; vertical-align: .22rem; width: 1.2rem; }
.legend .two { border-top: 3px dashed var(--second); }
details { border: 1px solid var(--rule); border-radius: 8px; margin: .7rem 0; }
details > summary { cursor: pointer; padding: .55rem .8rem; overflow-wrap: anywhere; }
details > summary b { margin-right: .6rem; }
details[open] > summary { border-bottom: 1px solid var(--rule); }
details > div { padding: .8rem; }
details details { margin-bottom: 0; }
pre { margin: 0; overflow-x: auto; max-height: 32rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 225px), 1fr)); gap: .8rem 1rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .88rem; font-weight: 600; }
figure p { margin: .4rem 0; font-size: .92rem; }
figure .legend { margin: 0 0 0 2.2rem; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1.4rem; margin: .6rem 0; }
.filters > div { display: flex; flex-wrap: wrap; gap: .35rem; align-items: center; }
.filters button { font: inherit; font-size: .9rem; min-height: 2.4rem; padding: .2rem .8rem; color: var(--ink); background: var(--ground);
  border: 1px solid var(--rule); border-radius: 999px; cursor: pointer; overflow-wrap: anywhere; }
.filters button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: var(--accent-ink); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); gap: .9rem; list-style: none; margin: 0; padding: 0; }
.card { border: 1px solid var(--rule); border-radius: 10px; padding: .7rem; min-width: 0; }
.card .head { display: flex; flex-wrap: wrap; gap: .1rem .8rem; font-size: .85rem; color: var(--soft); margin-bottom: .5rem; }
.card .head b { color: var(--ink); font-size: .95rem; overflow-wrap: anywhere; flex: 1 0 100%; }
.strip { display: grid; grid-template-columns: 1.2fr repeat(5, 1fr); gap: .4rem; align-items: start; }
.strip figure { font-size: .75rem; line-height: 1.25; color: var(--soft); }
.strip img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--ground); border: 3px solid var(--soft);
  border-radius: 6px; }
.strip .right img { border-color: var(--right); background: var(--right-ground); }
.strip .wrong img { border-color: var(--wrong); border-style: dashed; background: var(--wrong-ground); }
.strip .idle { opacity: .55; }
.strip .sign { display: block; font-weight: 700; font-variant-numeric: tabular-nums; white-space: nowrap; margin-top: .15rem; color: var(--soft); }
.strip .right .sign { color: var(--right); } .strip .wrong .sign { color: var(--wrong); }
.strip .name { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; overflow-wrap: anywhere; }
footer { color: var(--soft); padding-bottom: 2rem; font-size: .9rem; }
@media (max-width: 960px) {
  .hero { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
  .hero > div:not(.score) { padding-top: 0; } .hero .score { grid-column: 1 / -1; } }
@media (max-width: 820px) { .pair, .pair.data { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 560px) {
  section { padding: .9rem .8rem; } header, main, footer { padding-left: .6rem; padding-right: .6rem; } nav ul { padding: .35rem .6rem; }
  .strip { grid-template-columns: repeat(3, 1fr); } tbody th { max-width: 11rem; } }
@media print { nav, .filters { display: none; } section { break-inside: avoid-page; } body { background: none; } }
"""

# Without the script every query is shown and the filter buttons stay hidden.
SCRIPT = """
(function () {
  "use strict";
  var filters = document.querySelector(".filters");
  if (!filters) { return; }
  var cards = Array.prototype.slice.call(document.querySelectorAll(".card"));
  var count = document.getElementById("count");
  var wanted = { domain: "", verdict: "" };
  function show() {
    var shown = 0;
    cards.forEach(function (card) {
      var is = Object.keys(wanted).every(function (key) { return !wanted[key] || card.dataset[key] === wanted[key]; });
      card.hidden = !is;
      shown += is ? 1 : 0;
    });
    count.textContent = shown + " of " + cards.length + " queries shown";
  }
  filters.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) { return; }
    wanted[button.dataset.key] = button.dataset.value;
    filters.querySelectorAll("button").forEach(function (other) {
      if (other.dataset.key === button.dataset.key) { other.setAttribute("aria-pressed", String(other === button)); }
    });
    show();
  });
  filters.hidden = false;
  show();
})();
"""
