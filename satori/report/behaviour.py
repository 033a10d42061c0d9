"""How long responses are, by level against the plain solution and over reinforcement learning (paper figures 3, 4)."""

from collections.abc import Mapping

from satori.report import charts
from satori.report.blocks import Block, Section, Table
from satori.report.canvas import LINE_COLOURS
from satori.report.charts import Bars, Panel
from satori.report.data import ReportData, stage_label
from satori.report.results import figure_or_note
from satori.report.series import ResultSet
from satori.report.training_course import Columns, metric_line, stretch_tables
from satori.report.values import decimal, number, percent

PLAIN = "Plain solution"


def length_section(results: ResultSet, data: ReportData) -> Section:
    """Length of responses by level, and over the steps of reinforcement learning."""
    panels = [
        Panel(
            stage_label(name),
            [
                metric_line(records, "response_length", "all starts", LINE_COLOURS[0]),
                metric_line(records, "length_problem", "from a plain problem", LINE_COLOURS[1]),
                metric_line(records, "validation_length", "validation", LINE_COLOURS[2], smooth=False),
            ],
        )
        for name, records in ((name, data.rl_metrics[name]) for name in data.rl_rounds)
    ]
    columns: Columns = {
        "response_length": ("All starts", decimal),
        "length_problem": ("Plain problems", decimal),
        "validation_length": ("Validation", decimal),
        "accuracy_problem": ("Accuracy, plain problems", percent),
        "validation_accuracy": ("Accuracy, validation", percent),
    }
    return Section(
        "length",
        "Response length",
        (
            *length_blocks(results, data.plain_length_by_level),
            figure_or_note(
                charts.small_multiples("length-steps", panels, columns=2, panel_height=2.5),
                "Tokens of a rollout over the steps of RL; the thick curve is a running mean. "
                "In the paper, length first falls and then grows.",
            ),
            *stretch_tables(data, columns, "Tokens sampled per response, and accuracy, over the steps of"),
        ),
    )


def length_blocks(results: ResultSet, plain: Mapping[str, float]) -> tuple[Block, ...]:
    """Mean length by level, beside that of the plain solutions where it is known."""
    levels = results.levels([*plain])
    plain_lengths = {level: number(plain, level) for level in levels}
    bars = [
        *([Bars(PLAIN, "#e9c46a", [*plain_lengths.values()])] if plain else []),
        *(
            Bars(one.label, one.colour, [number(one.results, "length_by_level", level) for level in levels])
            for one in results.series
        ),
    ]
    rows = results.value_rows("length_by_level", levels, decimal)
    overall = ("All levels", *map(decimal, results.numbers("mean_length")))
    return (
        figure_or_note(
            charts.grouped_bars("length", [*levels.values()], bars, "tokens", is_rate=False),
            f"Mean tokens of a response by level{', beside the plain reference solution' if plain else ''}.",
        ),
        Table(
            ("Level", *([PLAIN] if plain else []), *results.labels),
            tuple(
                (label, *([decimal(length)] if plain else []), *lengths)
                for (label, *lengths), length in zip((*rows, overall), (*plain_lengths.values(), None), strict=True)
            ),
            "Mean length in tokens.",
        ),
    )
