"""What tables and charts set side by side: the results of the stages of a pipeline, of benchmarks, or of runs.

Results are what :func:`satori.evaluation.analyses.analyse` gives; any of them may be missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from satori.report.canvas import SERIES_COLOURS, STAGE_COLOURS
from satori.report.charts import Bars
from satori.report.data import ReportData, stage_label
from satori.report.values import interval, number, percent_with_range, whole

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Series:
    """One model's results, under the label and colour it has everywhere."""

    label: str
    colour: str
    results: Mapping[str, Any]


@dataclass(frozen=True)
class ResultSet:
    """Results side by side; ``kind`` says what each of them is of, and heads their column: ``Stage``, ``Benchmark``."""

    kind: str
    series: tuple[Series, ...]

    @property
    def labels(self) -> list[str]:
        return [one.label for one in self.series]

    def numbers(self, *keys: str) -> list[float | None]:
        return [number(one.results, *keys) for one in self.series]

    def bars(self, group: str, names: Sequence[str]) -> list[Bars]:
        """Accuracy with its interval, for each name in a group such as the levels."""
        return [
            Bars(
                one.label,
                one.colour,
                [number(one.results, group, name, "accuracy") for name in names],
                [interval(one.results, group, name, "ci95") for name in names],
            )
            for one in self.series
        ]

    def accuracy_rows(self, group: str, names: Mapping[str, str]) -> Rows:
        """For each name in a group, by its label: the most problems that any of the results has, and accuracies."""
        return tuple(
            (
                label,
                whole(max((n for n in self.numbers(group, name, "count") if n is not None), default=None)),
                *(
                    percent_with_range(
                        number(one.results, group, name, "accuracy"), interval(one.results, group, name, "ci95")
                    )
                    for one in self.series
                ),
            )
            for name, label in names.items()
        )

    def value_rows(self, group: str, names: Mapping[str, str], write: Callable[[float | None], str]) -> Rows:
        """For each name in a group, by its label: a value of each of the results."""
        return tuple((label, *map(write, self.numbers(group, name))) for name, label in names.items())

    def levels(self, further: Sequence[str] = ()) -> dict[str, str]:
        """Every difficulty level that something is known about, easiest first, with its label."""
        groups = ("by_level", "length_by_level", "reflect_rate_by_level")
        names = {level for one in self.series for key in groups for level in one.results.get(key) or {}} | {*further}
        ordered = sorted(names, key=lambda level: (0, int(level), "") if level.isdecimal() else (1, 0, level))
        return {level: f"Level {level}" for level in ordered}


def stage_results(data: ReportData) -> ResultSet:
    """The stages of a pipeline."""
    return ResultSet(
        "Stage",
        tuple(
            Series(stage_label(stage), STAGE_COLOURS.get(stage, "#7c6f9c"), data.stage(stage)) for stage in data.stages
        ),
    )


def named_results(kind: str, results: Mapping[str, Mapping[str, Any]]) -> ResultSet:
    """Results by their label."""
    colours = [SERIES_COLOURS[place % len(SERIES_COLOURS)] for place in range(len(results))]
    return ResultSet(
        kind, tuple(Series(name, colour, found) for (name, found), colour in zip(results.items(), colours, strict=True))
    )
