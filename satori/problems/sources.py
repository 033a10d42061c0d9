"""Problems from real data sets, beside the embedded family: streams of :class:`~satori.types.Problem` (paper D.1).

::

    stream = open_source(ProblemSource(preset="openmathinstruct-2", limit=1000), Split.TRAIN)
    problems = list(stream)
    print("\\n".join(stream.counts.lines()))

A problem's split is a function of its question alone, as in the embedded family: 5% test, 5% validation. Case, spaces
and LaTeX that only changes the looks do not count, so a question that two sources have is in the same split of both.

Repeated questions are left out (OpenMathInstruct-2 has 14 million rows of 0.6 million questions), by 8-byte hashes in
a table of fixed size: memory does not grow with the rows, and where the table is too small for the source a repeat may
slip through, but no new question is lost.

What it leaves out of the paper's curation: near duplicates, the second model that must agree with each answer, and
checking questions against the benchmarks. Two questions that differ in a number only may fall in different splits.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from satori.benchmarks.rows import BenchmarkError, Row, UnusableRow, plain_number
from satori.config import derive_seed
from satori.grading.extraction import boxed_answers
from satori.grading.forms import AnswerForm, AnswerKind
from satori.grading.kinds import parse_rational, read_choice, read_label, read_literal
from satori.problems.arithmetic import Split
from satori.problems.questions import SeenQuestions, question_key, split_of_question
from satori.problems.row_streams import RowCounts, RowStream, stream_rows
from satori.problems.source_settings import AnswerPlace, ProblemSource
from satori.types import Problem


def open_source(
    source: ProblemSource,
    split: Split | None = None,
    seed: int = 0,
    check: Callable[[Problem], None] = lambda problem: None,
) -> RowStream[Problem]:
    """The problems of one split of a source, or of all, one at a time; the same ones for the same settings and seed.

    It ends where the source does, or where a task has made up no new problem for a long time. Reading starts with the
    first problem that is asked for, and raises SourceError where the source is not as its settings say. ``check`` may
    refuse a problem: it raises UnusableRow.
    """
    counts = RowCounts()
    chosen = _Choice(split, SeenQuestions(source.remembered_questions), check)
    if source.task:
        from satori.problems.gym_stream import gym_rows  # slow to import

        made = gym_rows(source.task, source.task_settings, derive_seed(source.seed, seed), counts)
        return RowStream(made, lambda place, problem: chosen.check(problem), source, seed, counts)
    reader = _Reader(source, source.name, source.form, chosen)
    return RowStream(stream_rows(source), reader.problem, source, seed, counts)


def interleaved(streams: Iterable[Iterator[Problem]]) -> Iterator[Problem]:
    """A problem of each stream in turn, until all have ended."""
    waiting = list(streams)
    while waiting:
        for stream in tuple(waiting):
            try:
                yield next(stream)
            except StopIteration:
                waiting.remove(stream)


@dataclass(frozen=True)
class _Choice:
    """Which problems to take: those of a split whose questions were not taken before, where nobody refuses them."""

    split: Split | None
    seen: SeenQuestions
    refuse: Callable[[Problem], None]

    def refuse_other_split(self, key: int) -> None:
        if self.split is not None and (other := split_of_question(key)) is not self.split:
            raise UnusableRow(f"question of the {other} split")

    def refuse_repeated(self, key: int) -> None:
        if not self.seen.add(key):
            raise UnusableRow("question seen before")

    def check(self, problem: Problem) -> Problem:
        key = question_key(problem.question)
        self.refuse_other_split(key)
        self.refuse_repeated(key)
        self.refuse(problem)
        return problem


@dataclass(frozen=True)
class _Reader:
    """Makes problems of rows. The reasons for which it refuses rows are few: counts are kept for each."""

    source: ProblemSource
    name: str
    form: AnswerForm
    chosen: _Choice

    def problem(self, place: str, record: Mapping[str, Any]) -> Problem:
        source, row = self.source, Row("", place, record)
        self._refuse_filtered(row)
        question = row.text(source.columns.question).strip()
        if len(question) > source.longest_question:
            raise UnusableRow(f"question of more than {source.longest_question} characters")
        key = question_key(question)
        self.chosen.refuse_other_split(key)
        problem = Problem(
            id=self._id(row, key),
            question=question,
            answer=self._answer(row),
            level=self._level(row),
            solution=self._solution(row),
            form=self.form,
        )
        self.chosen.refuse_repeated(key)
        self.chosen.refuse(problem)
        return problem

    def _refuse_filtered(self, row: Row) -> None:
        for filters, wanted in ((self.source.keep, True), (self.source.leave_out, False)):
            for column, values in filters.items():
                if (str(row.value("a value to filter by", column)) in values) is not wanted:
                    raise UnusableRow(f"{column} is not one to keep" if wanted else f"{column} is one to leave out")

    def _id(self, row: Row, key: int) -> str:
        column = self.source.columns.id
        own = row.value("an id", column) if column else None
        if own in (None, ""):
            return f"{self.name}-{key >> 64:016x}"
        return f"{self.name}-{own}-{key >> 64:016x}"  # others may have the same

    def _answer(self, row: Row) -> str:
        column = self.source.columns.answer
        text = text_or_number(row, column)
        if self.source.answer_place is AnswerPlace.BOX:
            boxes = boxed_answers(text)
            if not boxes:
                raise UnusableRow(f"no complete box in {column}")
            text = boxes[-1]
        elif self.source.answer_place is AnswerPlace.HASHES:
            _, mark, text = text.rpartition("####")
            if not mark:
                raise UnusableRow(f"no #### in {column}")
        text = text.strip()
        if not text:
            raise UnusableRow("the answer is empty")
        if len(text) > self.source.longest_answer:
            raise UnusableRow(f"answer of more than {self.source.longest_answer} characters")
        return _gold(text, self.form)

    def _level(self, row: Row) -> int:
        column = self.source.columns.level
        if not column or row.value("a level", column) is None:
            return 0
        if (found := re.search(r"\d{1,9}", text_or_number(row, column), re.ASCII)) is None:
            raise UnusableRow(f"no number in {column}")
        return int(found.group())

    def _solution(self, row: Row) -> tuple[str, ...]:
        column = self.source.columns.solution
        text = row.text(column, empty=True) if column else ""
        if self.source.answer_place is AnswerPlace.HASHES:
            before, mark, _ = text.rpartition("####")
            text = re.sub(r"<<[^<>\n]*>>", "", before if mark else text)  # GSM8K's notes for a calculator
        paragraphs = re.split(r"\n\s*\n", text) if re.search(r"\n\s*\n", text.strip()) else text.splitlines()
        return tuple(step for part in paragraphs if (step := part.strip()))


def text_or_number(row: Row, column: str) -> str:
    """A text; a number as one, in plain digits; UnusableRow where there is nothing."""
    value = row.value("text or a number", column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return str(int(value)) if value == int(value) else f"{Decimal(str(value)):f}"
    if isinstance(value, float | Decimal):
        raise UnusableRow(f"{column} is not a finite number")
    if value is not None and not isinstance(value, str):
        found = type(value).__name__
        raise BenchmarkError(f"{row.place}, column {column!r}: expected text or a number, found {found}")
    if not (value or "").strip():
        raise UnusableRow(f"{column} is empty")
    return str(value)


def _gold(text: str, form: AnswerForm) -> str:
    """A gold answer that the grader can read; UnusableRow where it is not of its kind."""
    match form.kind:
        case AnswerKind.NUMBER if parse_rational(text) is not None:
            return _plain(text)
        case AnswerKind.CHOICE if (letter := read_choice(text)) is not None:
            return letter
        case AnswerKind.LABEL if (label := read_label(text, form.labels)) is not None:
            return label
        case AnswerKind.LITERAL if read_literal(text) is not None:
            return text
        case AnswerKind.LATEX | AnswerKind.CELL:
            return text
        case _:
            raise UnusableRow(f"the answer is no {form.kind}")


def _plain(number: str) -> str:
    """Without thousands separators and needless zeros; a fraction stays as it is."""
    try:
        return plain_number(number)
    except UnusableRow:
        return number
