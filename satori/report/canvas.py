"""What all charts share: their size and colours, how they are drawn, and how they become SVG text.

Charts are drawn on matplotlib figures of their own, without its global state. Each has a name, and every id in its SVG
starts with it, so that many charts share one page. They are dark on light; the page puts them on white.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from satori.report.blocks import printable

WIDTH = 10.0  # inches; the page scales it to its column
INK = "#2b3440"
STAGE_COLOURS = {"base": "#b4bcc8", "format_tuned": "#5b94d6", "rl_1": "#35b39a", "rl_2": "#12798a"}
ACTION_COLOURS = {"continue": "#8d99a8", "reflect": "#e0940b", "explore": "#7a55d6"}
LINE_COLOURS = ("#2b3440", "#2f7fd1", "#1b9e86", "#d1495b", "#e0940b")
RIGHT_COLOUR, WRONG_COLOUR, NEUTRAL_COLOUR = "#2a9d5c", "#d1495b", "#8d99a8"
PALE_RIGHT_COLOUR, PALE_WRONG_COLOUR = "#79bf96", "#e08f9a"
SERIES_COLOURS = (*STAGE_COLOURS.values(), "#7c6f9c", "#e9c46a", "#d1495b", "#8d99a8", "#e0940b", "#2a9d5c", "#2f7fd1")

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e7ebf0",
    "xtick.color": "#5b6673",
    "ytick.color": "#5b6673",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def styled(name: str) -> AbstractContextManager[None]:
    """The settings that a chart is drawn and written under."""
    settings: Any = _STYLE | {"svg.hashsalt": name}
    return rc_context(settings)


def one_line(text: str) -> str:
    """Text as one line of a chart."""
    return " ".join(printable(text).split())


def legend_above(axes: Axes, columns: int, size: float = 8.5) -> None:
    """One row of labels above the axes, each label once."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(reversed(labels), reversed(handles), strict=True))
    order = list(dict.fromkeys(labels))
    axes.legend(
        [unique[label] for label in order],
        order,
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        ncols=columns,
        fontsize=size,
        handlelength=1.1,
        handletextpad=0.4,
        columnspacing=1.0,
        borderaxespad=0.1,
    )


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an inline ``<svg>``: no XML prologue, no name spaces or links, ids of its own."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # `savefig` would draw everything twice
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    opening = re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", opening)
    rest = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'\bxlink:href="#', f'href="#{name}-', rest)
    rest = rest.replace("url(#", f"url(#{name}-")
    return f'{opening} role="img">{rest}'.strip()
