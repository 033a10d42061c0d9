"""The embedded family's test problems as problem sets, for any model: the five trained levels, and the one above."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from satori.benchmarks.base import Loaded
from satori.problems.arithmetic import TEST_DRAW, Split, problem_stream
from satori.problems.out_of_domain import harder_problems


@dataclass(frozen=True)
class EmbeddedSet:
    """Held-out problems, made on the spot, the same every time."""

    name: str
    title: str
    size: int
    out_of_domain: bool
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def load(self, data: Path | None = None) -> Loaded:
        """The problems; no folder is needed."""
        trained = islice(problem_stream(Split.TEST, TEST_DRAW), self.size)
        problems = tuple(harder_problems(self.size) if self.out_of_domain else trained)
        return Loaded(problems=problems, expected=self.size, found=len(problems))


TINY = EmbeddedSet("tiny", "Embedded problems", 500, out_of_domain=False)
TINY_HARDER = EmbeddedSet("tiny-harder", "Embedded, harder", 150, out_of_domain=True)
