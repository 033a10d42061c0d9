"""Rows of a benchmark, from local files in their authors' own formats or from the Hugging Face hub.

A row knows where it stands, so that whatever is wrong with it is named by file, line and column. Two things can be
wrong, and they are told apart: input of another form than expected ends the loading (:class:`BenchmarkError`); a row
of the right form that cannot be made a problem is set aside and reported (:class:`UnusableRow`).

What it leaves out: what the columns of each benchmark mean, which each benchmark's own file says.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satori.run_folder import ArtifactError, read_jsonl

_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
"""No text in Unicode, but JSON can write it."""
_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.(\d*?)0*)?", re.ASCII)


class BenchmarkError(ValueError):
    """A benchmark cannot be loaded: unknown name, missing file, broken line, missing column."""


class MissingFileError(BenchmarkError):
    """A folder of local files does not hold a benchmark."""


class UnusableRow(ValueError):  # noqa: N818 - it says what the row is
    """A row that cannot be made a problem. The message says why."""


@dataclass(frozen=True)
class Hub:
    """A data set of the Hugging Face hub. ``data_files`` picks one file of a repository that holds several."""

    id: str
    config: str | None = None
    split: str = "test"
    data_files: str | None = None


@dataclass(frozen=True)
class Row:
    """One row, the id of its problem, and the place it was read from.

    Each method takes the names that a column goes by, because local files and the hub do not always agree; the first
    one that is present counts. A missing column or one of another type raises BenchmarkError, and a text that is no
    valid Unicode UnusableRow.
    """

    id: str
    place: str
    record: Mapping[str, Any]

    def value(self, expected: str, *columns: str) -> Any:
        """What stands in a column, whatever it is; ``expected`` is said where there is no such column."""
        for column in columns:
            if column in self.record:
                return checked_unicode(self.record[column], column)
        raise BenchmarkError(
            f"{self.place}: no column {' or '.join(map(repr, columns))} ({expected} expected); "
            f"its columns are {', '.join(map(repr, self.record)) or 'none'}"
        )

    def text(self, *columns: str, empty: bool = False) -> str:
        """A text; UnusableRow where it is empty or null, unless it may be empty."""
        value = self.value("text", *columns)
        if value is not None and not isinstance(value, str):
            raise self._other_type(columns, "text", value)
        if not empty and not (value or "").strip():
            raise UnusableRow(f"{columns[0]} is empty")
        return value or ""

    def texts(self, *columns: str) -> tuple[str, ...]:
        """A list of texts; UnusableRow where it has none."""
        value = self.value("a list of texts", *columns)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._other_type(columns, "a list of texts", value)
        if not value:
            raise UnusableRow(f"{columns[0]} is empty")
        return tuple(value)

    def integer(self, *columns: str) -> int:
        """A whole number."""
        value = self.value("a whole number", *columns)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._other_type(columns, "a whole number", value)
        return value

    def truth(self, *columns: str) -> bool:
        """True or false."""
        value = self.value("true or false", *columns)
        if not isinstance(value, bool):
            raise self._other_type(columns, "true or false", value)
        return value

    def label(self, labels: Sequence[str], *columns: str) -> str:
        """One of the labels, in its first spelling; other spellings follow it after a bar. UnusableRow otherwise."""
        found = self.text(*columns).strip()
        for label in labels:
            spellings = label.split("|")
            if found.lower() in (spelling.lower() for spelling in spellings):
                return spellings[0]
        raise UnusableRow(f"{columns[0]} is {found!r}, none of {', '.join(labels)}")

    def _other_type(self, columns: Sequence[str], expected: str, value: object) -> BenchmarkError:
        column = next(column for column in columns if column in self.record)
        return BenchmarkError(f"{self.place}, column {column!r}: expected {expected}, found {type(value).__name__}")


def checked_unicode(value: Any, name: str) -> Any:
    """The value; UnusableRow where a text in it cannot be encoded."""
    if not _is_unicode(value):
        raise UnusableRow(f"{name} is not valid Unicode")
    return value


def _is_unicode(value: object) -> bool:
    """Whether every text in a value can be encoded."""
    if isinstance(value, str):
        return _HALF_OF_A_PAIR.search(value) is None
    if isinstance(value, Mapping):
        return all(map(_is_unicode, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_unicode, value))


def plain_number(value: object) -> str:
    """A gold number in plain digits: 27.0 is ``27``, "025" is ``25``, "2,125" is ``2125``. UnusableRow otherwise."""
    match = _NUMBER.fullmatch(str(value).strip().replace(",", ""))
    if match is None:
        raise UnusableRow(f"the answer {value!r} is not a plain number")
    sign, whole, rest = match.groups()
    return sign.replace("+", "") + whole + (f".{rest}" if rest else "")


def read_files(folder: Path, choices: Sequence[Sequence[str]]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """The rows of the first choice of files that a folder has, each with its place, and the name of that choice.

    A choice is all the files that make up a benchmark together; a name may be a pattern.
    """
    if not folder.is_dir():
        raise BenchmarkError(f"{folder} is not a folder")
    for names in choices:
        found = [sorted(path for path in folder.glob(name) if path.is_file()) for name in names]
        if all(found):
            try:
                return names[0], [row for paths in found for path in paths for row in _read(path)]
            except (ArtifactError, OSError) as error:
                raise BenchmarkError(str(error)) from error
    raise MissingFileError(f"{folder} has none of: {'; '.join(' and '.join(names) for names in choices)}")


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a JSON-lines file, or of one JSON array."""
    if path.suffix == ".jsonl":
        for line, record in enumerate(read_jsonl(path), start=1):
            yield f"{path}, line {line}", record
        return
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{path}: not valid JSON in UTF-8 ({error})") from error
    if not isinstance(records, list):
        raise BenchmarkError(f"{path}: expected a JSON array of objects, found {type(records).__name__}")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise BenchmarkError(f"{path}, entry {number}: expected a JSON object, found {type(record).__name__}")
        yield f"{path}, entry {number}", record


def read_hub(hub: Hub) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a data set of the hub, each with its place."""
    import datasets  # slow to import, and of no use with local files

    try:
        rows: Any = datasets.load_dataset(hub.id, hub.config, split=hub.split, data_files=hub.data_files)
        return [(f"{hub.id} ({hub.split}), row {number}", dict(row)) for number, row in enumerate(rows, start=1)]
    except Exception as error:
        raise BenchmarkError(
            f"the data set {hub.id} cannot be loaded from the hub ({type(error).__name__}: {error}); "
            "with --data DIR it is read from local files"
        ) from error
