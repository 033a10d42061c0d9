"""The record of one evaluated response, and its row in a JSON-lines file.

Everything an analysis needs stands in the record, so that saved responses can be graded and analysed again without
the model. What it leaves out: reading and writing files, and how the response was graded.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, get_type_hints

from satori.grading.forms import AnswerForm, Found, Status


@dataclass(frozen=True, kw_only=True)
class EvaluatedResponse:
    """One response of an evaluation, as it is saved."""

    problem_id: str
    set_name: str
    level: int
    question: str
    gold: str
    form: AnswerForm = field(default_factory=AnswerForm)
    sample: int = 0
    """Which of the problem's samples this is, from 0."""
    response: str
    tokens: int
    """Tokens sampled, the end token among them."""
    finished: bool
    """Whether the model ended the response; False where the length limit cut it off."""
    status: Status
    answers: tuple[str, ...]
    """All answers given, in order; the last one was judged."""
    found: Found | None
    plain_tokens: int = 0
    """Length of the plain reference solution; 0 where there is none."""
    score: float | None = None
    """The reward model's logit, for best-of-k; None where no reward model judged."""

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"the score of {self.problem_id!r}, sample {self.sample}, is {self.score}")

    @property
    def unanswered(self) -> bool:
        """It has no token: the prompt left no room for one, or a server refused it or sent no text."""
        return not self.finished and self.tokens == 0

    @property
    def correct(self) -> bool:
        """Right and finished: a response cut off never gave its final answer."""
        return self.finished and self.status is Status.CORRECT


def to_row(record: EvaluatedResponse) -> dict[str, Any]:
    """The record as a JSON object; the form holds only what differs from a plain number."""
    row = {key: _plain(value) for key, value in vars(record).items() if key != "form"}
    return row | {"form": record.form.to_dict()}


def from_row(row: Mapping[str, Any]) -> EvaluatedResponse:
    """The record that a row was made from.

    Raises ValueError naming a key that is missing, unknown, or of a value that does not fit.
    """
    form = row.get("form", {})
    if not isinstance(form, Mapping):
        raise ValueError(f"form is {reprlib.repr(form)}; expected an object")
    plain = {key: value for key, value in row.items() if key != "form"}
    return EvaluatedResponse(
        form=AnswerForm(**_values(form, AnswerForm, "form.")), **_values(plain, EvaluatedResponse, "")
    )


def by_problem(responses: Sequence[EvaluatedResponse]) -> list[list[EvaluatedResponse]]:
    """The responses of each problem, in the order of their samples; problems in the order of their first response.

    Raises ValueError where a sample occurs twice: it would count double.
    """
    groups: dict[tuple[str, str], dict[int, EvaluatedResponse]] = {}
    for response in responses:
        samples = groups.setdefault((response.set_name, response.problem_id), {})
        if response.sample in samples:
            raise ValueError(
                f"{response.set_name}: two responses to problem {response.problem_id!r}, sample {response.sample}"
            )
        samples[response.sample] = response
    return [[samples[number] for number in sorted(samples)] for samples in groups.values()]


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _values(row: Mapping[str, Any], record: type, where: str) -> dict[str, Any]:
    """The fields of a record, read from a row without its nested records."""
    types = get_type_hints(record)
    if unknown := [key for key in row if key not in types]:
        raise ValueError(f"unknown key {where}{unknown[0]}")
    needed = [part.name for part in fields(record) if part.default is MISSING and part.default_factory is MISSING]
    if missing := [name for name in needed if name not in row]:
        raise ValueError(f"missing key {where}{missing[0]}")
    return {key: _value(value, types[key], where + key) for key, value in row.items()}


def _value(value: Any, expected: Any, name: str) -> Any:
    """A JSON value as a field of this type holds it."""
    if expected in (Found | None, float | None):
        if value is None:
            return None
        expected = Found if expected == Found | None else float
    if expected == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif issubclass(expected, StrEnum):
        if value in [member.value for member in expected]:
            return expected(value)
    elif expected is float and type(value) in (int, float):
        return float(value)
    elif type(value) is expected:
        return value
    raise ValueError(f"{name} is {reprlib.repr(value)}")
