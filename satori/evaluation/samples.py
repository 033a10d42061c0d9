"""Several samples a problem: pass@k, majority@k and best-of-k over k. Not in the paper, which samples greedily once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

from satori.evaluation.records import EvaluatedResponse, by_problem
from satori.evaluation.statistics import best_of, majority_vote, pass_at_k
from satori.grading import same_answer


@dataclass(frozen=True)
class SamplingRates:
    """Rates for k = 1, 2, 4, … and the number of samples that every problem has; k is written as text, for JSON."""

    samples: int
    pass_at_k: dict[str, float]
    majority_at_k: dict[str, float]
    best_of_k: dict[str, float] | None
    """None where a response has no score."""


def solved(responses: Sequence[EvaluatedResponse]) -> tuple[float, int]:
    """The sum over problems of the share of their samples that is right, and the number of problems."""
    problems = by_problem(responses)
    return sum(sum(r.correct for r in group) / len(group) for group in problems), len(problems)


def sampling_rates(responses: Sequence[EvaluatedResponse]) -> SamplingRates | None:
    """What several samples a problem give; None where some problem has only one."""
    problems = by_problem(responses)
    samples = min((len(group) for group in problems), default=0)
    if samples < 2:
        return None
    ks = [k for k in (2**i for i in range(samples.bit_length())) if k < samples] + [samples]
    scored = all(response.score is not None for response in responses)
    return SamplingRates(
        samples,
        {
            str(k): sum(pass_at_k(len(group), sum(r.correct for r in group), k) for group in problems) / len(problems)
            for k in ks
        },
        _rates([majority_verdicts(group, ks) for group in problems], ks),
        _rates([best_verdicts(group, ks) for group in problems], ks) if scored else None,
    )


def majority_verdicts(group: Sequence[EvaluatedResponse], ks: Sequence[int]) -> list[bool]:
    """Whether the majority of a problem's first k samples is right, for each k.

    A response that was cut off or has no answer casts no vote.
    """
    compare = cache(partial(same_answer, form=group[0].form))  # the same pairs come up for every k

    def same(one: str, other: str) -> bool:
        return one == other or compare(one, other)

    votes = [response.answers[-1] if response.finished and response.answers else None for response in group]
    winners = [majority_vote(votes[:k], same) for k in ks]
    return [winner is not None and group[winner].correct for winner in winners]


def best_verdicts(group: Sequence[EvaluatedResponse], ks: Sequence[int]) -> list[bool]:
    """Whether the one of a problem's first k samples that the reward model likes best is right, for each k."""
    picks = [best_of([response.score for response in group[:k]]) for k in ks]
    return [pick is not None and group[pick].correct for pick in picks]


def _rates(verdicts: Sequence[Sequence[bool]], ks: Sequence[int]) -> dict[str, float]:
    return {str(k): sum(of_k) / len(of_k) for k, of_k in zip(ks, zip(*verdicts, strict=True), strict=True)}
