"""Intervals, paired tests and sampling rates, against values worked out by hand."""

from fractions import Fraction
from itertools import combinations
from math import comb

import pytest

from satori.evaluation.statistics import best_of, majority_vote, mcnemar, pass_at_k, wilson

# --- intervals ---


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (50, 100, 0.4038, 0.5962),
        (2.5, 5, 0.1705, 0.8295),  # 0.5 ± 1.96 · sqrt(0.05 + 0.038416) / 1.76832
        (0, 10, 0.0, 0.2775),  # 3.8416 / 13.8416
        (10, 10, 0.7225, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(right, count, low, high):
    assert wilson(right, count) == pytest.approx([low, high], abs=1e-4)


# --- McNemar ---


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 · 1/2
        (3, 0, 0.25),  # 2 · 1/8
        (0, 6, 0.03125),  # 2 · 1/64
        (1, 5, 0.21875),  # 2 · (1 + 6) / 64
        (2, 8, 0.109375),  # 2 · (1 + 10 + 45) / 1024
        (5, 5, 1.0),  # twice the tail is more than 1
    ],
)
def test_mcnemar_is_exact_and_two_sided(only_first, only_second, p):
    assert mcnemar(only_first, only_second) == p
    assert mcnemar(only_second, only_first) == p


def test_mcnemar_of_thousands_of_problems_is_the_binomial_tail():
    tail = sum(comb(3000, i) for i in range(1401))
    assert mcnemar(1600, 1400) == float(Fraction(2 * tail, 2**3000))
    assert 0 < mcnemar(9000, 6000) < 1e-100


@pytest.mark.parametrize("counts", [(-1, 0), (0, -1)])
def test_mcnemar_refuses_negative_counts(counts):
    with pytest.raises(ValueError, match="-1"):
        mcnemar(*counts)


# --- pass@k ---


@pytest.mark.parametrize(
    ("samples", "right", "k", "rate"),
    [
        (4, 1, 1, 0.25),
        (4, 1, 2, 0.5),  # 1 - C(3,2) / C(4,2)
        (4, 2, 2, 5 / 6),  # 1 - 1 / 6
        (4, 2, 3, 1.0),  # three draws cannot all miss
        (8, 0, 8, 0.0),
        (8, 8, 1, 1.0),
        (1, 1, 1, 1.0),
    ],
)
def test_pass_at_k(samples, right, k, rate):
    assert pass_at_k(samples, right, k) == pytest.approx(rate)


def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_sample():
    draws = list(combinations([True, True, False, False, False, False], 3))
    assert pass_at_k(6, 2, 3) == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@pytest.mark.parametrize(("samples", "right", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_what_cannot_be(samples, right, k):
    with pytest.raises(ValueError, match=f"pass@{k} of {samples} samples, {right}"):
        pass_at_k(samples, right, k)


# --- majority, best ---


def same_number(one: str, other: str) -> bool:
    return float(one) == float(other)


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["1", "2", "2.0"], 1),  # the class of 2 is the larger one; its earliest answer speaks
        (["1", "2"], 0),  # of equally large classes the one that began earliest
        (["2", "1", "1", "2"], 0),
        ([None, "3", None, "4"], 1),
        ([None, None], None),
        ([], None),
        (["5"], 0),
        (["1", "2", "1.0", "2", "2.00"], 1),
    ],
)
def test_majority_vote(answers, winner):
    assert majority_vote(answers, same_number) == winner


def test_majority_vote_compares_an_answer_with_each_class_once():
    asked = []

    def same(one: str, other: str) -> bool:
        asked.append((one, other))
        return one == other

    majority_vote(["1", "2", "1", "3"], same)
    assert asked == [("1", "2"), ("1", "1"), ("1", "3"), ("2", "3")]


@pytest.mark.parametrize(
    ("scores", "pick"),
    [([0.1, 0.7, 0.3], 1), ([-2.0, -1.0], 1), ([0.5, 0.5], 0), ([0.1, None], None), ([None], None), ([], None)],
)
def test_best_of(scores, pick):
    assert best_of(scores) == pick
