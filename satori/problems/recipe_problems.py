"""The problems of a run: the embedded family, or real sources mixed one to one."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from pydantic import Field

from satori.config import Settings
from satori.problems import arithmetic
from satori.problems.arithmetic import Split
from satori.problems.source_settings import ProblemSource
from satori.run_folder import ArtifactError
from satori.types import Problem


class ProblemSettings(Settings):
    """Where the problems of every stage come from."""

    sources: tuple[ProblemSource, ...] = ()
    """Real sources, a problem of each in turn; none: the embedded sums. 5% of the questions are held out for tests and
    5% for validation, by a hash of the question."""
    max_prompt_tokens: int = Field(default=2048, gt=0)
    """Of real sources, longer questions are left out (paper: 2048)."""


def problem_stream(
    settings: ProblemSettings,
    split: Split,
    seed: int,
    check: Callable[[Problem], None] = lambda problem: None,
    say: Callable[[str], None] = lambda line: None,
) -> Generator[Problem, None, None]:
    """The problems of a split, one at a time; it ends where the sources do. Raises SourceError for a broken source, and
    ArtifactError where the sources have nothing to train on.

    No two sources have a problem of the same id: the second one of a name puts a 2 before its own, and so on. ``check``
    is that of :func:`satori.problems.sources.open_source`. When the stream has ended, or is closed because enough was
    drawn, ``say`` gets a line for each source: what became of its rows.
    """
    if not settings.sources:
        return arithmetic.problem_stream(split, seed)
    from satori.problems.sources import interleaved, open_source  # pyarrow and data sets take a second to import

    names: Counter[str] = Counter()
    opened = [open_source(source, split, seed, check) for source in settings.sources]
    streams = []
    for source, stream in zip(settings.sources, opened, strict=True):
        names[source.name] += 1
        streams.append(_numbered(stream, names[source.name]))

    def report() -> list[str]:
        pairs = zip(settings.sources, opened, strict=True)
        return [f"{source.where} ({split}): {stream.counts}" for source, stream in pairs]

    return _reported(interleaved(streams), split, report, say)


def _numbered(stream: Iterator[Problem], number: int) -> Iterator[Problem]:
    return stream if number == 1 else (replace(problem, id=f"{number}:{problem.id}") for problem in stream)


def _reported(
    problems: Iterator[Problem], split: Split, report: Callable[[], list[str]], say: Callable[[str], None]
) -> Generator[Problem, None, None]:
    """The problems, and at their end the report. Where there was none to train on, the report is raised instead."""
    found = False
    try:
        for problem in problems:
            found = True
            yield problem
    finally:
        if found or split is not Split.TRAIN:
            for line in report():
                say(line)
    if not found and split is Split.TRAIN:
        raise ArtifactError(f"the recipe's sources have no problem to train on: {'; '.join(report())}")
