"""What graded responses say: accuracy with intervals, self-correction, lengths, meta-actions (paper sections 5 and 6).

Pure functions over records of responses. Rates are fractions, lengths tokens with the end token.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from satori.coat import MetaAction, count_actions, parse, searches
from satori.grading import boxed_answers, same_answer


@dataclass(frozen=True)
class EvaluatedResponse:
    """One response of an evaluation, as it is saved."""

    problem_id: str
    set_name: str
    level: int
    question: str
    gold: str
    response: str
    tokens: int
    finished: bool
    correct: bool
    answers: tuple[str, ...]
    plain_tokens: int
    """Length of the plain reference solution; 0 where there is none."""


def wilson(right: int, count: int, z: float = 1.96) -> list[float]:
    """The 95% Wilson interval of a proportion; [0, 1] for no observations."""
    if count == 0:
        return [0.0, 1.0]
    share = right / count
    centre, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return [max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)]


def accuracy(responses: Sequence[EvaluatedResponse]) -> dict[str, object]:
    right = sum(r.correct for r in responses)
    return {"accuracy": right / len(responses), "ci95": wilson(right, len(responses)), "count": len(responses)}


def changed_answer(response: EvaluatedResponse) -> tuple[bool, bool] | None:
    """(first answer right, final answer right) where a response answers, reflects or explores, and then answers
    differently; None where it does not. The first answer is the one given before the first reflection after it; the
    final one counts as graded, so that of a response cut off at the length limit is wrong."""
    first, searched = None, False
    last = None
    for step in parse(response.response):
        if first is not None and step.action in (MetaAction.REFLECT, MetaAction.EXPLORE):
            searched = True
        for answer in boxed_answers(step.text):
            if not searched:
                first = answer
            else:
                last = answer
    if first is None or last is None or same_answer(first, last):
        return None
    return same_answer(first, response.gold), response.correct


def self_correction(responses: Sequence[EvaluatedResponse]) -> dict[str, object]:
    """Paper table 4: of the answers changed between right and wrong, the shares that went each way."""
    changes = [change for r in responses if (change := changed_answer(r)) is not None]
    to_right, to_wrong = changes.count((False, True)), changes.count((True, False))
    decided = to_right + to_wrong
    return {
        "changed": len(changes),
        "wrong_to_right_count": to_right,
        "right_to_wrong_count": to_wrong,
        "wrong_to_right": to_right / decided if decided else None,
        "right_to_wrong": to_wrong / decided if decided else None,
    }


def summarize(responses: Sequence[EvaluatedResponse], main_set: str) -> dict[str, object]:
    """Everything the report says of one model. Raises ValueError where the main set has no responses."""
    main = [r for r in responses if r.set_name == main_set]
    if not main:
        raise ValueError(f"no responses to the set {main_set!r}")
    overall = accuracy(main)
    others = {r.set_name: None for r in responses if r.set_name != main_set}
    return {
        "accuracy": overall["accuracy"],
        "accuracy_ci95": overall["ci95"],
        "count": overall["count"],
        "by_level": by_level(main, accuracy),
        "ood": {name: accuracy([r for r in responses if r.set_name == name]) for name in others},
        "reflect_rate": share(main, lambda r: searches(r.response)),
        "reflect_rate_by_level": by_level(main, lambda rs: share(rs, lambda r: searches(r.response))),
        **self_correction(main),
        "mean_length": mean_length(main),
        "length_by_level": by_level(main, mean_length),
        "truncation_rate": share(main, lambda r: not r.finished),
        "actions_per_response": {
            action.name.lower(): sum(count_actions(r.response)[action] for r in main) / len(main)
            for action in MetaAction
        },
    }


def by_level(
    responses: Sequence[EvaluatedResponse], measure: Callable[[Sequence[EvaluatedResponse]], object]
) -> dict[str, object]:
    levels = sorted({r.level for r in responses})
    return {str(level): measure([r for r in responses if r.level == level]) for level in levels}


def share(responses: Sequence[EvaluatedResponse], holds: Callable[[EvaluatedResponse], bool]) -> float:
    return sum(holds(r) for r in responses) / len(responses)


def mean_length(responses: Sequence[EvaluatedResponse]) -> float:
    return sum(r.tokens for r in responses) / len(responses)


def mean_plain_length(responses: Sequence[EvaluatedResponse]) -> float:
    return sum(r.plain_tokens for r in responses) / len(responses)
