"""Where problems come from: the settings of :mod:`satori.problems.sources`, and presets for well-known data sets.

A source is a data set of the hub, local JSON lines or Parquet, or a reasoning-gym task. A preset names the columns of
a data set, and everything it sets can be set otherwise; with a preset, ``path`` reads a local copy.
"""

import difflib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import Field, model_validator

from satori.config import Settings
from satori.grading.equivalence import LONGEST_ANSWER
from satori.grading.forms import AnswerForm, AnswerKind
from satori.problems.row_streams import RowSettings

REASONING_GYM = "reasoning-gym:"


class AnswerPlace(StrEnum):
    """Where in its column the answer stands."""

    WHOLE = "whole"
    """The whole column."""
    BOX = "box"
    """The last complete box of a solution."""
    HASHES = "hashes"
    """What follows the last ``####`` of a solution."""


class Columns(Settings):
    """Which column holds what; an empty name means that there is none."""

    question: str = Field(default="question", min_length=1)
    answer: str = Field(default="answer", min_length=1)
    solution: str = ""
    """Becomes the reference solution, a paragraph a step (a line a step where there are no paragraphs)."""
    level: str = ""
    """A whole number, or a text with one in it ("Level 3"): the difficulty."""
    id: str = ""
    """Without it a problem is named after the source and a hash of its question."""


class ProblemSource(RowSettings):
    """Where problems come from, and which of them."""

    preset: str = ""
    """`openmathinstruct-2`, `numinamath-cot`, `gsm8k` (its training rows), or `reasoning-gym:NAME`."""
    columns: Columns = Columns()
    answer_place: AnswerPlace = AnswerPlace.WHOLE
    """Where in its column the answer stands: `whole`, `box` or `hashes`."""
    answer_kind: AnswerKind = AnswerKind.LATEX
    """How answers are read and compared."""
    labels: tuple[str, ...] = ()
    """The labels of answers of the kind `label`."""
    multiple: bool = False
    """Whether a `latex` answer may be several values, in any order."""
    keep: dict[str, tuple[str, ...]] = Field(default={})
    """For a column the values to keep; other rows are left out."""
    leave_out: dict[str, tuple[str, ...]] = Field(default={})
    """For a column the values to leave out."""
    longest_question: int = Field(default=4000, gt=0)
    """Characters; longer questions are left out."""
    longest_answer: int = Field(default=LONGEST_ANSWER, gt=0, le=LONGEST_ANSWER)
    """Characters; longer answers are left out (the grader reads no longer ones)."""
    remembered_questions: int = Field(default=2**22, ge=0)
    """Size of the table that repeated questions are found with, 8 bytes each; 0 lets repeated questions pass."""
    task: str = ""
    """A reasoning-gym task, whose problems are made up on the spot; what is said of columns and answers does not
    concern it."""
    task_settings: dict[str, Any] = Field(default={})
    """The task's own settings, such as `{min_terms: 2, max_terms: 3}`."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        """What the preset says, under what is said beside it."""
        if not isinstance(values, Mapping) or not values.get("preset"):
            return values
        preset = _preset(str(values["preset"]))
        filled = {**preset, **values}
        if isinstance(values.get("columns"), Mapping):
            filled["columns"] = {**preset.get("columns", {}), **values["columns"]}
        return filled

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.path or self.hub or self.task):
            raise ValueError("a problem source needs a preset, a path, a hub data set or a task")
        if self.task and (self.path or self.hub):
            raise ValueError("a problem source is a task, or a path or hub data set, not both")
        if self.answer_kind is AnswerKind.TASK:
            raise ValueError("answer_kind task is for reasoning-gym tasks: name one with task")
        if (self.answer_kind is AnswerKind.LABEL) != bool(self.labels):
            raise ValueError("labels are needed for answer_kind label, and only there")
        return self

    @property
    def name(self) -> str:
        """What problems without an id of their own are named after."""
        return self.task or self.preset or (Path(self.path).stem if self.path else self.hub.rpartition("/")[2])

    @property
    def where(self) -> str:
        return self.task or super().where

    @property
    def form(self) -> AnswerForm:
        return AnswerForm(kind=self.answer_kind, labels=self.labels, multiple=self.multiple)


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "openmathinstruct-2": {
            "hub": "nvidia/OpenMathInstruct-2",  # its splits train_1M, train_2M and train_5M are samples of train
            "columns": {"question": "problem", "answer": "expected_answer", "solution": "generated_solution"},
        },
        "numinamath-cot": {
            "hub": "AI-MO/NuminaMath-CoT",
            "columns": {"question": "problem", "answer": "solution", "solution": "solution"},
            "answer_place": "box",
        },
        "gsm8k": {
            "hub": "openai/gsm8k",
            "config": "main",
            "columns": {"question": "question", "answer": "answer", "solution": "answer"},
            "answer_place": "hashes",
            "answer_kind": "number",
        },
    }
)


def _preset(name: str) -> Mapping[str, Any]:
    if name.startswith(REASONING_GYM):
        return {"task": name.removeprefix(REASONING_GYM)}
    if name not in PRESETS:
        near = difflib.get_close_matches(name.lower(), PRESETS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}, {REASONING_GYM}NAME"
        raise ValueError(f"unknown preset {name!r}; {hint}")
    return PRESETS[name]
