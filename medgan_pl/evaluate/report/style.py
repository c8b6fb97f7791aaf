"""How the page looks: one sheet, no font and no picture from elsewhere; light and dark, paper and phone."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b2430; --soft: #55616f; --line: #dde2e8; --paper: #fff; --shade: #f5f7f9; --grey: #6b7683;
  --ours: #1c5fa8; --ours-band: #d3e2f3; --reals: #23704c; --reals-band: #bfe3d0;
  --good: #1a6e43; --good-bg: #e6f4ec; --doubt: #7d5200; --doubt-bg: #fdf2d8; --bad: #a8231b; --bad-bg: #fbe8e6; --unknown-bg: #edf0f3;
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word; font-variant-numeric: tabular-nums;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif;
}
header, main, footer { width: min(1080px, 100% - 56px); margin: 0 auto; }
header { padding-top: 44px; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.015em; margin: 12px 0 10px; text-wrap: balance; }
h2 { font-size: 1.42rem; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 14px; }
h3 { font-size: 1.06rem; line-height: 1.35; margin: 30px 0 10px; }
h4 { font-size: .95rem; font-weight: 600; margin: 20px 0 8px; }
p { margin: 0 0 12px; max-width: 76ch; text-wrap: pretty; }
section { border-top: 1px solid var(--line); margin-top: 42px; padding-top: 36px; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size: .82em; }
code { color: var(--soft); overflow-wrap: anywhere; font-weight: 400; }
small { font-size: .82em; color: var(--soft); }
a { color: var(--ours); text-underline-offset: 3px; }
.lead { font-size: 1.1rem; color: var(--soft); }
.badge {
  display: inline-block; padding: 3px 10px; border-radius: 4px; background: var(--doubt-bg); color: var(--doubt);
  font-size: .74rem; font-weight: 650; letter-spacing: .07em; text-transform: uppercase;
}
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 20px; padding: 0; margin: 26px 0 0; font-size: .9rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 24px; padding: 0; margin: 0; font-size: .9rem; color: var(--soft); }
.legend li { display: flex; gap: 8px; align-items: baseline; }
.key { width: 16px; height: 16px; flex: none; position: relative; top: 3px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 16px 28px; margin: 22px 0; }
.facts dt { font-size: .8rem; color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.facts code { color: inherit; }

.verdicts { list-style: none; padding: 0; margin: 0 0 24px; }
.verdicts li { display: grid; grid-template-columns: 124px 1fr; gap: 6px 20px; padding: 14px 0; border-bottom: 1px solid var(--line); }
.verdicts h3 { margin: 0 0 2px; }
.verdicts p { margin: 0; }
.mark { place-self: start; padding: 2px 12px; border-radius: 99px; font-size: .88rem; font-weight: 650; white-space: nowrap; }
.good { background: var(--good-bg); color: var(--good); }
.doubtful { background: var(--doubt-bg); color: var(--doubt); }
.bad { background: var(--bad-bg); color: var(--bad); }
.unknown { background: var(--unknown-bg); color: var(--soft); }
.notes { background: var(--doubt-bg); border-left: 4px solid var(--doubt); border-radius: 4px; padding: 14px 20px; margin: 0 0 16px; }
.notes h3 { margin: 0 0 6px; font-size: 1rem; }
.notes ul { margin: 0; padding-left: 20px; }
.notes p { margin: 0; max-width: none; }
.notes.quiet { background: var(--shade); border-color: var(--grey); }

figure { margin: 0 0 16px; }
figcaption { font-size: .9rem; color: var(--soft); margin: 0 0 8px; }
figcaption strong { color: var(--ink); font-weight: 600; }
.beside { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px 40px; }
.paired { display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 8px 28px; }
.tiles { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 4px; }
.paired .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); }
.tiles img, .pair img, .strip img { width: 100%; display: block; border-radius: 2px; background: #000; }
.pairs { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 18px 24px; margin-bottom: 26px; }
.pair, .strip figure { margin: 0; }
.pair div { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
.pair figcaption, .strip figcaption { margin: 6px 0 0; font-size: .84rem; line-height: 1.4; }
.near { color: var(--bad); font-weight: 600; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 14px; margin: 18px 0 22px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 22px 28px; margin: 18px 0; }
.charts figure { margin: 0; }
img.chart { width: 100%; height: auto; display: block; }

.scroll { overflow-x: auto; margin: 0 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding: 4px 0 8px; }
th, td { text-align: left; vertical-align: top; padding: 9px 18px 9px 0; border-bottom: 1px solid var(--line); }
thead th { font-size: .8rem; font-weight: 600; line-height: 1.35; color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 500; }
.plain { width: auto; min-width: min(100%, 620px); }
.rules { width: 100%; }
.rules td { min-width: 110px; }
.ladder { width: 100%; }
.ladder thead th:nth-child(n + 3), .plain .number { text-align: right; }
.ladder thead th { min-width: 66px; }
.ladder tbody th { min-width: 210px; }
.ladder th code { display: block; }
.ladder td, .number { white-space: nowrap; }
.ladder th:last-child, .ladder td:last-child { padding-right: 2px; }
.flag { color: var(--doubt); font-weight: 600; }
.order { color: var(--soft); }

.metrics { table-layout: fixed; min-width: 880px; }
.metrics thead th:nth-child(1) { width: 19%; }
.metrics thead th:nth-child(2), .metrics thead th:nth-child(3) { width: 17%; }
.metrics thead th:nth-child(5) { width: 12%; }
.metrics th.head { padding: 26px 0 6px; border-bottom: 0; }
.metrics tbody:nth-of-type(1) th.head { padding-top: 18px; }
.metric { font-size: 1.06rem; font-weight: 650; }
.direction { font-size: .84rem; font-weight: 400; color: var(--soft); margin-left: 10px; white-space: nowrap; }
.reading { font-size: .92rem; font-weight: 400; color: var(--soft); margin: 4px 0 0; max-width: 92ch; }
.metrics tr:not(:first-child) code, .metrics .interval, .metrics .where { display: block; }
span.value, span.floor { font-weight: 650; font-size: 1.06rem; color: var(--ours); }
span.floor { color: var(--reals); font-weight: 550; }
.interval { font-size: .86rem; color: var(--soft); white-space: nowrap; }
.none { color: var(--soft); }
.unordered { font-size: .84rem; line-height: 1.4; color: var(--doubt); margin: 4px 0 0; }
.greyed th, .greyed td, .greyed code { color: var(--soft); }
.greyed td { background: var(--shade); }
.greyed td:nth-child(2) { padding-left: 12px; }

.ruler { display: block; width: 100%; max-width: 340px; height: auto; }
.ruler text { font-size: 10.5px; text-anchor: middle; fill: var(--soft); }
.ruler text.floor-name { fill: var(--reals); }
.ruler text.side { text-anchor: end; }
.axis { stroke: var(--grey); stroke-width: 1; }
.arrow { fill: var(--grey); }
.floor-band { fill: var(--reals-band); }
.floor-line { stroke: var(--reals); stroke-width: 2; }
.rung { fill: var(--paper); stroke: var(--grey); stroke-width: 1.3; }
.noise { fill: none; stroke: var(--grey); stroke-width: 1.6; }
.whisker { stroke: var(--ours); stroke-width: 2.4; }
circle.value { fill: var(--ours); stroke: var(--paper); stroke-width: 1.2; }
.gridline { stroke: var(--line); stroke-width: 1; }
polyline.steps { fill: none; stroke: var(--grey); stroke-width: 1.3; }
.judged-band { fill: var(--ours-band); }
.judged-line { stroke: var(--ours); stroke-width: 1.6; }
svg.steps { max-width: none; }

details { margin: 14px 0; }
summary { cursor: pointer; font-weight: 600; padding: 4px 0; }
pre { background: var(--shade); border-radius: 6px; padding: 14px 18px; overflow-x: auto; line-height: 1.5; }
footer { color: var(--soft); font-size: .88rem; padding: 24px 0 56px; margin-top: 48px; border-top: 1px solid var(--line); }

@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ed; --soft: #a5b1be; --line: #333e4a; --paper: #14191f; --shade: #1c232b; --grey: #93a0ad;
    --ours: #6cb0f5; --ours-band: #1f3850; --reals: #63c294; --reals-band: #24523c;
    --good: #7fd6a6; --good-bg: #17372a; --doubt: #f0c465; --doubt-bg: #372c12; --bad: #ff9c94; --bad-bg: #42201d; --unknown-bg: #28313a;
  }
  img.chart { filter: invert(.9) hue-rotate(180deg); }
}
@media screen and (max-width: 960px) {
  header, main, footer { width: calc(100% - 36px); }
  header { padding-top: 28px; }
  h1 { font-size: 1.6rem; }
  .beside, .paired { grid-template-columns: minmax(0, 1fr); }
  .tiles, .paired .tiles { grid-template-columns: repeat(4, minmax(0, 1fr)); }
  .few { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .pairs { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
  .facts { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
  .metrics { min-width: 0; }
  .metrics thead { display: none; }
  .metrics, .metrics tbody, .metrics tr, .metrics td, .metrics th, .metrics caption { display: block; width: auto; }
  .metrics tr { border-bottom: 1px solid var(--line); padding: 8px 0; }
  .metrics th, .metrics td, .greyed td:nth-child(2) { border: 0; padding: 3px 0; }
  .metrics td { display: grid; grid-template-columns: 132px 1fr; gap: 0 12px; align-items: baseline; }
  .metrics td::before { content: attr(data-label); font-size: .8rem; line-height: 1.35; color: var(--soft); }
  .metrics td > div { min-width: 0; }
  .metrics td.lies { display: block; }
  .metrics td.lies:empty, .metrics td.absent { display: none; }
  .metrics .where, .metrics .interval, .metrics tr:not(:first-child) code { display: inline; }
  .metrics .interval { margin-left: 8px; }
  .metrics td br { display: none; }
  .metrics small:first-of-type { margin-right: 10px; }
  .greyed td { background: none; }
}
@media (max-width: 620px) { .verdicts li { grid-template-columns: 1fr; } }
@media print {
  nav { display: none; }
  body { font-size: 10.5pt; }
  section { margin-top: 24px; padding-top: 20px; }
  figure, tr, .notes { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  .scroll { overflow: visible; }
  .metrics { min-width: 0; font-size: 8.5pt; }
  .metrics th, .metrics td, .ladder th, .ladder td { padding-right: 8px; }
  .ladder { font-size: 8pt; }
  .ladder th, .ladder thead th, .ladder tbody th { min-width: 0; }
  .interval { white-space: normal; }
  header, main, footer { width: 100%; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
