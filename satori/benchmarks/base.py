"""What a benchmark is: where its rows come from, how many there must be, and how a row becomes a problem.

A benchmark is data about data. Its own file holds one :class:`Benchmark` and the function that reads a row; loading
is the same for all. Nothing is dropped in silence: rows that cannot be used are returned by id with the reason, rows
out of scope are counted, and the count found stands beside the count expected.

Every row of the source is used, repeated ones too, so that the count of problems is the count of rows; a repeated id
gets the suffix ``#2``, ``#3``, … A row without an id of its own is named after the benchmark and its position,
counted from 0.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from satori.benchmarks.rows import Hub, Row, UnusableRow, read_files, read_hub
from satori.types import Problem


@dataclass(frozen=True)
class Loaded:
    """The problems of a benchmark, and what must be said of the rows they were made from."""

    problems: tuple[Problem, ...]
    expected: int
    """Rows that the source should have, in scope."""
    found: int
    """Rows that it has, in scope: the problems and the unusable ones."""
    unusable: tuple[tuple[str, str], ...] = ()
    """Rows that could not be made a problem: id and reason."""
    out_of_scope: int = 0
    """Rows that are no part of the benchmark as the paper uses it."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty where all is well."""
        wrong = [f"row {id} cannot be used: {reason}" for id, reason in self.unusable]
        if self.found != self.expected:
            wrong.insert(0, f"{self.found} rows where {self.expected} were expected")
        return tuple(wrong)


class ProblemSet(Protocol):
    """What an evaluation needs of a benchmark, from a file, from the hub or generated."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def out_of_domain(self) -> bool: ...

    @property
    def exceptions(self) -> Mapping[str, str]:
        """Problems whose own gold answer is known not to grade as correct: id and reason."""
        ...

    def load(self, data: Path | None = None) -> Loaded: ...


def _everything(row: Row) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark with rows of its own."""

    name: str
    title: str
    """As in the paper's tables."""
    out_of_domain: bool
    """Whether it stands in the paper's second table."""
    hub: Hub
    files: tuple[tuple[str, ...], ...]
    """Local files, tried in order: in each choice all files that make up the benchmark together."""
    size: int
    """Rows expected, in scope."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Rows expected where a source has another count: by the hub's id, or by the first file of a choice."""
    paper_size: int
    """Problems that the paper reports."""
    read: Callable[[Row], Problem]
    in_scope: Callable[[Row], bool] = _everything
    ids: tuple[str, ...] = ()
    """Columns that may hold a row's own id."""
    exceptions: Mapping[str, str] = field(default_factory=dict)
    """Problems whose own gold answer is known not to grade as correct: id and reason."""

    def load(self, data: Path | None = None) -> Loaded:
        """The problems, from local files where a folder is given, else from the hub. Raises BenchmarkError."""
        source, records = read_files(data, self.files) if data is not None else (self.hub.id, read_hub(self.hub))
        problems: list[Problem] = []
        unusable: list[tuple[str, str]] = []
        times: Counter[str] = Counter()
        for index, (place, record) in enumerate(records):
            own = (record[column] for column in self.ids if record.get(column) not in (None, ""))
            row = Row(str(next(own, f"{self.name}-{index}")), place, record)
            times[row.id] += 1
            if times[row.id] > 1:
                row = replace(row, id=f"{row.id}#{times[row.id]}")
            try:
                if self.in_scope(row):
                    problems.append(self.read(row))
            except UnusableRow as error:
                unusable.append((row.id, str(error)))
        found = len(problems) + len(unusable)
        return Loaded(
            problems=tuple(problems),
            expected=self.sizes.get(source, self.size),
            found=found,
            unusable=tuple(unusable),
            out_of_scope=len(records) - found,
        )
