"""A report as Markdown. Charts are left out: their numbers stand in tables.

Text outside of fences is escaped for both Markdown and the HTML that Markdown lets through; what a model wrote stands
in a fence longer than any run of backticks inside it.
"""

import html
import re

from satori.coat import parse, render
from satori.report import blocks
from satori.report.blocks import Block, Document, Section, Table, printable
from satori.report.data import SampleTrajectory, stage_label
from satori.report.values import DASH

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")


def render_markdown(document: Document) -> str:
    """The whole report."""
    rows = tuple((card.label, card.value, ", ".join(card.details)) for card in document.cards)
    has_charts = any(isinstance(block, blocks.Figure) for section in document.sections for block in section.blocks)
    parts = [
        f"# {escape(document.title)}",
        f"**{escape(document.subtitle)}**" if document.subtitle else "",
        _table(Table(("Key figure", "Value", "Details"), rows, "")) if rows else "",
        "The charts are in the HTML report." if has_charts else "",
        *(_section(section) for section in document.sections),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text as one line of Markdown prose or as a table cell."""
    line = " ".join(printable(text).split())
    return _SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def fence(text: str, language: str = "") -> str:
    """Text in a code fence that nothing inside it can close."""
    text = printable(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _section(section: Section) -> str:
    blocks = [_block(block) for block in section.blocks]
    return "\n\n".join([f"## {escape(section.title)}", *(block for block in blocks if block)])


def _block(block: Block) -> str:
    match block:
        case blocks.Text(text, note):
            return f"> {escape(text)}" if note else escape(text)
        case blocks.Terms(items):
            return "\n".join(f"- **{escape(name)}**: {escape(text)}" for name, text in items)
        case blocks.Table():
            return _table(block)
        case blocks.Figure():
            return ""
        case blocks.Trajectories(items):
            return "\n\n".join(_trajectory(sample) for sample in items)
        case blocks.Code(summary, text):
            return f"<details><summary>{escape(summary)}</summary>\n\n{fence(text, 'yaml')}\n\n</details>"


def _table(table: Table) -> str:
    head, *rows = [tuple(escape(cell) for cell in row) for row in (table.header, *table.rows)]
    rule = (":--", *("--:" for _ in table.header[1:]))
    body = "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))
    return f"{escape(table.caption)}\n\n{body}" if table.caption else body


def _trajectory(sample: SampleTrajectory) -> str:
    """One response, a step a line, with its meta-action tokens as the model wrote them."""
    verdict = "right" if sample.correct else "wrong"
    heading = escape(f"{stage_label(sample.stage)}, {sample.set_name}, level {sample.level}: {verdict}")
    answers = " → ".join(sample.answers) or DASH
    steps = "\n".join(render([step]).rstrip() for step in parse(sample.response))
    text = f"Question: {sample.question}\nGold: {sample.gold}\nAnswers in order: {answers}\n\n{steps or DASH}"
    return f"### {heading}\n\n{fence(text)}"
