"""The two out-of-domain sets: more operands than any trained level, and another kind of task altogether.

The other kind comes from reasoning-gym, which nothing here is trained on; any of its tasks can be named. Its answers
are scored by the task itself, for which each problem carries its entry as JSON.
"""

import json
from itertools import islice
from numbers import Rational
from typing import Any

from satori.grading.forms import AnswerForm, AnswerKind
from satori.problems.arithmetic import HARDER_LEVEL, Split, problem_stream
from satori.types import Problem

# Where tasks with many right answers keep one of them.
_EXAMPLES = ("example_answer", "possible_answer", "example_correct_answer")
_CHECKED = 3


def harder_problems(count: int) -> list[Problem]:
    """Problems of the level above all trained ones."""
    return list(islice(problem_stream(Split.TEST, 0, (HARDER_LEVEL,)), count))


def reasoning_gym() -> Any:
    """The library, imported when first used: it takes a second, and not every command needs it."""
    import reasoning_gym as library

    return library


def reasoning_gym_tasks() -> list[str]:
    """The names of all tasks."""
    return sorted(reasoning_gym().factory.DATASETS)


def reasoning_gym_problems(task: str, count: int, seed: int = 0) -> list[Problem]:
    """Problems of a reasoning-gym task.

    Raises ValueError for an unknown task, one that needs settings of its own, and one whose scorer judges otherwise
    once its entry has been JSON (arc_agi and rearc: they compare with tuples, which come back as lists).
    """
    try:
        entries = list(reasoning_gym().create_dataset(task, size=count, seed=seed))
    except ValueError as error:
        raise ValueError(f"reasoning-gym has no task {task!r} ({error})") from error
    except AssertionError as error:
        raise ValueError(f"reasoning-gym cannot make the task {task!r} without further settings ({error})") from error
    score: Any = reasoning_gym().get_score_answer_fn(task)
    problems = []
    for number, entry in enumerate(entries):
        answer = stated_answer(entry)
        saved = entry_as_json(task, entry)
        if number < _CHECKED and score(answer, entry) != score(answer, json.loads(saved)):
            raise ValueError(f"reasoning-gym task {task!r}: its scorer judges otherwise once an entry has been JSON")
        form = AnswerForm(kind=AnswerKind.TASK, task=task, entry=saved)
        problems.append(Problem(id=f"{task}-{number}", question=str(entry["question"]), answer=answer, form=form))
    return problems


def stated_answer(entry: dict[str, Any]) -> str:
    """The entry's answer; where it has none, the example among its metadata; empty where it has neither."""
    found = [entry["answer"], *(entry["metadata"].get(name) for name in _EXAMPLES)]
    answer = next((value for value in found if value is not None), "")
    return answer if isinstance(answer, str) else json.dumps(answer)


def entry_as_json(task: str, entry: dict[str, Any]) -> str:
    """The entry for the task's scorer. Numbers that JSON has not (fractions) become text; whether the scorer minds is
    checked where problems are made."""
    try:
        return json.dumps(entry, ensure_ascii=False, default=_as_text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"reasoning-gym task {task!r}: an entry cannot be saved as JSON ({error})") from error


def _as_text(value: object) -> str:
    if isinstance(value, Rational):
        return str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
