"""Grading responses: extract the answer, compare it with the gold one, and never wait longer than the deadline.

What can be decided by reading is decided in the caller's thread; only what takes symbolic work goes to the worker
processes of :mod:`satori.grading.pool`. The verdict on a pair is kept, so identical pairs are graded once.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeAlias

from satori.grading.equivalence import UnreadableGoldError, equivalent, plain_atoms
from satori.grading.extraction import extract_answers
from satori.grading.forms import PLAIN_NUMBER, AnswerForm, AnswerKind, Found, Grade, Status
from satori.grading.pool import pool

DEADLINE = 3.0
"""Seconds that comparing one answer may take."""
_KEPT_VERDICTS = 100_000

Pair: TypeAlias = tuple[str, str, AnswerForm]
"""(answer, gold, form)."""

_verdicts: dict[Pair, Status] = {}
"""What took symbolic work."""
_verdicts_lock = threading.Lock()


def grade(response: str, gold: str, form: AnswerForm = PLAIN_NUMBER, deadline: float = DEADLINE) -> Grade:
    """Judge a response, given without its prompt and without any restart prefix.

    Works from any thread. The answer is compared in at most ``deadline`` seconds, else the status is ``timed_out``.
    """
    return grade_all([(response, gold, form)], deadline)[0]


def grade_all(
    items: Iterable[tuple[str, str, AnswerForm]],
    deadline: float = DEADLINE,
    on_done: Callable[[], None] = lambda: None,
) -> list[Grade]:
    """Judge (response, gold, form) triples, in order; ``on_done`` is called after each. Symbolic work goes on in all
    worker processes at once."""
    read: list[tuple[Pair | None, tuple[str, ...], Found | None, float]] = []
    for response, gold, form in items:
        start = time.monotonic()
        answers, place = extract_answers(response, form)
        pair = (answers[-1], gold, form) if answers else None
        read.append((pair, answers, place, time.monotonic() - start))
    verdicts = compare_all([pair for pair, *_ in read if pair], deadline)
    grades = []
    for pair, answers, place, reading in read:
        status, comparing = verdicts[pair] if pair else (Status.NO_ANSWER, 0.0)
        grades.append(Grade(status, answers, place, reading + comparing))
        on_done()
    return grades


def same_answer(one: str, other: str, form: AnswerForm = PLAIN_NUMBER) -> bool:
    """Whether two answers are the same answer of this form; what cannot be decided in time is not."""
    if form.kind is AnswerKind.TASK:
        return one.strip() == other.strip()
    return compare_all([(one, other, form)])[one, other, form][0] is Status.CORRECT


def compare_all(pairs: Sequence[Pair], deadline: float = DEADLINE) -> dict[Pair, tuple[Status, float]]:
    """The status of each pair, and the seconds that took. Each different pair is compared once."""
    found: dict[Pair, tuple[Status, float]] = {}
    hard: list[Pair] = []
    for pair in dict.fromkeys(pairs):
        start = time.monotonic()
        status = _verdicts.get(pair) or compare_plainly(*pair)
        if status is None:
            hard.append(pair)
        else:
            found[pair] = status, time.monotonic() - start
    if hard:
        workers = pool(deadline)
        with ThreadPoolExecutor(min(workers.size, len(hard))) as threads:
            found.update(zip(hard, threads.map(lambda pair: _compare_hard(pair, deadline), hard), strict=True))
    with _verdicts_lock:
        for pair in hard:
            if found[pair][0] is not Status.TIMED_OUT:
                if len(_verdicts) >= _KEPT_VERDICTS:
                    del _verdicts[next(iter(_verdicts))]
                _verdicts[pair] = found[pair][0]
    return found


@lru_cache(maxsize=_KEPT_VERDICTS)
def compare_plainly(answer: str, gold: str, form: AnswerForm) -> Status | None:
    """The status of a pair as far as reading decides it; None where it takes symbolic work."""
    try:
        equal = equivalent(answer, gold, form, plain_atoms)
    except UnreadableGoldError:
        return Status.UNPARSEABLE_GOLD
    if equal is None:
        return None
    return Status.CORRECT if equal else Status.WRONG


def clear_caches() -> None:
    """Forget every verdict."""
    _verdicts.clear()
    compare_plainly.cache_clear()


def _compare_hard(pair: Pair, deadline: float) -> tuple[Status, float]:
    start = time.monotonic()
    verdict = pool(deadline).ask(*pair)
    seconds = time.monotonic() - start
    if verdict is None:
        return Status.TIMED_OUT, seconds
    if verdict.get("unparseable"):
        return Status.UNPARSEABLE_GOLD, seconds
    return (Status.CORRECT if verdict["equal"] else Status.WRONG), seconds
