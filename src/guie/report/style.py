"""The report's style sheet, a text that goes into the page: nothing is fetched."""

from guie.report.palette import DARK, LIGHT, N_KINDS, marks_css, variables_css

COLOURS = f""":root {{ color-scheme: light dark; {variables_css(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {variables_css(DARK)} }} }}
{marks_css("var(--{})".format)}
"""
KINDS = (f".legend .k{i} {{ background: var(--k{i}); }} .legend .line-k{i} {{ border-top: 3px solid var(--k{i}); }}" for i in range(N_KINDS))
LEGEND = ".legend [class^=line-] { height: 0; border-radius: 0; vertical-align: .22rem; width: 1.2rem; }\n" + "\n".join(KINDS)
LAYOUT = """
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
.halves, .thirds { display: grid; gap: 1rem 1.6rem; align-items: start; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.thirds { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.halves svg, .thirds svg { max-width: 520px; }
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
td:not(.n) { min-width: 6rem; }
.scroll + .note { margin-top: .8rem; }
tr.final th, tr.final td { font-weight: 700; background: color-mix(in srgb, var(--accent) 10%, var(--paper)); }
tr.stage th { padding-left: 1.6rem; font-weight: 400; color: var(--soft); }
tr.total th, tr.total td { font-weight: 700; border-bottom: 0; }
.wide { overflow-wrap: anywhere; min-width: 12rem; }
.meter { height: .55rem; margin-top: .45rem; border-radius: 3px; background: var(--accent); min-width: 1px; }
tr.stage .meter { background: var(--step); }
.meters { width: 34%; min-width: 5rem; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
.bars svg { max-width: 520px; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .2rem 0 .5rem; padding: 0; list-style: none; font-size: .88rem; color: var(--soft); }
.legend i { display: inline-block; width: .85rem; height: .85rem; border-radius: 3px; margin-right: .4rem; vertical-align: -.08rem; }
.legend .first { background: var(--first); } .legend .step { background: var(--step); } .legend .final { background: var(--accent); }
.legend .mark { width: .65rem; height: .65rem; border: 2px solid var(--second); border-radius: 0; transform: rotate(45deg); }
.legend .one, .legend .two { height: 0; border-top: 3px solid var(--accent); border-radius: 0; vertical-align: .22rem; width: 1.2rem; }
.legend .two { border-top: 3px dashed var(--second); }
.legend .three { height: 0; border-top: 3px dotted var(--right); border-radius: 0; vertical-align: .22rem; width: 1.2rem; }
.legend .whisker { height: 0; border-top: 2px solid var(--ink); border-radius: 0; vertical-align: .25rem; width: 1.2rem; }
.legend .key { display: inline-block; width: .95rem; height: .95rem; margin-right: .35rem; vertical-align: -.15rem; }
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
.filters label { font-size: .9rem; }
.filters select { font: inherit; font-size: .9rem; min-height: 2.4rem; max-width: 100%; color: var(--ink); background: var(--ground);
  border: 1px solid var(--rule); border-radius: 8px; padding: .2rem .4rem; }
.map { position: relative; border: 1px solid var(--rule); border-radius: 10px; touch-action: pan-y pinch-zoom; }
.map svg { max-height: 82vh; } .map [data-i] { stroke: var(--paper); stroke-width: .7; }
.map .faint { opacity: .18; } .map .same { stroke: var(--ink); stroke-width: 1.6; } .map .at { stroke: var(--ink); stroke-width: 3; }
.tip { position: absolute; z-index: 3; pointer-events: none; display: flex; gap: .5rem; align-items: center; max-width: 15rem; padding: .35rem;
  font-size: .8rem; line-height: 1.25; background: var(--paper); border: 1px solid var(--soft); border-radius: 8px;
  box-shadow: 0 4px 14px rgb(0 0 0 / .25); overflow-wrap: anywhere; }
.tile { position: relative; overflow: hidden; border-radius: 5px; flex: none; } .tile img { position: absolute; max-width: none; }
.tile:empty { display: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); gap: .9rem; list-style: none; margin: 0; padding: 0; }
.card { border: 1px solid var(--rule); border-radius: 10px; padding: .7rem; min-width: 0; }
.card .head { display: flex; flex-wrap: wrap; gap: .1rem .8rem; font-size: .85rem; color: var(--soft); margin-bottom: .5rem; }
.card .head b { color: var(--ink); font-size: .95rem; overflow-wrap: anywhere; flex: 1 1 auto; }
.body { display: grid; grid-template-columns: 1.15fr 5fr; gap: .4rem .7rem; align-items: end; }
.query { padding-bottom: 1.95rem; }
.of { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .8rem; margin: 0 0 .3rem; font-size: .8rem; color: var(--soft); }
.of b { color: var(--ink); white-space: nowrap; }
.strip { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .4rem; align-items: start; }
.strip figure, .query { font-size: .75rem; line-height: 1.25; color: var(--soft); }
.cards.two { grid-template-columns: minmax(0, 1fr); }
.two .body { grid-template-columns: 1.05fr 5fr 5fr; column-gap: 1.4rem; }
.strip img, .query img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--ground); border: 3px solid var(--soft);
  border-radius: 6px; }
.strip .right img { border-color: var(--right); background: var(--right-ground); }
.strip .wrong img { border-color: var(--wrong); border-style: dashed; background: var(--wrong-ground); }
.strip .idle { opacity: .55; }
.sign { display: block; font-weight: 700; font-variant-numeric: tabular-nums; white-space: nowrap; margin-top: .15rem; color: var(--soft); }
.strip .right .sign { color: var(--right); } .strip .wrong .sign { color: var(--wrong); }
.strip .name { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; overflow-wrap: anywhere; }
footer { color: var(--soft); padding-bottom: 2rem; font-size: .9rem; }
@media (max-width: 960px) {
  .hero { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
  .hero > div:not(.score) { padding-top: 0; } .hero .score { grid-column: 1 / -1; } }
@media (max-width: 820px) { .pair { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 560px) {
  section { padding: .9rem .8rem; } header, main, footer { padding-left: .6rem; padding-right: .6rem; } nav ul { padding: .35rem .6rem; }
  tbody th { max-width: 11rem; } .strip { gap: .25rem; } .strip img { border-width: 2px; }
  .body, .two .body { grid-template-columns: minmax(0, 1fr); } .query { padding: 0; width: 33%; } .map [data-i] { stroke-width: .4; } }
@media print { nav, .filters { display: none; } section { break-inside: avoid-page; } body { background: none; } }
"""

CSS = COLOURS + LAYOUT + LEGEND
