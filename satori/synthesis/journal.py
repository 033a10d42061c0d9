"""The journal of a synthesis run: what became of every problem, and which of the demonstrations are kept.

A line a problem in ``problems.jsonl``, written when the problem has ended, so in any order. A run that was killed goes
on behind the last whole line, or the last whole wave. What is kept depends on the problems' places in their source
alone: it is taken from the shortest run of problems, from the first one on, that has enough.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from satori.authors.ft_data import ReleasedDemonstrations
from satori.engines.server_errors import Cause
from satori.run_folder import ArtifactError, append_jsonl, drop_cut_line, read_jsonl, write_jsonl
from satori.synthesis.agent_settings import AgentSettings
from satori.synthesis.pipeline import CandidateSettings, Demonstration, Kind, ProblemRecord
from satori.types import Problem, Variant

Place = tuple[int, Problem]
"""A problem and its place in the source, from 0."""


class SynthesisSettings(CandidateSettings, AgentSettings):
    """Demonstration synthesis."""

    demonstrations: int = Field(default=10_000, gt=0)
    """How many to make (paper: demonstrations for 10k questions)."""
    max_plain_share: float = Field(default=1.0, ge=0, le=1)
    """At most this share of the demonstrations is of kind I, without a reflection. A small model tuned on as many
    plain demonstrations as there are others never reflects when it decodes greedily."""
    max_level_share: float = Field(default=1.0, gt=0, le=1)
    """At most this share is of one difficulty level: hard problems yield fewer demonstrations than easy ones. Problems
    without a level (level 0) are not limited."""
    temperature: float = Field(default=0.3, ge=0)
    """Of the generator (paper: 0.3)."""
    max_new_tokens: int = Field(default=2048, gt=0)
    """Of the generator (paper: 2048)."""
    problems_per_chunk: int = Field(default=200, gt=0)
    """Problems in a wave, where all agents are local."""
    max_chunks: int = Field(default=200, gt=0)
    """Stop after so many times ``problems_per_chunk`` problems even where demonstrations are missing."""
    problems_in_flight: int = Field(default=96, gt=0)
    """Problems under way at a time, where an agent is on a server."""
    released: ReleasedDemonstrations | None = None
    """Take the authors' demonstrations (or a file in their format) instead of making any; `{}` streams them from the
    hub."""


class Journal:
    """The file of records. What a kill left half written is dropped when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            drop_cut_line(path)
        self._ids = {line["place"]: line["id"] for line in self.lines()}

    def __len__(self) -> int:
        return len(self._ids)

    def lines(self) -> Iterator[dict[str, Any]]:
        return read_jsonl(self.path) if self.path.exists() else iter(())

    def forget_failures(self) -> None:
        """Forget the problems that failed for a reason that may pass, all but length: they are worked on again."""
        self._keep(lambda line: line["failed"] in (None, Cause.CONTEXT))

    def keep_whole_waves(self, size: int) -> int:
        """Forget the problems behind the waves that were recorded to their end; returns how many of these there are."""
        whole = 0
        while all(place in self._ids for place in range(whole * size, (whole + 1) * size)):
            whole += 1
        self._keep(lambda line: line["place"] < whole * size)
        return whole

    def _keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        kept = [line for line in self.lines() if wanted(line)]
        if len(kept) < len(self._ids):
            write_jsonl(self.path, kept)
            self._ids = {line["place"]: line["id"] for line in kept}

    def missing(self, problems: Iterable[Problem]) -> Iterator[Place]:
        """The problems without a record, with their places. Raises ArtifactError where the source has changed."""
        for place, problem in enumerate(problems):
            if place not in self._ids:
                yield place, problem
            elif self._ids[place] != problem.id:
                raise ArtifactError(
                    f"{self.path}: problem {place} was {self._ids[place]!r} and is {problem.id!r} now: the source of "
                    "the problems has changed. Begin again with --redo synthesis."
                )

    def add(self, place: int, record: ProblemRecord) -> dict[str, Any]:
        """Write what became of a problem; returns the line."""
        line = {
            "place": place,
            "id": record.problem.id,
            "failed": record.failed,
            "dropped": dict(record.dropped),
            "demonstrations": [_to_dict(demonstration) for demonstration in record.demonstrations],
        }
        append_jsonl(self.path, line)
        return line


def _to_dict(demonstration: Demonstration) -> dict[str, Any]:
    problem = demonstration.problem
    return {
        "id": problem.id,
        "level": problem.level,
        "kind": demonstration.kind.value,
        "question": problem.question,
        "answer": problem.answer,
        "response": demonstration.response,
    }


class Harvest:
    """The demonstrations to train on, from journal lines that come in any order.

    Lines count in the order of their places; those behind a gap wait. Of plain demonstrations and of each level as many
    are kept as the settings allow; the variant without meta-actions has plain ones only.
    """

    def __init__(self, variant: Variant, settings: SynthesisSettings) -> None:
        self.variant, self.settings = variant, settings
        self.kept: list[dict[str, Any]] = []
        self.dropped: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.problems = 0
        """Problems that count: all before the first gap, until there are enough demonstrations."""
        self._waiting: dict[int, dict[str, Any]] = {}
        self._plain = 0
        self._levels: Counter[object] = Counter()

    @property
    def enough(self) -> bool:
        return len(self.kept) == self.settings.demonstrations

    def kinds(self) -> dict[str, int]:
        found = Counter(record["kind"] for record in self.kept)
        return {kind.value: found[kind] for kind in Kind}

    def add(self, line: dict[str, Any]) -> None:
        self._waiting[line["place"]] = line
        while not self.enough and (ready := self._waiting.pop(self.problems, None)):
            self.problems += 1
            self.dropped.update(ready["dropped"])
            self.failed.update([ready["failed"]] if ready["failed"] else [])
            for record in ready["demonstrations"]:
                self.offer(record)

    def offer(self, record: dict[str, Any]) -> None:
        """Keep a demonstration, or leave it out where there are enough of its sort."""
        is_plain, level = record["kind"] == Kind.PLAIN, record["level"]
        only_plain = self.variant is Variant.COT
        most_plain = self.settings.demonstrations if only_plain else self._part(self.settings.max_plain_share)
        too_many = self._plain >= most_plain if is_plain else only_plain
        too_many_of_level = level != 0 and self._levels[level] >= self._part(self.settings.max_level_share)
        if self.enough or too_many or too_many_of_level:
            return
        self.kept.append(record)
        self._plain += is_plain
        self._levels[level] += 1

    def _part(self, share: float) -> int:
        """A share of the demonstrations asked for, as a number."""
        return math.floor(share * self.settings.demonstrations + 1e-9)
