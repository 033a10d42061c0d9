"""What evaluation found: the key figures, and accuracy over all, by level and out of domain (paper section 5)."""

from collections.abc import Mapping

from satori.report import charts
from satori.report.blocks import Block, Card, Figure, Section, Table, Terms, Text
from satori.report.charts import Bars
from satori.report.data import ReportData, stage_label
from satori.report.series import ResultSet, Rows, Series
from satori.report.values import decimal, duration, interval, number, percent, percent_range, points, whole

UNMEASURED = Text("Not measured in this run.", note=True)


def figure_or_note(svg: str, caption: str) -> Block:
    """A chart, or a note where there was nothing to draw."""
    return Figure(svg, caption) if svg else UNMEASURED


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
    cards.append(Card(f"RM@{data.rm_samples}", percent(number(picks, "reward_model")), rm_details))
    cards.append(Card("Wall time", duration(number(data.summary, "wall_seconds")), ("whole pipeline",)))
    return tuple(cards)


def accuracy_section(results: ResultSet, terms: Mapping[str, str]) -> Section:
    """Accuracy of each of the results, with how many responses were cut off and how long they are."""
    bars = Bars(
        "accuracy",
        [one.colour for one in results.series],
        results.numbers("accuracy"),
        [interval(one.results, "accuracy_ci95") for one in results.series],
    )
    svg = charts.grouped_bars("accuracy", results.labels, [bars], "accuracy", is_rate=True, height=2.7)
    header = (results.kind, "Accuracy", "95% interval", "Problems", "Truncated", "Mean length")
    return Section(
        "accuracy",
        f"Accuracy per {results.kind.lower()}",
        (
            *([Terms(tuple(terms.items()))] if terms else []),
            figure_or_note(svg, "Share of problems whose final answer is right; whiskers are 95% intervals."),
            Table(
                header,
                tuple(map(_accuracy_row, results.series)),
                "Truncated: responses cut off by the length limit, which count as wrong. Lengths are in tokens.",
            ),
            *(Text(said) for one in results.series if (said := _unanswered(one))),
        ),
    )


def _unanswered(one: Series) -> str:
    """How many prompts were not asked or answered; empty where all were."""
    count, responses = (whole(number(one.results, key)) for key in ("unanswered", "responses"))
    if not number(one.results, "unanswered"):
        return ""
    return (
        f"Warning: {one.label}: {count} of {responses} prompts leave no room for a response in the model's context, or "
        "a server refused them or sent no text: not answered, counted as wrong."
    )


def _accuracy_row(one: Series) -> tuple[str, ...]:
    return (
        one.label,
        percent(number(one.results, "accuracy")),
        percent_range(interval(one.results, "accuracy_ci95")),
        whole(number(one.results, "count")),
        percent(number(one.results, "truncation_rate")),
        decimal(number(one.results, "mean_length")),
    )


def level_section(results: ResultSet) -> Section:
    """Accuracy by difficulty."""
    levels = results.levels()
    svg = charts.grouped_bars("levels", [*levels.values()], results.bars("by_level", [*levels]), "accuracy", True)
    return Section(
        "levels",
        "Accuracy by level",
        (
            figure_or_note(svg, "Accuracy by difficulty, in percent; whiskers are 95% intervals."),
            _accuracy_table("Level", results, results.accuracy_rows("by_level", levels)),
        ),
    )


def ood_section(results: ResultSet, data: ReportData) -> Section:
    """Accuracy on the sets that no stage was trained on."""
    sets = {name: name for name in data.ood_sets}
    terms = tuple((name, data.set_descriptions[name]) for name in sets if name in data.set_descriptions)
    svg = charts.grouped_bars("ood", [*sets], results.bars("ood", [*sets]), "accuracy", is_rate=True, height=2.7)
    return Section(
        "ood",
        "Out of domain",
        (
            Text("Problems unlike any that the stages were trained on."),
            *([Terms(terms)] if terms else []),
            figure_or_note(svg, "Accuracy on each out-of-domain set, in percent; whiskers are 95% intervals."),
            _accuracy_table("Set", results, results.accuracy_rows("ood", sets)),
        ),
    )


def _accuracy_table(of: str, results: ResultSet, rows: Rows) -> Table:
    return Table((of, "Problems", *results.labels), rows, "Accuracy with its 95% interval.")
