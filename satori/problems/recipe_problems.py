"""The problems of a run: the embedded family, or real sources mixed one to one."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field

from satori.config import Settings
from satori.problems import arithmetic
from satori.problems.arithmetic import Split
from satori.problems.source_settings import ProblemSource
from satori.types import Problem


class ProblemSettings(Settings):
    """Where the problems of every stage come from."""

    sources: tuple[ProblemSource, ...] = ()
    """Real sources, a problem of each in turn; none: the embedded sums. 5% of the questions are held out for tests and
    5% for validation, by a hash of the question."""
    max_prompt_tokens: int = Field(default=2048, gt=0)
    """Of real sources, longer questions are left out (paper: 2048)."""


def problem_stream(settings: ProblemSettings, split: Split, seed: int) -> Iterator[Problem]:
    """The problems of a split, one at a time; it ends where the sources do. Raises SourceError for a broken source.

    No two sources have a problem of the same id: the second one of a name puts a 2 before its own, and so on.
    """
    if not settings.sources:
        return arithmetic.problem_stream(split, seed)
    from satori.problems.sources import interleaved, open_source  # pyarrow and data sets take a second to import

    names: Counter[str] = Counter()
    streams = []
    for source in settings.sources:
        names[source.name] += 1
        streams.append(_numbered(open_source(source, split, seed), names[source.name]))
    return interleaved(streams)


def _numbered(stream: Iterator[Problem], number: int) -> Iterator[Problem]:
    return stream if number == 1 else (replace(problem, id=f"{number}:{problem.id}") for problem in stream)
