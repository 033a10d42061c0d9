"""Rows of data sets of any size, one at a time: from the Hugging Face hub, JSON lines or Parquet.

The paper's problems (appendix D.1) come from data sets of 14 million and 860 thousand rows. Nothing here holds more
than one record, one Parquet batch and the shuffle buffer, so memory does not depend on the number of rows (a Parquet
file adds what a row group of it needs).

As with benchmarks, two things can be wrong, and they are told apart. Input of another form than expected ends the
reading, naming file, row, column and what was expected (:class:`SourceError`), or is counted where
``skip_bad_rows`` says so. A row of the right form that cannot be used is counted by reason, with the place of the
first one (:class:`RowCounts`): nothing is dropped in silence.

What it leaves out: what the columns mean; JSON arrays, CSV and compressed files; and going on in the middle of a data
set (a stream always starts at its first row).
"""

import glob
import os
import random
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pydantic import Field

from satori.benchmarks.rows import BenchmarkError, UnusableRow
from satori.config import Settings, derive_seed
from satori.run_folder import ArtifactError, read_record

Item = TypeVar("Item")
Raw = TypeVar("Raw")

_SUFFIXES = (".jsonl", ".parquet")
_ROWS_PER_BATCH = 256
_READ_BUFFER = 1 << 20
_OTHER_FORM = "of another form than expected"


class SourceError(BenchmarkError):
    """A data set cannot be read: not there, broken, or of another form than its settings say."""


class RowSettings(Settings):
    """Where rows come from, and in which order and number they are taken."""

    path: str = ""
    """A .jsonl or .parquet file, a folder of them, or a pattern such as data/train-*.parquet; goes before `hub`."""
    hub: str = ""
    """A data set's id on the Hugging Face hub; it is streamed, not downloaded whole."""
    config: str = ""
    """The hub data set's configuration, where it has several."""
    hub_split: str = "train"
    """The hub data set's own split."""
    limit: int = Field(default=0, ge=0)
    """Stop after so many; 0 takes all."""
    shuffle_buffer: int = Field(default=0, ge=0)
    """Shuffle within a buffer of so many; 0 keeps the order of the rows. A buffer smaller than the data set mixes
    neighbours only."""
    seed: int = Field(default=0, ge=0)
    """Of the shuffling, and of tasks that are made up on the spot."""
    skip_bad_rows: bool = False
    """Count rows of another form than expected, where otherwise the first one is an error."""

    @property
    def where(self) -> str:
        """What a user knows the rows by."""
        return self.path or self.hub


@dataclass
class RowCounts:
    """What became of the rows read so far."""

    rows: int = 0
    used: int = 0
    """Rows that became something. Where a limit or a shuffle buffer follows, not all of them are handed out."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not used, by reason."""
    first: dict[str, str] = field(default_factory=dict)
    """For each reason where the first such row stands, and what is wrong with it where that says more."""

    def leave_out(self, reason: str, where: str) -> None:
        self.left_out[reason] += 1
        self.first.setdefault(reason, where)

    def lines(self) -> list[str]:
        """A line to show for all, and one for each reason, the most frequent one first."""
        shown = [f"{self.used} of {self.rows} rows used"]
        return shown + [f"{n} left out: {reason} (first: {self.first[reason]})" for reason, n in self._by_frequency()]

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def _by_frequency(self) -> list[tuple[str, int]]:
        return sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))


class RowStream(Iterator[Item]):
    """What rows are made into, one at a time. ``counts`` is up to date at any moment."""

    def __init__(
        self,
        rows: Iterable[tuple[str, Raw | BenchmarkError]],
        read: Callable[[str, Raw], Item],
        settings: RowSettings,
        seed: int = 0,
        counts: RowCounts | None = None,
    ) -> None:
        """``read`` gets a row's place and content, and raises UnusableRow or BenchmarkError as it finds them wrong."""
        self.counts = RowCounts() if counts is None else counts
        items = shuffled(
            self._read_all(rows, read, settings), settings.shuffle_buffer, derive_seed(settings.seed, seed)
        )
        self._items = islice(items, settings.limit or None)

    def __next__(self) -> Item:
        return next(self._items)

    def _read_all(
        self, rows: Iterable[tuple[str, Raw | BenchmarkError]], read: Callable[[str, Raw], Item], settings: RowSettings
    ) -> Iterator[Item]:
        for place, content in rows:
            self.counts.rows += 1
            try:
                if isinstance(content, BenchmarkError):
                    raise content
                item = read(place, content)
            except UnusableRow as reason:
                self.counts.leave_out(str(reason), place)
                continue
            except BenchmarkError as error:
                if not settings.skip_bad_rows:
                    raise SourceError(str(error)) from error
                self.counts.leave_out(_OTHER_FORM, str(error))
                continue
            self.counts.used += 1
            yield item


def shuffled(items: Iterable[Item], buffer: int, seed: int) -> Iterator[Item]:
    """The items with a buffer's worth of disorder: a new one pushes a random one out; no more than a buffer is held."""
    rng = random.Random(seed)
    held: list[Item] = []
    for item in items:
        if buffer < 2:
            yield item
        elif len(held) < buffer:
            held.append(item)
        else:
            place = rng.randrange(buffer)
            pushed_out, held[place] = held[place], item
            yield pushed_out
    rng.shuffle(held)
    yield from held


def stream_rows(settings: RowSettings) -> Iterator[tuple[str, dict[str, Any] | BenchmarkError]]:
    """The rows of local files, or else of the hub, each with its place; or why one cannot be read."""
    if settings.path:
        for path in local_files(settings.path):
            yield from _jsonl_rows(path) if path.suffix == ".jsonl" else _parquet_rows(path)
    else:
        yield from _hub_rows(settings)


def local_files(path: str) -> list[Path]:
    """The files that a path names, in order of name. Raises SourceError where there are none, or of other kinds."""
    path = os.path.expanduser(path)
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).iterdir() if file.suffix in _SUFFIXES)
    else:
        files = [Path(path)] if Path(path).is_file() else [Path(name) for name in sorted(glob.glob(path))]
    if not files:
        raise SourceError(f"{path}: no such file, no pattern that any file meets, and no folder of .jsonl or .parquet")
    if other := [file for file in files if file.suffix not in _SUFFIXES or not file.is_file()]:
        raise SourceError(f"{other[0]}: expected a .jsonl file (a JSON object a line) or a .parquet file")
    if len({file.suffix for file in files}) > 1:
        raise SourceError(f"{path} names both .jsonl and .parquet files; name one kind, with a pattern such as *.jsonl")
    return files


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | BenchmarkError]]:
    """Blank lines, and the mark that some editors begin a file with, say nothing."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                text, place = line.removeprefix(BOM_UTF8) if number == 1 else line, f"{path}, line {number}"
                if text.strip():
                    try:
                        yield place, read_record(text, place)
                    except ArtifactError as error:
                        yield place, BenchmarkError(str(error))
    except OSError as error:
        raise SourceError(str(error)) from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BUFFER) as file:
            for batch in file.iter_batches(_ROWS_PER_BATCH, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", record
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # bad UTF-8, a year beyond 9999
        raise SourceError(f"{path}, after row {number}: not a readable Parquet file ({error})") from error


def _hub_rows(settings: RowSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets  # slow to import, and of no use with local files

    number = 0
    try:
        rows: Any = datasets.load_dataset(
            settings.hub, settings.config or None, split=settings.hub_split, streaming=True
        )
        for number, row in enumerate(rows, start=1):
            yield f"{settings.hub} ({settings.hub_split}), row {number}", dict(row)
    except Exception as error:
        raise SourceError(
            f"the data set {settings.hub} ({settings.hub_split}) cannot be streamed from the hub beyond row {number} "
            f"({type(error).__name__}: {error}); with `path` it is read from local .jsonl or .parquet files"
        ) from error
