"""The page's style sheet. Charts are drawn dark on light, so they keep a white ground in dark mode."""

CSS = """\
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --paper: #ffffff; --ink: #1d2630; --quiet: #64707d; --line: #e1e6eb; --accent: #0f7f74;
  --right: #1c8a4d; --right-ground: #e2f5ea; --wrong: #c23a4b; --wrong-ground: #fce8ea;
  --neutral: #8d99a8; --neutral-ground: #f3f5f7;
  --reflect: #b87503; --reflect-ground: #fff5df; --explore: #6a45c9; --explore-ground: #f1ecfd;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12171d; --paper: #1a2129; --ink: #e3e8ee; --quiet: #96a3b1; --line: #2d3742; --accent: #4cc3b4;
    --right: #6ed79a; --right-ground: #17382a; --wrong: #ff8f9c; --wrong-ground: #451f27;
    --neutral: #8795a5; --neutral-ground: #212a34;
    --reflect: #f2b544; --reflect-ground: #352a14; --explore: #b39bff; --explore-ground: #2a2147;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1100px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 32px; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 8px; overflow-wrap: anywhere; }
.subtitle {
  display: inline-block; margin: 0; padding: 3px 12px; border-radius: 99px; font-size: 14px; font-weight: 600;
  color: var(--accent); border: 1px solid var(--accent);
}
.cards { display: flex; flex-wrap: wrap; gap: 16px; margin: 26px 0 18px; }
.card {
  position: relative; flex: 1 1 auto; min-width: 140px; background: var(--paper); border: 1px solid var(--line);
  border-radius: 12px; padding: 14px 16px;
}
.card h2 { margin: 0; font-size: 13px; font-weight: 600; color: var(--quiet); }
.card strong {
  display: block; font-size: 26px; line-height: 1.35; letter-spacing: -0.02em; white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.card span { display: block; font-size: 12.5px; color: var(--quiet); font-variant-numeric: tabular-nums; }
.card.stage::after { content: "\\2192"; position: absolute; right: -16px; top: 42%; width: 16px; text-align: center;
  color: var(--quiet); font-size: 14px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section {
  background: var(--paper); border: 1px solid var(--line); border-radius: 14px; padding: 24px 28px; margin-top: 22px;
  scroll-margin-top: 12px;
}
section > h2 { font-size: 21px; letter-spacing: -0.01em; margin: 0 0 12px; }
h3 { font-size: 16px; margin: 26px 0 8px; }
p { margin: 8px 0 12px; max-width: 80ch; }
.note { color: var(--quiet); font-size: 14px; border-left: 3px solid var(--line); padding-left: 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; margin: 8px 0 14px; font-size: 15px; }
dt { font-weight: 600; }
dd { margin: 0; color: var(--quiet); }
figure { margin: 16px 0 24px; }
.chart {
  background: #ffffff; border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; overflow-x: auto;
}
.chart svg { display: block; width: 100%; min-width: 640px; height: auto; }
.chart svg * { stroke-linejoin: round; stroke-linecap: butt; }
.chart svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif !important; }
figcaption, caption { color: var(--quiet); font-size: 14px; text-align: left; }
figcaption { margin-top: 8px; }
.table { overflow-x: auto; margin: 16px 0 20px; }
table { border-collapse: collapse; min-width: 60%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
caption { padding-bottom: 6px; }
th, td { padding: 6px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 500; }
thead th { font-size: 13px; font-weight: 600; color: var(--quiet); border-bottom-width: 2px; white-space: normal;
  vertical-align: bottom; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { white-space: normal; }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover { background: var(--neutral-ground); }
.missing { color: var(--quiet); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13.5px; }
pre { margin: 12px 0 0; padding: 14px 16px; background: var(--neutral-ground); border-radius: 8px; overflow-x: auto;
  line-height: 1.45; }
summary { cursor: pointer; }
.folded { margin: 12px 0; }
.folded > summary { color: var(--quiet); font-size: 14px; }
.folded .table { margin: 8px 0 16px; }
.tag {
  display: inline-block; min-width: 76px; padding: 0 8px; border-radius: 5px; text-align: center; font-size: 12px;
  font-weight: 600; line-height: 20px; color: var(--quiet); background: var(--neutral-ground);
}
.legend .tag { margin-left: 6px; }
.tag.reflect { color: var(--reflect); background: var(--reflect-ground); }
.tag.explore { color: var(--explore); background: var(--explore-ground); }
.trajectory { border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; margin: 10px 0; }
.trajectory[open] { padding-bottom: 14px; }
.question { font-weight: 600; overflow-wrap: anywhere; white-space: pre-wrap; }
.where { color: var(--quiet); font-size: 13px; margin-left: 8px; }
.verdict { display: inline-block; padding: 0 9px; margin-right: 8px; border-radius: 99px; font-size: 13px;
  font-weight: 600; }
.verdict.right { color: var(--right); background: var(--right-ground); }
.verdict.wrong { color: var(--wrong); background: var(--wrong-ground); }
.answers { font-size: 14px; color: var(--quiet); max-width: none; overflow-wrap: anywhere; }
.answers code { color: var(--ink); }
.answers i { font-style: normal; }
.gold { margin-left: 14px; }
.step {
  display: flex; align-items: baseline; gap: 12px; margin: 4px 0; padding: 6px 12px 6px 10px;
  border-radius: 0 8px 8px 0;
  border-left: 4px solid var(--neutral); background: var(--neutral-ground);
}
.step > div { flex: 1; min-width: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 14.5px;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; line-height: 1.5; }
.step.reflect { border-left-color: var(--reflect); background: var(--reflect-ground); }
.step.explore { border-left-color: var(--explore); background: var(--explore-ground); }
.step .tag { background: var(--paper); flex: none; }
.step.empty { color: var(--quiet); font-size: 14px; }
@media print { body { background: none; } section, .card { break-inside: avoid-page; } nav { display: none; } }
"""
