"""The problems of a run: the embedded family, or real sources mixed one to one."""

from collections.abc import Iterator

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
    """The problems of a split, one at a time; it ends where the sources do. Raises SourceError for a broken source."""
    if not settings.sources:
        return arithmetic.problem_stream(split, seed)
    from satori.problems.sources import interleaved, open_source  # pyarrow and data sets take a second to import

    return interleaved(open_source(source, split, seed) for source in settings.sources)
