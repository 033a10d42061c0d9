"""The statistics of an evaluation: intervals, paired tests, and what several samples a problem give (paper section 5).

Pure functions over counts, verdicts and scores; they know nothing of responses. The paper reports greedy pass@1 and no
intervals; the rest is ours. Left out: corrections for many comparisons, which whoever makes them must apply.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence


def wilson(right: float, count: int, z: float = 1.96) -> list[float]:
    """The 95% Wilson interval of a proportion; [0, 1] for no observations.

    ``count`` is the number of independent observations, that is problems. With several samples a problem ``right`` is
    the sum of the problems' success rates; the interval then is, if anything, too wide.
    """
    if count == 0:
        return [0.0, 1.0]
    share = right / count
    centre, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return [max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)]


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test, from the problems that only one of two runs solved.

    Were the runs equally good, each such problem would fall to either with probability 1/2.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"counts of problems are {only_first} and {only_second}")
    trials = only_first + only_second
    term = tail = 1
    for i in range(min(only_first, only_second)):
        term = term * (trials - i) // (i + 1)  # binomial coefficients, one from the last: exact, and fast for thousands
        tail += term
    return min(1.0, 2 * tail / 2**trials)


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that at least one of ``k`` samples, drawn from those taken without putting back, is right.

    Its mean over draws of ``samples`` is the true pass@k, which the share of problems solved by the first k also
    estimates, only less sharply.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {right} of them right")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority_vote(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> int | None:
    """The place of the answer that most samples gave, None where none gave any.

    Answers are put into classes: each joins the first class whose earliest answer it equals. The largest class wins,
    of equally large ones the one that began earliest, and its earliest answer speaks for it.
    """
    earliest: dict[int, str] = {}
    votes: Counter[int] = Counter()
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        home = next((first for first, text in earliest.items() if same(text, answer)), place)
        earliest.setdefault(home, answer)
        votes[home] += 1
    return max(votes, key=lambda first: votes[first], default=None)


def best_of(scores: Sequence[float | None]) -> int | None:
    """The place of the highest score, the earliest of equal ones; None where a score is missing."""
    known = [score for score in scores if score is not None]
    return known.index(max(known)) if known and len(known) == len(scores) else None
