"""How the stages respond: lengths against the plain solution (paper figures 3 and 4), and the use of meta-actions."""

from collections.abc import Mapping, Sequence

from satori.report import charts
from satori.report.blocks import Block, Section, Table
from satori.report.charts import ACTION_COLOURS, Bars, Line, Panel
from satori.report.data import ReportData, stage_label
from satori.report.results import figure_or_note, stage_colour
from satori.report.training_course import Columns, metric_line, stretch_table
from satori.report.values import decimal, number, percent

PLAIN = "Plain solution"


def length_section(data: ReportData) -> Section:
    """Length of responses by level, and over the steps of reinforcement learning."""
    categories = [f"level {level}" for level in data.levels]
    plain = [number(data.plain_length_by_level, level) for level in data.levels]
    bars = [
        Bars(PLAIN, "#e9c46a", plain),
        *(
            Bars(
                stage_label(stage),
                stage_colour(stage),
                [number(data.stage(stage), "length_by_level", level) for level in data.levels],
            )
            for stage in data.stages
        ),
    ]
    by_level = tuple(
        (
            f"Level {level}",
            decimal(length),
            *(decimal(number(data.stage(stage), "length_by_level", level)) for stage in data.stages),
        )
        for level, length in zip(data.levels, plain, strict=True)
    )
    overall = ("All levels", decimal(None), *(decimal(number(data.stage(s), "mean_length")) for s in data.stages))
    panels = [
        Panel(
            stage_label(name),
            [
                metric_line(records, "response_length", "all starts", charts.LINE_COLOURS[0]),
                metric_line(records, "length_problem", "from a plain problem", charts.LINE_COLOURS[1]),
                _validation_line(records, "validation_length"),
            ],
        )
        for name, records in _rounds(data)
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
            figure_or_note(
                charts.grouped_bars("length", categories, bars, "tokens", is_rate=False),
                "Mean tokens of a response on the test set by level, beside the plain reference solution.",
            ),
            Table(("Level", PLAIN, *map(stage_label, data.stages)), (*by_level, overall), "Mean length in tokens."),
            figure_or_note(
                charts.small_multiples("length-steps", panels, columns=2, panel_height=2.5),
                "Tokens of a rollout over the steps of RL; the thick curve is a running mean. "
                "In the paper, length first falls and then grows.",
            ),
            *_stretch_tables(data, columns, "Tokens sampled per response, and accuracy, over the steps of"),
        ),
    )


def action_section(data: ReportData) -> Section:
    """How often each meta-action is used, by stage, by level and over reinforcement learning."""
    labels = [stage_label(stage) for stage in data.stages]
    per_stage = {
        action: [number(data.stage(stage), "actions_per_response", action) for stage in data.stages]
        for action in ACTION_COLOURS
    }
    bars = [Bars(action, ACTION_COLOURS[action], values) for action, values in per_stage.items()]
    rows = tuple(
        (
            label,
            *(decimal(per_stage[action][place], 2) for action in ACTION_COLOURS),
            percent(number(data.stage(stage), "reflect_rate")),
        )
        for place, (stage, label) in enumerate(zip(data.stages, labels, strict=True))
    )
    by_level = tuple(
        (
            f"Level {level}",
            *(percent(number(data.stage(stage), "reflect_rate_by_level", level)) for stage in data.stages),
        )
        for level in data.levels
    )
    panels = [
        Panel(
            stage_label(name),
            [
                metric_line(records, f"{action}_per_response", action, ACTION_COLOURS[action])
                for action in ACTION_COLOURS
            ],
        )
        for name, records in _rounds(data)
    ]
    columns: Columns = {f"{action}_per_response": (action, _two_digits) for action in ACTION_COLOURS}
    return Section(
        "actions",
        "Use of meta-actions",
        (
            figure_or_note(
                charts.grouped_bars("actions", labels, bars, "per response", is_rate=False, height=2.7),
                "Mean number of each meta-action in a response on the test set.",
            ),
            Table(
                ("Stage", *ACTION_COLOURS, "Responses that search"),
                rows,
                "Meta-actions per response. A response searches where it reflects or explores at least once.",
            ),
            Table(("Level", *labels), by_level, "Share of responses that search, by level."),
            figure_or_note(
                charts.small_multiples("action-steps", panels, columns=2, panel_height=2.5),
                "Meta-actions that the policy samples per rollout over the steps of RL. "
                "The token that closes a restart prefix is not counted.",
            ),
            *_stretch_tables(data, columns, "Meta-actions per response over the steps of"),
        ),
    )


def _two_digits(value: float | None) -> str:
    return decimal(value, 2)


def _rounds(data: ReportData) -> list[tuple[str, Sequence[Mapping[str, float]]]]:
    return [(name, data.rl_metrics[name]) for name in data.rl_rounds]


def _validation_line(records: Sequence[Mapping[str, float]], key: str) -> Line:
    return metric_line(records, key, "validation", charts.LINE_COLOURS[2], smooth=False)


def _stretch_tables(data: ReportData, columns: Columns, caption: str) -> list[Block]:
    return [stretch_table(records, columns, f"{caption} {stage_label(name)}.") for name, records in _rounds(data)]
