"""A report as one HTML page: styles and charts inline, no scripts, nothing to fetch.

Every string of the document is escaped here. The page also carries a content policy under which a browser would
neither run nor load anything, should an escape ever be forgotten.
"""

import html
from itertools import groupby
from operator import attrgetter

from satori.coat import MetaAction, Step, parse
from satori.report import blocks
from satori.report.blocks import Block, Card, Document, Section, Table, printable
from satori.report.data import SampleTrajectory, stage_label
from satori.report.style import CSS
from satori.report.values import DASH

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_OPEN_PER_STAGE = 3


def render_html(document: Document) -> str:
    """The whole page."""
    title = escape(document.title)
    subtitle = f'<p class="subtitle">{escape(document.subtitle)}</p>\n' if document.subtitle else ""
    links = "".join(f'<a href="#{escape(s.anchor)}">{escape(s.title)}</a>' for s in document.sections)
    cards = "".join(_card(card) for card in document.cards)
    cards = f'<div class="cards">{cards}</div>\n' if cards else ""
    sections = "\n".join(_section(section) for section in document.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>
{CSS}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
{subtitle}{cards}<nav>{links}</nav>
</header>
{sections}
</main>
</body>
</html>
"""


def escape(text: str) -> str:
    """Text as HTML content or attribute value."""
    return html.escape(printable(text), quote=True)


def _card(card: Card) -> str:
    details = "".join(f"<span>{escape(detail)}</span>" for detail in card.details)
    kind = "card stage" if card.leads_on else "card"
    return f'<div class="{kind}"><h2>{escape(card.label)}</h2><strong>{escape(card.value)}</strong>{details}</div>'


def _section(section: Section) -> str:
    body = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="{escape(section.anchor)}">\n<h2>{escape(section.title)}</h2>\n{body}\n</section>'


def _block(block: Block) -> str:
    match block:
        case blocks.Text(text, note):
            return f'<p class="note">{escape(text)}</p>' if note else f"<p>{escape(text)}</p>"
        case blocks.Terms(items):
            return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items) + "</dl>"
        case blocks.Table():
            return _table(block)
        case blocks.Figure(svg, caption):
            return f'<figure><div class="chart">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'
        case blocks.Trajectories(items):
            return _trajectories(items)
        case blocks.Code(summary, text):
            return f'<details class="code"><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(_cell(cell) for cell in row[1:]) + "</tr>"
        for row in table.rows
    )
    caption = escape(table.caption)
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody>"
    if table.folded:
        inner = f'<div class="table"><table>{body}</table></div>'
        return f'<details class="folded"><summary>{caption}</summary>{inner}</details>'
    return f'<div class="table"><table><caption>{caption}</caption>{body}</table></div>'


def _cell(text: str) -> str:
    return f'<td class="missing">{DASH}</td>' if text == DASH else f"<td>{escape(text)}</td>"


def _trajectories(items: tuple[SampleTrajectory, ...]) -> str:
    """Responses under a heading for each stage; the first few of each stand open."""
    legend = "".join(f'<span class="tag {name}">{name}</span>' for name in ("start", "continue", "reflect", "explore"))
    parts = [f'<p class="legend">Each block is one step: {legend}</p>']
    for stage, group in groupby(items, attrgetter("stage")):
        parts.append(f"<h3>{escape(stage_label(stage))}</h3>")
        parts += [_trajectory(sample, opened=place < _OPEN_PER_STAGE) for place, sample in enumerate(group)]
    return "\n".join(parts)


def _trajectory(sample: SampleTrajectory, opened: bool) -> str:
    verdict = "right" if sample.correct else "wrong"
    answers = " <i>→</i> ".join(f"<code>{escape(answer)}</code>" for answer in sample.answers) or DASH
    steps = "\n".join(_step(step) for step in parse(sample.response)) or '<div class="step empty">empty response</div>'
    return (
        f'<details class="trajectory"{" open" if opened else ""}>'
        f'<summary><span class="verdict {verdict}">{verdict}</span> '
        f'<span class="question">{escape(sample.question)}</span> '
        f'<span class="where">{escape(sample.set_name)}, level {sample.level}</span></summary>\n'
        f'<p class="answers">Answers in order: {answers} <span class="gold">gold <code>{escape(sample.gold)}</code>'
        f"</span></p>\n{steps}\n</details>"
    )


def _step(step: Step) -> str:
    kind = action_name(step.action)
    return (
        f'<div class="step {kind}"><span class="tag {kind}">{kind}</span><div>{escape(step.text.strip())}</div></div>'
    )


def action_name(action: MetaAction | None) -> str:
    """``start`` for a step that opens without a meta-action."""
    return action.name.lower() if action else "start"
