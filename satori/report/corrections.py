"""What reflecting does to answers: those changed (paper section 6, table 4), and what came of each reflection."""

from satori.evaluation.reflections import Outcome
from satori.report import charts
from satori.report.blocks import Section, Table, Text
from satori.report.canvas import (
    NEUTRAL_COLOUR,
    PALE_RIGHT_COLOUR,
    PALE_WRONG_COLOUR,
    RIGHT_COLOUR,
    WRONG_COLOUR,
)
from satori.report.charts import Bars
from satori.report.results import figure_or_note
from satori.report.series import ResultSet, Rows, Series
from satori.report.values import count_with_share, number, whole

# The outcomes that have an answer before the reflection and one after it, with their words and colours.
_JUDGED: dict[Outcome, tuple[str, str]] = {
    Outcome.CONFIRMS_RIGHT: ("confirms a right answer", PALE_RIGHT_COLOUR),
    Outcome.CATCHES_ERROR: ("catches an error", RIGHT_COLOUR),
    Outcome.CONFIRMS_WRONG: ("confirms a wrong answer", PALE_WRONG_COLOUR),
    Outcome.CHANGES_WRONG: ("wrong to another wrong", NEUTRAL_COLOUR),
    Outcome.BREAKS_RIGHT: ("breaks a right answer", WRONG_COLOUR),
}
_UNJUDGED: dict[Outcome, str] = {
    Outcome.NO_ANSWER_BEFORE: "before any answer",
    Outcome.NO_ANSWER_AFTER: "no answer after",
}


def self_correction_section(results: ResultSet) -> Section:
    """What becomes of answers that a response revises, and what came of each of its reflections."""
    changed = [
        Bars("wrong → right", RIGHT_COLOUR, results.numbers("wrong_to_right")),
        Bars("right → wrong", WRONG_COLOUR, results.numbers("right_to_wrong")),
    ]
    outcomes = [
        Bars(words, colour, [_share(one, outcome) for one in results.series])
        for outcome, (words, colour) in _JUDGED.items()
    ]
    return Section(
        "self-correction",
        "Self-correction",
        (
            Text(
                "Responses that answer, reflect or explore, and then answer again with a different answer: "
                "how often the change repairs a wrong answer, and how often it spoils a right one."
            ),
            figure_or_note(
                charts.stacked_shares("self-correction", results.labels, changed),
                "Shares among the changes between right and wrong; rows without any are left out.",
            ),
            _change_table(results),
            Text(
                "Quoted from the paper (table 4, 7B models on MATH500), not measured here: format tuned "
                "20.6% wrong → right and 79.4% right → wrong; after RL 61.0% and 39.0%.",
                note=True,
            ),
            figure_or_note(
                charts.stacked_shares("reflections", results.labels, outcomes),
                "What came of the reflections that have an answer before them and one after: shares of these.",
            ),
            Table(
                (results.kind, "Reflections", *(words for words, _ in _JUDGED.values()), *_UNJUDGED.values()),
                _outcome_rows(results),
                "Counts of reflections, by the answer that stood before each and the last one before the next.",
            ),
        ),
    )


def _change_table(results: ResultSet) -> Table:
    header = (
        results.kind,
        "Responses",
        "Answer gone over",
        "Changed",
        "Changed twice or more",
        "wrong → right",
        "right → wrong",
        "wrong → wrong",
    )
    return Table(
        header,
        tuple(map(_change_row, results.series)),
        "Counts of responses. Gone over: a reflection or exploration follows an answer. Changed: the last answer "
        "differs from the first; the share is of those gone over. Between right and wrong the shares are of these two.",
    )


def _change_row(one: Series) -> tuple[str, ...]:
    changed, to_right, to_wrong = (
        number(one.results, key) for key in ("changed", "wrong_to_right_count", "right_to_wrong_count")
    )
    between_wrong = None
    if changed is not None and to_right is not None and to_wrong is not None:
        between_wrong = changed - to_right - to_wrong
    return (
        one.label,
        whole(number(one.results, "responses")),
        whole(number(one.results, "reflected_on")),
        count_with_share(changed, number(one.results, "changed_rate")),
        whole(number(one.results, "changed_more_than_once")),
        count_with_share(to_right, number(one.results, "wrong_to_right")),
        count_with_share(to_wrong, number(one.results, "right_to_wrong")),
        whole(between_wrong),
    )


def _share(one: Series, outcome: Outcome) -> float | None:
    """An outcome's share among the reflections between two answers; None where there are none of these."""
    counts = {kind: number(one.results, "reflections", kind.value) or 0.0 for kind in _JUDGED}
    total = sum(counts.values())
    return counts[outcome] / total if total else None


def _outcome_rows(results: ResultSet) -> Rows:
    rows = []
    for one in results.series:
        counts = [number(one.results, "reflections", outcome.value) for outcome in (*_JUDGED, *_UNJUDGED)]
        known = [count for count in counts if count is not None]
        rows.append((one.label, whole(sum(known) if known else None), *map(whole, counts)))
    return tuple(rows)
