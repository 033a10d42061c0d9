"""The reward, case by case (satori.reinforcement.rewards)."""

import math

import pytest

from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome, RewardBreakdown, reward

BETA = 0.5


@pytest.mark.parametrize(
    ("start", "outcome", "rule", "bonus"),
    [
        (Start.PROBLEM, Outcome.RIGHT, 0.0, 0.0),
        (Start.PROBLEM, Outcome.WRONG, -1.0, 0.0),
        (Start.PROBLEM, Outcome.TRUNCATED, -1.0, 0.0),
        (Start.POSITIVE, Outcome.RIGHT, 0.0, 0.0),
        (Start.POSITIVE, Outcome.WRONG, -1.0, -BETA),
        (Start.POSITIVE, Outcome.TRUNCATED, -1.0, -BETA),
        (Start.NEGATIVE, Outcome.RIGHT, 0.0, BETA),
        (Start.NEGATIVE, Outcome.WRONG, -1.0, 0.0),
        (Start.NEGATIVE, Outcome.TRUNCATED, -1.0, 0.0),
    ],
)
def test_rule_and_bonus(start, outcome, rule, bonus):
    assert reward(start, outcome, None, BETA) == RewardBreakdown(rule=rule, preference=0.0, bonus=bonus)


@pytest.mark.parametrize(
    ("logit", "preference"),
    [
        (None, 0.0),
        (0.0, 0.5),
        (math.log(3), 0.75),  # 3 / (1 + 3)
        (-math.log(3), 0.25),
        (1e6, 1.0),
        (-1e6, 0.0),
    ],
)
def test_preference_is_the_sigmoid_of_the_logit(logit, preference):
    assert reward(Start.PROBLEM, Outcome.RIGHT, logit, BETA).preference == pytest.approx(preference, abs=1e-12)


def test_total_is_the_sum_of_the_parts():
    assert reward(Start.POSITIVE, Outcome.WRONG, 0.0, BETA).total == pytest.approx(-1.0 + 0.5 - 0.5)
    assert reward(Start.NEGATIVE, Outcome.RIGHT, 0.0, BETA).total == pytest.approx(0.0 + 0.5 + 0.5)


def test_no_bonus_at_beta_zero():
    for start in Start:
        for outcome in Outcome:
            assert reward(start, outcome, None, 0.0).bonus == 0.0
