"""Charts as SVG text for a page: grouped bars with intervals, stacked bars, and small multiples of curves.

Drawn on matplotlib figures of their own, without its global state. Each chart has a name, and every id in its SVG
starts with it, so that many charts share one page. Charts are dark on light; the page puts them on white.

Every function returns "" where there is nothing to draw.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from satori.report.blocks import printable

WIDTH = 10.0  # inches; the page scales it to its column
INK = "#2b3440"
STAGE_COLOURS = {"base": "#b4bcc8", "format_tuned": "#5b94d6", "rl_1": "#35b39a", "rl_2": "#12798a"}
ACTION_COLOURS = {"continue": "#8d99a8", "reflect": "#e0940b", "explore": "#7a55d6"}
LINE_COLOURS = ("#2b3440", "#2f7fd1", "#1b9e86", "#d1495b", "#e0940b")
RIGHT_COLOUR, WRONG_COLOUR, NEUTRAL_COLOUR = "#2a9d5c", "#d1495b", "#c9cfd8"

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


@dataclass(frozen=True)
class Bars:
    """One series of a bar chart: a value and perhaps an interval for each category, and a colour for each or all."""

    label: str
    colour: str | Sequence[str]
    values: Sequence[float | None]
    intervals: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Line:
    """One curve: its points, and whether they are dense enough to be smoothed."""

    label: str
    colour: str
    xs: Sequence[float]
    ys: Sequence[float]
    smooth: bool = True


@dataclass(frozen=True)
class Panel:
    """One small chart of several curves over the same axis."""

    title: str
    lines: Sequence[Line]
    is_rate: bool = False


def _style(name: str) -> AbstractContextManager[None]:
    """The settings that a chart is drawn and written under."""
    settings: Any = _STYLE | {"svg.hashsalt": name}
    return rc_context(settings)


def grouped_bars(
    name: str, categories: Sequence[str], groups: Sequence[Bars], y_label: str, is_rate: bool, height: float = 3.0
) -> str:
    """Bars side by side for each category, each with its value and interval."""
    groups = [group for group in groups if any(value is not None for value in group.values)]
    if not groups:
        return ""
    with _style(name):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / max(len(groups), 2)
        for index, group in enumerate(groups):
            _draw_bars(axes, group, (index - (len(groups) - 1) / 2) * width, width, is_rate)
        axes.set_xticks(range(len(categories)), [" ".join(printable(name).split()) for name in categories])
        axes.set_ylabel(y_label)
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.55, len(categories) - 0.45)
        if is_rate:
            axes.set_ylim(0, 1.08)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if len(groups) > 1:
            _legend_above(axes, len(groups))
        return _svg(figure, name)


def _draw_bars(axes: Axes, group: Bars, offset: float, width: float, is_rate: bool) -> None:
    intervals = group.intervals or [None] * len(group.values)
    for place, (value, pair) in enumerate(zip(group.values, intervals, strict=True)):
        if value is None:
            continue
        colour = group.colour if isinstance(group.colour, str) else group.colour[place]
        axes.bar(place + offset, value, width=width * 0.92, color=colour, label=group.label)
        top = value
        if pair is not None:
            reach = [[max(0.0, value - pair[0])], [max(0.0, pair[1] - value)]]
            axes.errorbar(place + offset, value, yerr=reach, color=INK, elinewidth=1, capsize=2.5, linestyle="none")
            top = max(value, pair[1])
        text = f"{100 * value:.0f}" if is_rate else f"{value:.0f}" if value >= 10 else f"{value:.2f}"
        axes.annotate(text, (place + offset, top), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=7.5)


def stacked_shares(name: str, categories: Sequence[str], parts: Sequence[Bars]) -> str:
    """A horizontal bar of length one for each category, cut into parts. Rows without any value are left out."""
    rows = [row for row in range(len(categories)) if any(part.values[row] is not None for part in parts)]
    if not rows:
        return ""
    with _style(name):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        ends = [0.0] * len(rows)
        for part in parts:
            widths = [part.values[row] or 0.0 for row in rows]
            axes.barh(range(len(rows)), widths, left=ends, height=0.62, color=part.colour, label=part.label)
            for place, (start, width) in enumerate(zip(ends, widths, strict=True)):
                if width >= 0.04:
                    axes.text(
                        start + width / 2,
                        place,
                        f"{100 * width:.0f}%",
                        ha="center",
                        va="center",
                        fontsize=8.5,
                        color="white",
                    )
            ends = [end + width for end, width in zip(ends, widths, strict=True)]
        axes.set_yticks(range(len(rows)), [categories[row] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(visible=False, axis="y")
        _legend_above(axes, len(parts))
        return _svg(figure, name)


def small_multiples(name: str, panels: Sequence[Panel], columns: int = 3, panel_height: float = 2.1) -> str:
    """A grid of panels over the training step. Lines without points, and panels without lines, are left out."""
    panels = [Panel(p.title, [line for line in p.lines if line.xs], p.is_rate) for p in panels]
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return ""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with _style(name):
        figure = Figure(figsize=(WIDTH, panel_height * rows + 0.2), layout="constrained")
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, index + 1)
            _draw_panel(axes, panel)
            if index >= len(panels) - columns:
                axes.set_xlabel("step")
        return _svg(figure, name)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        window = max(1, len(line.xs) // 15) if line.smooth else 1
        if window > 1:
            axes.plot(line.xs, line.ys, color=line.colour, linewidth=0.7, alpha=0.28)
        marker = "o" if not line.smooth or len(line.xs) == 1 else None
        axes.plot(
            line.xs,
            running_mean(line.ys, window),
            color=line.colour,
            linewidth=1.5,
            marker=marker,
            markersize=3,
            label=line.label,
        )
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if panel.is_rate:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(panel.title, pad=17 if len(panel.lines) > 1 else 6)
    if len(panel.lines) > 1:
        _legend_above(axes, len(panel.lines), size=7.2)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean over a centred window, which narrows at both ends."""
    half = window // 2
    stretches = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(stretch) / len(stretch) for stretch in stretches]


def _legend_above(axes: Axes, columns: int, size: float = 8.5) -> None:
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


def _svg(figure: Figure, name: str) -> str:
    """The figure as an inline ``<svg>``: no XML prologue, no name spaces or links, ids of its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    opening = re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", opening)
    rest = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'\bxlink:href="#', f'href="#{name}-', rest)
    rest = rest.replace("url(#", f"url(#{name}-")
    return f'{opening} role="img">{rest}'.strip()
