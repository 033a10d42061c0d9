"""The check on the gold: does the grader take a benchmark's own answers for right, and others for wrong?

For every problem two responses are graded. The first boxes the problem's own gold answer: it must be right for every
problem but the listed exceptions. The second boxes the gold answer of another problem, one that differs: it must be
wrong for at least 99.5% of the problems (two texts may mean the same value, such as 0.5 and one half).

Pure functions: the grader comes in as an argument, the figures go out as records. Nothing is printed.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from satori.benchmarks.base import Loaded, ProblemSet
from satori.grading.forms import AnswerForm, AnswerKind, Grade, Status
from satori.types import Problem

LEAST_WRONG = 0.995
NO_ANSWER = "the task states no answer of its own"

GradeAll = Callable[[list[tuple[str, str, AnswerForm]]], Sequence[Grade]]
"""Grades (response, gold, form) triples, in order."""


@dataclass(frozen=True)
class GoldRow:
    """The figures of one benchmark."""

    name: str
    title: str
    rows: int
    """Problems checked."""
    found: int
    """Rows found in scope: the problems and the unusable ones."""
    expected: int
    own_correct: int
    """Problems whose own gold answer is graded correct."""
    exceptions: tuple[tuple[str, str], ...]
    """Problems whose own gold answer need not be: id and reason."""
    failing: tuple[str, ...]
    """Problems whose own gold answer is graded otherwise, exceptions left out."""
    others: int
    """Problems for which another one has a different gold answer."""
    others_wrong: int
    """Of those, how many grade that answer as wrong."""
    mistaken: tuple[tuple[str, str], ...]
    """The rest: id of the problem, and of the one whose answer it took."""
    unusable: tuple[tuple[str, str], ...] = ()
    """Rows that could not be made a problem: id and reason."""

    @property
    def wrong_rate(self) -> float:
        return self.others_wrong / self.others if self.others else 1.0

    @property
    def passed(self) -> bool:
        return not self.failing and self.wrong_rate >= LEAST_WRONG and self.found == self.expected and self.rows > 0


@dataclass(frozen=True)
class GoldCheck:
    """The figures of all benchmarks, in order."""

    rows: tuple[GoldRow, ...]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)


def check_gold(sets: Iterable[tuple[ProblemSet, Loaded]], grade_all: GradeAll) -> GoldCheck:
    """Check loaded benchmarks against a grader."""
    return GoldCheck(tuple(check_benchmark(problem_set, loaded, grade_all) for problem_set, loaded in sets))


def check_benchmark(problem_set: ProblemSet, loaded: Loaded, grade_all: GradeAll) -> GoldRow:
    """Both halves of the check for one benchmark."""
    problems = loaded.problems
    exceptions = {p.id: NO_ANSWER for p in problems if not p.answer} | dict(problem_set.exceptions)
    own = grade_all([(boxed(p.answer), p.answer, p.form) for p in problems])
    pairs = different_pairs(problems)
    others = grade_all([(boxed(other.answer), p.answer, p.form) for p, other in pairs])
    right = {p.id for p, grade in zip(problems, own, strict=True) if grade.correct}
    mistaken = [
        (p.id, other.id) for (p, other), grade in zip(pairs, others, strict=True) if grade.status is not Status.WRONG
    ]
    return GoldRow(
        name=problem_set.name,
        title=problem_set.title,
        rows=len(problems),
        found=loaded.found,
        expected=loaded.expected,
        own_correct=len(right),
        exceptions=tuple((p.id, exceptions[p.id]) for p in problems if p.id in exceptions),
        failing=tuple(p.id for p in problems if p.id not in right and p.id not in exceptions),
        others=len(pairs),
        others_wrong=len(pairs) - len(mistaken),
        mistaken=tuple(mistaken),
        unusable=loaded.unusable,
    )


def boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def different_pairs(problems: Sequence[Problem], seed: int = 0) -> list[tuple[Problem, Problem]]:
    """Each problem with another whose gold answer differs: the next such one in an order shuffled by the seed.

    Problems without a gold answer, or than which no other differs, have no pair.
    """
    order = [p for p in problems if p.answer]
    random.Random(seed).shuffle(order)
    keys = [_key(p) for p in order]
    if len(set(keys)) < 2:
        return []
    size = len(order)
    others = (next(j % size for j in range(i + 1, i + size) if keys[j % size] != keys[i]) for i in range(size))
    return [(problem, order[other]) for problem, other in zip(order, others, strict=True)]


def _key(problem: Problem) -> str:
    """What two gold answers must differ in: the letter of a choice, the label in its first spelling, else the text."""
    answer = problem.answer.strip()
    if problem.form.kind is AnswerKind.CHOICE:
        return answer.upper()
    if problem.form.kind is AnswerKind.LABEL:
        spellings = [label.lower().split("|") for label in problem.form.labels]
        return next((names[0] for names in spellings if answer.lower() in names), answer.lower())
    return answer
