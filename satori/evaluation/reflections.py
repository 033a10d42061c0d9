"""What reflecting does to answers (paper section 6, table 4): kept, repaired or spoilt.

A response is cut at its reflections and explorations; the last boxed answer of each stretch stands until the next one.
The last answer of all is judged as the grader judged it, so that of a response cut off is wrong; earlier ones are
compared with the gold answer by the same grader. Every pair of answers is compared once.

What it leaves out: answers that are not boxed, of which a response has one at most, and whether reflections in the
middle of a solution found a real mistake.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from itertools import pairwise

from satori.coat import MetaAction, parse
from satori.evaluation.records import EvaluatedResponse
from satori.grading import boxed_answers, same_answer

Same = Callable[[str, str], bool]


class Outcome(StrEnum):
    """What came of one reflection: the answer that stood before it, against the one given after it."""

    CONFIRMS_RIGHT = "confirms_right"
    CONFIRMS_WRONG = "confirms_wrong"
    CATCHES_ERROR = "catches_error"
    BREAKS_RIGHT = "breaks_right"
    CHANGES_WRONG = "changes_wrong"
    """From one wrong answer to another."""
    NO_ANSWER_BEFORE = "no_answer_before"
    """A reflection in the middle of the solution."""
    NO_ANSWER_AFTER = "no_answer_after"
    """No answer until the next reflection or the end."""


@dataclass(frozen=True)
class Stretch:
    """A response from one search step to the next: the step it opens with, and the last answer in it."""

    action: MetaAction | None
    answer: str | None


@dataclass(frozen=True)
class Judged:
    """An answer that stood for a while, and whether it is right."""

    text: str
    right: bool


@dataclass(frozen=True)
class AnswerHistory:
    """What became of the answers of one response."""

    searched_after_answer: bool
    """Whether it reflects or explores after it has given an answer."""
    change: tuple[bool, bool] | None
    """Whether the first and the last answer are right, where they differ."""
    changes: int
    """How often an answer differs from the one before it."""
    outcomes: tuple[Outcome, ...]
    """What came of each reflection, in order."""


def stretches(text: str) -> tuple[Stretch, ...]:
    """The stretches of a response. The opening is always there; two answers without a search between them are one
    stretch, of which the later stands."""
    found = [Stretch(None, None)]
    for step in parse(text):
        if step.action in (MetaAction.REFLECT, MetaAction.EXPLORE):
            found.append(Stretch(step.action, None))
        if answers := boxed_answers(step.text):
            found[-1] = Stretch(found[-1].action, answers[-1])
    return tuple(found)


def answer_history(response: EvaluatedResponse) -> AnswerHistory:
    """What became of the answers of one response."""
    compare = cache(partial(same_answer, form=response.form))

    def same(one: str, other: str) -> bool:
        return one == other or compare(one, other)

    parts = stretches(response.response)
    last = max((place for place, part in enumerate(parts) if part.answer is not None), default=None)
    judged = [
        None
        if part.answer is None
        else Judged(part.answer, response.correct if place == last else same(part.answer, response.gold))
        for place, part in enumerate(parts)
    ]
    given = [answer for answer in judged if answer is not None]
    changed = len(given) > 1 and not same(given[0].text, given[-1].text)
    return AnswerHistory(
        searched_after_answer=any(answer is not None for answer in judged[:-1]),
        change=(given[0].right, given[-1].right) if changed else None,
        changes=sum(not same(before.text, after.text) for before, after in pairwise(given)),
        outcomes=_outcomes(parts, judged, same),
    )


def _outcomes(parts: Sequence[Stretch], judged: Sequence[Judged | None], same: Same) -> tuple[Outcome, ...]:
    """What came of each reflection; an exploration belongs to the reflection before it."""
    before: list[Judged | None] = []
    after: list[Judged | None] = []
    standing: Judged | None = None
    for part, answer in zip(parts, judged, strict=True):
        if part.action is MetaAction.REFLECT:
            before.append(standing)
            after.append(None)
        if answer is not None:
            standing = answer
            if after:
                after[-1] = answer
    return tuple(outcome(old, new, same) for old, new in zip(before, after, strict=True))


def outcome(before: Judged | None, after: Judged | None, same: Same) -> Outcome:
    """What came of a reflection between two answers.

    The same answer again is a confirmation even where the response was then cut off, which makes its last answer wrong.
    """
    if before is None:
        return Outcome.NO_ANSWER_BEFORE
    if after is None:
        return Outcome.NO_ANSWER_AFTER
    if (before.right and after.right) or same(before.text, after.text):
        return Outcome.CONFIRMS_RIGHT if before.right or after.right else Outcome.CONFIRMS_WRONG
    if before.right:
        return Outcome.BREAKS_RIGHT
    return Outcome.CATCHES_ERROR if after.right else Outcome.CHANGES_WRONG


def self_correction(histories: Sequence[AnswerHistory]) -> dict[str, object]:
    """Paper table 4: of the answers changed between right and wrong, the shares that went each way; and how often
    going over an answer changed it at all."""
    changes = [history.change for history in histories if history.change is not None]
    to_right, to_wrong = changes.count((False, True)), changes.count((True, False))
    decided = to_right + to_wrong
    reflected = sum(history.searched_after_answer for history in histories)
    return {
        "reflected_on": reflected,
        "changed": len(changes),
        "changed_rate": len(changes) / reflected if reflected else None,
        "changed_more_than_once": sum(history.changes > 1 for history in histories),
        "wrong_to_right_count": to_right,
        "right_to_wrong_count": to_wrong,
        "wrong_to_right": to_right / decided if decided else None,
        "right_to_wrong": to_wrong / decided if decided else None,
    }


def reflection_outcomes(histories: Sequence[AnswerHistory]) -> dict[str, int]:
    """How many reflections had each outcome."""
    counts = Counter(outcome for history in histories for outcome in history.outcomes)
    return {kind.value: counts[kind] for kind in Outcome}
