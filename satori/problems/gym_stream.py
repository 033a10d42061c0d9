"""Endless problems of a reasoning-gym task with settings of its own, for training; made in small lots, on demand.

Beside :func:`satori.problems.out_of_domain.reasoning_gym_problems`, which makes the fixed sets for evaluation. Name a
task for training or for evaluation, not for both: nothing here keeps the two apart but the seeds.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from satori.grading.forms import AnswerForm, AnswerKind
from satori.problems.out_of_domain import entry_as_json, reasoning_gym, reasoning_gym_problems, stated_answer
from satori.problems.questions import question_key
from satori.problems.row_streams import RowCounts, SourceError
from satori.types import Problem

_SUM = re.compile(r"\d{1,9}(?: [+-] \d{1,9}){1,20}", re.ASCII)
_TERM = re.compile(r"([+-]) (\d+)", re.ASCII)
_LOT = 100
_LOTS_WITHOUT_NEW = 50


def gym_rows(task: str, settings: Mapping[str, Any], seed: int, counts: RowCounts) -> Iterator[tuple[str, Problem]]:
    """Problems with their places, until ``counts`` says that 5,000 in a row were of no use (all seen before).

    Raises SourceError for an unknown task, one whose scorer cannot be trusted, and settings that it does not take.
    """
    used, idle = 0, 0
    for start in count(0, _LOT):
        try:
            if not start:
                reasoning_gym_problems(task, 1, seed)  # refuses tasks that cannot be scored from a file
            lot = [
                _problem(task, entry)
                for entry in reasoning_gym().create_dataset(task, size=_LOT, seed=seed + start, **settings)
            ]
        except (ValueError, TypeError, AssertionError) as error:
            shown = f" with the settings {dict(settings)}" if settings else ""
            raise SourceError(f"reasoning-gym cannot make the task {task!r}{shown}: {error}") from error
        yield from ((f"{task}, number {number}", problem) for number, problem in enumerate(lot, start=start))
        idle = 0 if counts.used > used else idle + 1
        used = counts.used
        if idle == _LOTS_WITHOUT_NEW:
            return


def _problem(task: str, entry: dict[str, Any]) -> Problem:
    question = str(entry["question"])
    form = AnswerForm(kind=AnswerKind.TASK, task=task, entry=entry_as_json(task, entry))
    solution = reference_steps(entry["metadata"])
    return Problem(
        f"{task}-{question_key(question) >> 64:016x}", question, stated_answer(entry), solution=solution, form=form
    )


def reference_steps(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The reference solution, where an entry has one in words or is a sum to be worked out from the left; else none."""
    words, expression = metadata.get("answer_cot"), metadata.get("expression")
    if isinstance(words, str):
        return tuple(line.strip() for line in words.partition("####")[0].splitlines() if line.strip())
    terms = _SUM.fullmatch(expression) if isinstance(expression, str) else None
    if terms is None:
        return ()
    total, *rest = (int(sign + digits) for sign, digits in _TERM.findall("+ " + str(expression)))
    steps = []
    for term in rest:
        steps.append(f"{total} {'-' if term < 0 else '+'} {abs(term)} = {total + term}.")
        total += term
    return tuple(steps)
