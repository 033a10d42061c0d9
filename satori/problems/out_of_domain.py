"""The two out-of-domain sets: more operands than any trained level, and another kind of task altogether.

The other kind comes from reasoning-gym, which nothing here is trained on; any of its tasks whose answers are numbers
can be named.
"""

from itertools import islice

import reasoning_gym

from satori.problems.arithmetic import HARDER_LEVEL, Split, problem_stream
from satori.types import Problem


def harder_problems(count: int) -> list[Problem]:
    """Problems of the level above all trained ones."""
    return list(islice(problem_stream(Split.TEST, 0, (HARDER_LEVEL,)), count))


def reasoning_gym_problems(task: str, count: int, seed: int = 0) -> list[Problem]:
    """Problems of a reasoning-gym task. Raises ValueError for an unknown one."""
    try:
        dataset = reasoning_gym.create_dataset(task, size=count, seed=seed)
    except ValueError as error:
        raise ValueError(f"reasoning-gym has no task {task!r} ({error})") from error
    return [
        Problem(id=f"{task}-{i}", question=str(entry["question"]), answer=str(entry["answer"]))
        for i, entry in enumerate(dataset)
    ]
