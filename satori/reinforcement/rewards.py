"""The reward (paper section 4.2): r = r_rule + sigma(r_psi) + r_bonus, kept as its parts.

``r_rule`` is 0 for a right final answer and -1 otherwise. The preference bonus is the sigmoid of the outcome reward
model's logit. The reflection bonus is +beta for a right answer reached from a negative restart, -beta for a wrong one
from a positive restart. A truncated response is wrong: it never gave its final answer.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from satori.reinforcement.restart_buffer import Start


class Outcome(StrEnum):
    """How an episode ended."""

    RIGHT = "right"
    WRONG = "wrong"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class RewardBreakdown:
    """The parts of a response's reward, given at its last sampled token."""

    rule: float
    preference: float
    bonus: float

    @property
    def total(self) -> float:
        return self.rule + self.preference + self.bonus


def reward(start: Start, outcome: Outcome, orm_logit: float | None, reflection_bonus: float) -> RewardBreakdown:
    """The reward of one response. ``orm_logit`` is None where training runs without the reward model."""
    right = outcome is Outcome.RIGHT
    bonus = 0.0
    if start is Start.NEGATIVE and right:
        bonus = reflection_bonus
    elif start is Start.POSITIVE and not right:
        bonus = -reflection_bonus
    return RewardBreakdown(
        rule=0.0 if right else -1.0, preference=0.0 if orm_logit is None else sigmoid(orm_logit), bonus=bonus
    )


def sigmoid(x: float) -> float:
    """The logistic function, without overflow for any finite x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
