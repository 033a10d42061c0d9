"""Charts as SVG text for a page: grouped bars with intervals, stacked bars, small multiples of curves, heat maps.

Every function returns "" where there is nothing to draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from satori.report.canvas import INK, WIDTH, legend_above, one_line, styled, to_svg

_HEAT = LinearSegmentedColormap.from_list("heat", ["#f4f6f8", "#7cb8c9", "#12798a"])


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
    stepped: bool = False
    """Drawn as the outline of a histogram whose bars have the points as their middles."""


@dataclass(frozen=True)
class Panel:
    """One small chart of several curves over the same axis."""

    title: str
    lines: Sequence[Line]
    is_rate: bool = False


@dataclass(frozen=True)
class Grid:
    """Shares by row and column; None where a row has nothing to share out."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


def grouped_bars(
    name: str, categories: Sequence[str], groups: Sequence[Bars], y_label: str, is_rate: bool, height: float = 3.0
) -> str:
    """Bars side by side for each category, each with its value and interval."""
    groups = [group for group in groups if any(value is not None for value in group.values)]
    if not groups:
        return ""
    with styled(name):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / max(len(groups), 2)
        for index, group in enumerate(groups):
            _draw_bars(axes, group, (index - (len(groups) - 1) / 2) * width, width, is_rate)
        axes.set_xticks(range(len(categories)), [one_line(name) for name in categories])
        axes.set_ylabel(y_label)
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.55, len(categories) - 0.45)
        if is_rate:
            axes.set_ylim(0, 1.08)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if len(groups) > 1:
            legend_above(axes, min(len(groups), 6))
        return to_svg(figure, name)


def _draw_bars(axes: Axes, group: Bars, offset: float, width: float, is_rate: bool) -> None:
    intervals = group.intervals or [None] * len(group.values)
    for place, (value, pair) in enumerate(zip(group.values, intervals, strict=True)):
        if value is None:
            continue
        colour = group.colour if isinstance(group.colour, str) else group.colour[place]
        axes.bar(place + offset, value, width=width * 0.92, color=colour, label=one_line(group.label))
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
    with styled(name):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        ends = [0.0] * len(rows)
        for part in parts:
            widths = [part.values[row] or 0.0 for row in rows]
            axes.barh(range(len(rows)), widths, left=ends, height=0.62, color=part.colour, label=one_line(part.label))
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
        axes.set_yticks(range(len(rows)), [one_line(categories[row]) for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(visible=False, axis="y")
        legend_above(axes, len(parts))
        return to_svg(figure, name)


def small_multiples(
    name: str, panels: Sequence[Panel], columns: int = 3, panel_height: float = 2.1, x_label: str = "step"
) -> str:
    """A grid of panels. Lines without points, and panels without lines, are left out."""
    panels = [Panel(p.title, [line for line in p.lines if line.xs], p.is_rate) for p in panels]
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return ""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with styled(name):
        figure = Figure(figsize=(WIDTH, panel_height * rows + 0.2), layout="constrained")
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, index + 1)
            _draw_panel(axes, panel)
            if index >= len(panels) - columns:
                axes.set_xlabel(x_label)
        return to_svg(figure, name)


def heat_maps(name: str, grids: Sequence[Grid], columns: int = 4) -> str:
    """Grids of shares side by side, darker where the share is larger. Grids without any value are left out."""
    grids = [grid for grid in grids if any(value is not None for row in grid.values for value in row)]
    if not grids:
        return ""
    columns = min(columns, len(grids))
    rows = -(-len(grids) // columns)
    with styled(name):
        figure = Figure(figsize=(WIDTH, 2.2 * rows), layout="constrained")
        for index, grid in enumerate(grids):
            _draw_grid(figure.add_subplot(rows, columns, index + 1), grid)
        return to_svg(figure, name)


def _draw_grid(axes: Axes, grid: Grid) -> None:
    shares = [[value or 0.0 for value in row] for row in grid.values]
    axes.pcolormesh(shares, cmap=_HEAT, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for y, row in enumerate(grid.values):
        for x, value in enumerate(row):
            if value is not None:
                ink = "white" if value > 0.5 else INK
                text = f"{100 * value:.0f}" if value == 0 or value >= 0.005 else "<1"
                axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7.5, color=ink)
    for axis, names in ((axes.xaxis, grid.columns), (axes.yaxis, grid.rows)):
        axis.set_ticks([place + 0.5 for place in range(len(names))], [one_line(name) for name in names], fontsize=7.5)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(one_line(grid.title), pad=6)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        window = max(1, len(line.xs) // 15) if line.smooth else 1
        if window > 1:
            axes.plot(line.xs, line.ys, color=line.colour, linewidth=0.7, alpha=0.28)
        marker = "o" if not (line.smooth or line.stepped) or len(line.xs) == 1 else None
        axes.plot(
            line.xs,
            running_mean(line.ys, window),
            color=line.colour,
            linewidth=1.5,
            marker=marker,
            markersize=3,
            drawstyle="steps-mid" if line.stepped else "default",
            label=one_line(line.label),
        )
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if panel.is_rate:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(one_line(panel.title), pad=17 if len(panel.lines) > 1 else 6)
    if len(panel.lines) > 1:
        legend_above(axes, len(panel.lines), size=7.2)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean over a centred window, which narrows at both ends."""
    half = window // 2
    stretches = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(stretch) / len(stretch) for stretch in stretches]
