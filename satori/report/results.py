"""What evaluation found, stage by stage: the key figures, accuracy, and self-correction (paper section 6, table 4)."""

from collections.abc import Mapping
from typing import Any

from satori.report import charts
from satori.report.blocks import Block, Card, Figure, Section, Table, Terms, Text
from satori.report.charts import STAGE_COLOURS, Bars
from satori.report.data import ReportData, stage_label
from satori.report.values import (
    decimal,
    duration,
    interval,
    number,
    percent,
    percent_range,
    percent_with_range,
    points,
    whole,
)

UNMEASURED = Text("Not measured in this run.", note=True)


def figure_or_note(svg: str, caption: str) -> Block:
    """A chart, or a note where there was nothing to draw."""
    return Figure(svg, caption) if svg else UNMEASURED


def stage_colour(stage: str) -> str:
    return STAGE_COLOURS.get(stage, "#7c6f9c")


def headline_cards(data: ReportData) -> tuple[Card, ...]:
    """Accuracy from stage to stage, what the reward model is worth, and how long it all took."""
    cards, before = [], None
    for stage in data.stages:
        results = data.stage(stage)
        accuracy = number(results, "accuracy")
        details = (
            f"95%: {percent_range(interval(results, 'accuracy_ci95'))}",
            *([points(accuracy, before)] if accuracy is not None and before is not None else []),
        )
        cards.append(Card(stage_label(stage), percent(accuracy), details, leads_on=stage != data.stages[-1]))
        before = accuracy if accuracy is not None else before
    picks = data.summary.get("rm_at_8")
    rm_details = (
        f"first sample {percent(number(picks, 'first_sample'))}",
        f"oracle {percent(number(picks, 'oracle'))}",
    )
    cards.append(Card("RM@8", percent(number(picks, "reward_model")), rm_details))
    cards.append(Card("Wall time", duration(number(data.summary, "wall_seconds")), ("whole pipeline",)))
    return tuple(cards)


def accuracy_section(data: ReportData) -> Section:
    """Accuracy on the test set for each stage."""
    results = [data.stage(stage) for stage in data.stages]
    labels = [stage_label(stage) for stage in data.stages]
    bars = Bars(
        "accuracy",
        [stage_colour(stage) for stage in data.stages],
        [number(result, "accuracy") for result in results],
        [interval(result, "accuracy_ci95") for result in results],
    )
    svg = charts.grouped_bars("accuracy", labels, [bars], "accuracy", is_rate=True, height=2.7)
    rows = tuple(
        (
            label,
            percent(number(result, "accuracy")),
            percent_range(interval(result, "accuracy_ci95")),
            whole(number(result, "count")),
            percent(number(result, "truncation_rate")),
            decimal(number(result, "mean_length")),
        )
        for label, result in zip(labels, results, strict=True)
    )
    terms = tuple((name, text) for name, text in data.set_descriptions.items() if name not in data.ood_sets)
    return Section(
        "accuracy",
        "Accuracy per stage",
        (
            *([Terms(terms)] if terms else []),
            figure_or_note(svg, "Share of test problems whose final answer is right; whiskers are 95% intervals."),
            Table(
                ("Stage", "Accuracy", "95% interval", "Problems", "Truncated", "Mean length"),
                rows,
                "The test set. Truncated: responses cut off by the length limit. Lengths are in tokens.",
            ),
        ),
    )


def level_section(data: ReportData) -> Section:
    """Accuracy by difficulty."""
    categories = [f"level {level}" for level in data.levels]
    bars = [
        Bars(
            stage_label(stage),
            stage_colour(stage),
            [number(data.stage(stage), "by_level", level, "accuracy") for level in data.levels],
            [interval(data.stage(stage), "by_level", level, "ci95") for level in data.levels],
        )
        for stage in data.stages
    ]
    rows = tuple(
        (
            f"Level {level}",
            _largest_count(data, "by_level", level),
            *(
                percent_with_range(
                    number(data.stage(stage), "by_level", level, "accuracy"),
                    interval(data.stage(stage), "by_level", level, "ci95"),
                )
                for stage in data.stages
            ),
        )
        for level in data.levels
    )
    return Section(
        "levels",
        "Accuracy by level",
        (
            figure_or_note(
                charts.grouped_bars("levels", categories, bars, "accuracy", is_rate=True),
                "Accuracy on the test set by difficulty, in percent; whiskers are 95% intervals.",
            ),
            Table(("Level", "Problems", *map(stage_label, data.stages)), rows, "Accuracy with its 95% interval."),
        ),
    )


def ood_section(data: ReportData) -> Section:
    """Accuracy on the sets that no stage was trained on."""
    bars = [
        Bars(
            stage_label(stage),
            stage_colour(stage),
            [number(data.stage(stage), "ood", name, "accuracy") for name in data.ood_sets],
            [interval(data.stage(stage), "ood", name, "ci95") for name in data.ood_sets],
        )
        for stage in data.stages
    ]
    rows = tuple(
        (
            name,
            _largest_count(data, "ood", name),
            *(
                percent_with_range(
                    number(data.stage(stage), "ood", name, "accuracy"), interval(data.stage(stage), "ood", name, "ci95")
                )
                for stage in data.stages
            ),
        )
        for name in data.ood_sets
    )
    terms = tuple((name, data.set_descriptions[name]) for name in data.ood_sets if name in data.set_descriptions)
    return Section(
        "ood",
        "Out of domain",
        (
            Text("Problems unlike any that the stages were trained on."),
            *([Terms(terms)] if terms else []),
            figure_or_note(
                charts.grouped_bars("ood", data.ood_sets, bars, "accuracy", is_rate=True, height=2.7),
                "Accuracy on each out-of-domain set, in percent; whiskers are 95% intervals.",
            ),
            Table(("Set", "Problems", *map(stage_label, data.stages)), rows, "Accuracy with its 95% interval."),
        ),
    )


def _largest_count(data: ReportData, group: str, name: str) -> str:
    """How many problems a group holds: the largest count of any stage."""
    counts = [number(data.stage(stage), group, name, "count") for stage in data.stages]
    return whole(max((count for count in counts if count is not None), default=None))


def self_correction_section(data: ReportData) -> Section:
    """What becomes of answers that a response revises (paper table 4)."""
    results = [data.stage(stage) for stage in data.stages]
    gained = [number(result, "wrong_to_right") for result in results]
    lost = [number(result, "right_to_wrong") for result in results]
    labels = [stage_label(stage) for stage in data.stages]
    parts = [
        Bars("wrong → right", charts.RIGHT_COLOUR, gained),
        Bars("right → wrong", charts.WRONG_COLOUR, lost),
    ]
    rows = tuple(
        (label, *map(whole, _change_counts(result)), percent(up), percent(down))
        for label, result, up, down in zip(labels, results, gained, lost, strict=True)
    )
    ways = ("wrong → right", "right → wrong")
    header = ("Stage", "Responses", "Changed", *ways, "wrong → wrong", *(f"{way}, share" for way in ways))
    return Section(
        "self-correction",
        "Self-correction",
        (
            Text(
                "Responses that answer, reflect or explore, and then answer again with a different answer: "
                "how often the change repairs a wrong answer, and how often it spoils a right one."
            ),
            figure_or_note(
                charts.stacked_shares("self-correction", labels, parts),
                "Shares among the changes between right and wrong; a stage without any is left out.",
            ),
            Table(
                header,
                rows,
                "Counts of responses, and shares among the changes between right and wrong. A change from one wrong "
                "answer to another counts as changed but enters neither share.",
            ),
            Text(
                "Quoted from the paper (table 4, 7B models on MATH500), not measured here: format tuned "
                "20.6% wrong → right and 79.4% right → wrong; after RL 61.0% and 39.0%.",
                note=True,
            ),
        ),
    )


def _change_counts(result: Mapping[str, Any]) -> tuple[float | None, ...]:
    """Responses; changed answers; of these to right, to wrong, and from one wrong answer to another."""
    counts = [number(result, key) for key in ("changed", "wrong_to_right_count", "right_to_wrong_count")]
    known = [count for count in counts if count is not None]
    between_wrong = known[0] - known[1] - known[2] if len(known) == len(counts) else None
    return number(result, "count"), *counts, between_wrong
