"""What an answer looks like, and what grading it gives: the records of :mod:`satori.grading`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self


class AnswerKind(StrEnum):
    """How answers of a problem are read and compared."""

    NUMBER = "number"
    """A plain number: decimal, fraction, with thousands separators, a currency sign or a unit word."""
    LATEX = "latex"
    """A LaTeX expression, tuple, interval, set, matrix, equation, or several values."""
    CHOICE = "choice"
    """A letter, A to J."""
    LABEL = "label"
    """One of the form's labels."""
    LITERAL = "literal"
    """A Python literal: parsed, never run."""
    CELL = "cell"
    """Text, numbers or a comma-separated list of both, as they stand in a table."""
    TASK = "task"
    """An answer that the named reasoning-gym task scores itself."""


@dataclass(frozen=True)
class AnswerForm:
    """The kind of a problem's answer and what comparing it needs. All but ``kind`` may stay empty."""

    kind: AnswerKind = AnswerKind.NUMBER
    labels: tuple[str, ...] = ()
    """The labels of a LABEL answer; other spellings of the same label follow it after a bar: ``Uncertain|Unknown``."""
    multiple: bool = False
    """Whether a LATEX answer may be several values, in any order."""
    tolerance: float = 0.0
    """How far a LATEX number may be from the gold one, absolutely."""
    unit: str = ""
    """The unit of a LATEX answer; an answer may carry it or leave it out."""
    task: str = ""
    """The reasoning-gym task of a TASK answer."""
    entry: str = ""
    """The reasoning-gym entry of a TASK answer, as JSON."""

    def to_dict(self) -> dict[str, object]:
        """What differs from a plain number, JSON-ready."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        plain = {AnswerKind: lambda kind: kind.value, tuple: list}
        return {name: plain.get(type(value), lambda same: same)(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The form of :meth:`to_dict`. Raises ValueError for an unknown key or kind."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"unknown key {unknown[0]!r} in an answer form")
        kind = AnswerKind(values.get("kind", AnswerKind.NUMBER))
        return cls(**{**values, "kind": kind, "labels": tuple(values.get("labels", ()))})


PLAIN_NUMBER = AnswerForm()


class Status(StrEnum):
    """What came of grading a response."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMED_OUT = "timed_out"
    """Not decided within the limits of time, memory and size; never counted as right."""
    UNPARSEABLE_GOLD = "unparseable_gold"
    """The gold answer itself cannot be read as its kind says."""


class Found(StrEnum):
    """Where the answer of a response stood."""

    BOX = "box"
    HASHES = "hashes"
    STATED = "stated"
    LAST_LINE = "last_line"


@dataclass(frozen=True)
class Grade:
    """What came of grading one response. ``answers`` are all answers given, in order; the last one was judged."""

    status: Status
    answers: tuple[str, ...] = ()
    found: Found | None = None
    seconds: float = 0.0

    @property
    def correct(self) -> bool:
        return self.status is Status.CORRECT

    @property
    def answer(self) -> str | None:
        return self.answers[-1] if self.answers else None
