"""The three agents of demonstration synthesis (paper section 4.1), as interfaces.

Each call is about one problem and waits for its answer alone; that many problems are under way at a time is
:mod:`satori.synthesis.flow`'s business, that local models answer in batches :mod:`satori.synthesis.batching`'s. Steps
are plain text here, one step an item, without meta-actions: those are spliced in by :mod:`satori.synthesis.pipeline`.

An agent on a server raises :class:`satori.engines.server_errors.ServerError` where it gives up on a request.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from satori.synthesis.batching import Batches
from satori.types import Problem

P = ParamSpec("P")
R = TypeVar("R")

Steps = tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """The critic's word on steps that hold: why they do."""

    reason: str


@dataclass(frozen=True)
class Mistake:
    """The critic's word on steps that do not hold.

    ``first_wrong`` is the index of the first wrong step, ``reason`` says why, ``direction`` is the sentence that the
    exploration opens with, and ``corrected`` the plain step to put in place of the wrong one where the generator can
    only go on from a corrected text (None: it is told the direction and corrects by itself).
    """

    first_wrong: int
    reason: str
    direction: str
    corrected: str | None


@dataclass(frozen=True)
class Unusable:
    """The critic's answer is of no use (no mistake found in a wrong solution, a form that cannot be read): the
    candidate is dropped and counted by ``why``, which is one of few short phrases."""

    why: str


@dataclass(frozen=True)
class PartialSolution:
    """A problem and the plain steps to go on from; and what the critic said of them, where it was asked."""

    problem: Problem
    steps: Steps
    review: Verification | Mistake | None = None
    reviewed: int = 0
    """Plain steps that the review covers."""


class Generator(Protocol):
    """Writes solutions and goes on from partial ones."""

    async def solve(self, problem: Problem, samples: int, seed: int) -> list[Steps]:
        """``samples`` solutions of a problem."""
        ...

    async def continue_from(self, partial: PartialSolution, seed: int) -> Steps:
        """The steps that follow a partial solution; empty where it is complete."""
        ...


class Critic(Protocol):
    """Reviews steps. It may see the known answer but must not reveal it."""

    async def verify(self, partial: PartialSolution, seed: int) -> Verification | Unusable:
        """Why the steps hold."""
        ...

    async def find_mistake(self, partial: PartialSolution, reviewed_from: int, seed: int) -> Mistake | Unusable:
        """The first mistake at or after step ``reviewed_from``: later rounds review the continuation only."""
        ...


class RewardModel(Protocol):
    """Scores plain solutions; higher is better. Only the order within a problem matters."""

    async def score(self, solution: PartialSolution) -> float: ...


@dataclass(frozen=True)
class Agents:
    """Who makes the demonstrations of a run."""

    generator: Generator
    critic: Critic
    reward_model: RewardModel
    batches: Batches | None = None
    """What the agents' models are asked, where every one of them is local. Problems then go in waves, and a run can be
    repeated exactly; with an agent on a server there is nothing to repeat, and each problem goes at its own pace."""
    output_tokens: Callable[[], int] = lambda: 0
    """Tokens the agents' models have written so far."""

    async def aside(self, function: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
        """Call a function that may take seconds, in another thread."""
        work = asyncio.to_thread(function, *args, **named)
        return await (work if self.batches is None else self.batches.while_out(work))
