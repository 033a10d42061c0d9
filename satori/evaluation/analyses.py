"""What graded responses say: accuracy, self-correction, lengths and meta-actions (paper sections 5 and 6).

Pure functions over records of responses, results as JSON has them. Rates are fractions, lengths tokens with the end
token. Left out: comparing runs, which :mod:`satori.evaluation.compare` does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

from satori.coat import searches
from satori.evaluation.meta_actions import action_positions, action_transitions
from satori.evaluation.records import EvaluatedResponse
from satori.evaluation.reflections import answer_history, reflection_outcomes, self_correction
from satori.evaluation.samples import sampling_rates, solved
from satori.evaluation.statistics import wilson
from satori.grading.forms import Status


def accuracy(responses: Sequence[EvaluatedResponse]) -> dict[str, object]:
    """Pass@1: the mean over problems of the share of their samples that is right; ``count`` is that of problems."""
    right, problems = solved(responses)
    return {"accuracy": right / problems, "ci95": wilson(right, problems), "count": problems}


def analyse(responses: Sequence[EvaluatedResponse]) -> dict[str, object]:
    """Every analysis of one model's responses to one set. Raises ValueError where there are none."""
    if not responses:
        raise ValueError("no responses to analyse")
    overall = accuracy(responses)
    statuses = Counter(r.status for r in responses)
    histories = [answer_history(r) for r in responses]
    positions = action_positions(responses)
    rates = sampling_rates(responses)
    return {
        "accuracy": overall["accuracy"],
        "accuracy_ci95": overall["ci95"],
        "count": overall["count"],
        "responses": len(responses),
        "unanswered": sum(r.unanswered for r in responses),
        "statuses": {status.value: statuses[status] for status in Status},
        "by_level": by_level(responses, accuracy),
        "sampling": asdict(rates) if rates else None,
        "mean_length": mean_length(responses),
        "length_by_level": by_level(responses, mean_length),
        "truncation_rate": share(responses, _cut_off),
        "truncation_by_level": by_level(responses, lambda rs: share(rs, _cut_off)),
        "reflect_rate": share(responses, _searches),
        "reflect_rate_by_level": by_level(responses, lambda rs: share(rs, _searches)),
        **self_correction(histories),
        "reflections": reflection_outcomes(histories),
        "actions_per_response": {action: sum(tenths) / len(responses) for action, tenths in positions.items()},
        "action_counts": {action: sum(tenths) for action, tenths in positions.items()},
        "action_positions": positions,
        "action_transitions": action_transitions(responses),
    }


def summarize(responses: Sequence[EvaluatedResponse], main_set: str) -> dict[str, object]:
    """Everything the report says of one model: the analyses of the main set, and accuracy on every other set.

    Raises ValueError where the main set has no responses.
    """
    sets = {name: [r for r in responses if r.set_name == name] for name in dict.fromkeys(r.set_name for r in responses)}
    if main_set not in sets:
        raise ValueError(f"no responses to the set {main_set!r}")
    main = sets.pop(main_set)
    return {**analyse(main), "ood": {name: accuracy(group) for name, group in sets.items()}}


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


def _cut_off(response: EvaluatedResponse) -> bool:
    return not response.finished


def _searches(response: EvaluatedResponse) -> bool:
    return searches(response.response)
