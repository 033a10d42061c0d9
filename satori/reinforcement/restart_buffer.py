"""Restart and explore (paper section 4.2, Algorithm 1): reinforcement learning also starts half-way.

Built offline, before training, from trajectories of the format-tuned model. Per problem: one correct and one
incorrect trajectory at random; drop its last t <= T actions, t random; append ``<|reflect|>``. The states from correct
trajectories form the positive buffer, the others the negative one.

States are token ids. What a response's actions are is read off its ids: each meta-action opens one. The first action
of a response always stays, so that there is something to reflect on. Trajectories that met the length limit are
passed over: they have no end to restart from.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from satori.coat import MetaAction
from satori.config import Settings
from satori.types import Completion, FinishReason


class Start(StrEnum):
    """Where a rollout starts."""

    PROBLEM = "problem"
    POSITIVE = "positive"
    NEGATIVE = "negative"


class RestartSettings(Settings):
    """How the restart buffers are built."""

    samples: int = Field(default=4, gt=0)
    """Trajectories sampled per problem; one correct and one incorrect of them are used."""
    temperature: float = Field(default=1.0, gt=0)
    max_dropped: int = Field(default=2, ge=0)
    """T: at most so many actions are dropped from the end (paper: 2)."""


@dataclass(frozen=True)
class RestartState:
    """A half-finished response: the ids that precede the first sampled token, ending in ``<|reflect|>``."""

    problem_id: str
    start: Start
    prefix_ids: tuple[int, ...]
    dropped: int
    """t, the actions dropped; 0 keeps the finished answer."""


@dataclass(frozen=True)
class Trajectory:
    """A sampled response with its verdict."""

    completion: Completion
    correct: bool


def action_starts(token_ids: Sequence[int], action_ids: dict[MetaAction, int]) -> list[int]:
    """Where each action begins: position 0, and every meta-action token after it."""
    openers = set(action_ids.values())
    return [i for i, token in enumerate(token_ids) if i == 0 or token in openers]


def truncate(
    token_ids: Sequence[int], dropped: int, action_ids: dict[MetaAction, int], eos_token_id: int
) -> tuple[int, ...]:
    """The response without its end token and its last ``dropped`` actions, and ``<|reflect|>`` after it."""
    ids = tuple(token_ids)
    if ids and ids[-1] == eos_token_id:
        ids = ids[:-1]
    starts = action_starts(ids, action_ids)
    if dropped:
        ids = ids[: starts[-dropped]]
    return (*ids, action_ids[MetaAction.REFLECT])


def restart_states(
    problem_id: str,
    trajectories: Sequence[Trajectory],
    max_dropped: int,
    action_ids: dict[MetaAction, int],
    eos_token_id: int,
    rng: random.Random,
) -> list[RestartState]:
    """Algorithm 1 for one problem: at most one positive and one negative state."""
    states = []
    for start, wanted in ((Start.POSITIVE, True), (Start.NEGATIVE, False)):
        usable = [
            t.completion.token_ids
            for t in trajectories
            if t.correct is wanted
            and t.completion.finish_reason is FinishReason.STOP
            and len(t.completion.token_ids) > 1
        ]
        if usable:
            ids = rng.choice(usable)
            dropped = rng.randint(0, min(max_dropped, len(action_starts(ids, action_ids)) - 1))
            states.append(RestartState(problem_id, start, truncate(ids, dropped, action_ids, eos_token_id), dropped))
    return states
