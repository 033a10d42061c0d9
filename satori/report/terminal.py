"""A report's blocks for the terminal: text and tables.

Names and model text are put in as plain text, so neither console markup nor escape codes in them do anything. What it
leaves out: charts, sampled responses and recipes.
"""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text as Plain

from satori.report import blocks
from satori.report.blocks import Block, Document, Table, printable


def render_terminal(document: Document) -> Group:
    """The document as something that a rich console prints."""
    parts: list[RenderableType] = [_line(document.title, "bold")]
    if document.subtitle:
        parts.append(_line(document.subtitle))
    parts += [_line(f"{card.label}: {card.value} ({', '.join(card.details)})") for card in document.cards]
    for section in document.sections:
        shown = [part for block in section.blocks if (part := _block(block)) is not None]
        if shown:
            parts += [Plain(), _line(section.title, "bold"), *shown]
    return Group(*parts)


def _block(block: Block) -> RenderableType | None:
    match block:
        case blocks.Text(text, note):
            return _line(text, "dim" if note else "")
        case blocks.Terms(items):
            return Group(*(_line(f"{name}: {text}") for name, text in items))
        case blocks.Table():
            return _table(block)
        case _:
            return None


def _table(table: Table) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, caption=_line(table.caption, "dim"), caption_justify="left", pad_edge=False)
    for place, cell in enumerate(table.header):
        grid.add_column(_line(cell), justify="left" if place == 0 else "right", vertical="bottom", overflow="fold")
    for row in table.rows:
        grid.add_row(*map(_line, row))
    return grid


def _line(text: str, style: str = "") -> Plain:
    """Text as one line, nothing in it taken for markup."""
    return Plain(" ".join(printable(text).split()), style=style)
