"""A report as blocks that know nothing of HTML or Markdown; each page format renders the same blocks.

All strings are plain text: a page escapes every one of them. The only markup that passes through is a figure's SVG,
which :mod:`satori.report.charts` drew.
"""

from dataclasses import dataclass

from satori.report.data import SampleTrajectory


@dataclass(frozen=True)
class Text:
    """A paragraph; a quiet one where it is a note."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Terms:
    """Names with what they stand for."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Cells as they are to be read. The first column names the row; the others hold numbers.

    A folded table repeats in numbers what a chart beside it shows.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart with what it shows; ``svg`` is markup."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Card:
    """A key figure. ``leads_on`` where the next card is the next stage of the pipeline."""

    label: str
    value: str
    details: tuple[str, ...]
    leads_on: bool = False


@dataclass(frozen=True)
class Trajectories:
    """Sampled responses, in the order to show them."""

    items: tuple[SampleTrajectory, ...]


@dataclass(frozen=True)
class Code:
    """A long verbatim text, folded away until asked for."""

    summary: str
    text: str


Block = Text | Terms | Table | Figure | Trajectories | Code


@dataclass(frozen=True)
class Section:
    """A headed part of the report; ``anchor`` is its id."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole report. ``subtitle`` and ``cards`` may be empty."""

    title: str
    subtitle: str
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]


def printable(text: str) -> str:
    """Model text without what a text file or a page cannot hold: controls and lone surrogates become U+FFFD.

    Invisible characters that reorder the line around them go the same way, so that a text reads as it was written.
    """
    return "".join("\ufffd" if _unprintable(ord(character)) else character for character in text)


def _unprintable(code: int) -> bool:
    control = (code < 0x20 and code not in (0x09, 0x0A)) or 0x7F <= code <= 0x9F
    reordering = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return control or reordering or 0xD800 <= code <= 0xDFFF
