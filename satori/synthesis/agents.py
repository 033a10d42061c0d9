"""The three agents of demonstration synthesis (paper section 4.1), as interfaces.

All work in batches, so that an implementation may keep a GPU or many servers busy. Steps are plain text here, one
step an item, without meta-actions: those are spliced in by :mod:`satori.synthesis.pipeline`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from satori.types import Problem

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
class PartialSolution:
    """A problem and the plain steps to go on from; and what the critic said of them, where it was asked."""

    problem: Problem
    steps: Steps
    review: Verification | Mistake | None = None


class Generator(Protocol):
    """Writes solutions and goes on from partial ones."""

    def solve(self, problems: Sequence[Problem], samples: int, seed: int) -> list[list[Steps]]:
        """``samples`` solutions for each problem."""
        ...

    def continue_from(self, partials: Sequence[PartialSolution], seed: int) -> list[Steps]:
        """The steps that follow each partial solution; empty where it is complete."""
        ...


class Critic(Protocol):
    """Reviews steps. It may see the known answer but must not reveal it.

    None where it cannot say (no mistake found in a wrong solution, an answer it cannot parse): the candidate is
    dropped and counted.
    """

    def verify(self, partials: Sequence[PartialSolution]) -> list[Verification | None]: ...

    def find_mistake(self, partials: Sequence[PartialSolution], reviewed_from: int = 0) -> list[Mistake | None]:
        """The first mistake at or after step ``reviewed_from``: later rounds review the continuation only."""
        ...


class RewardModel(Protocol):
    """Scores plain solutions; higher is better. Only the order within a problem matters."""

    def score(self, solutions: Sequence[PartialSolution]) -> list[float]: ...
