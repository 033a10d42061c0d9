"""One grader for curation, synthesis, reinforcement learning and evaluation. It sees the response only.

The answer is what stands in the last complete ``\\boxed{}``; every earlier box is kept, in order, for the
self-correction analysis. Answers are compared as numbers, exactly: no substrings, no tolerance, no evaluation of
anything a model wrote. What it leaves out: LaTeX, labels and the other answer kinds of the benchmarks.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

_NUMBER = re.compile(r"[+-]?(?:\d{1,40}|\d{1,3}(?:,\d{3}){1,12})(?:\.\d{1,40})?", re.ASCII)
_BOX = "\\boxed{"
_LONGEST_ANSWER = 1000


class Verdict(StrEnum):
    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"


@dataclass(frozen=True)
class Grade:
    """The verdict on one response, and every boxed answer in it, in order; the last one was judged."""

    verdict: Verdict
    answers: tuple[str, ...] = ()

    @property
    def correct(self) -> bool:
        return self.verdict is Verdict.CORRECT

    @property
    def answer(self) -> str | None:
        return self.answers[-1] if self.answers else None


def boxed_answers(text: str) -> tuple[str, ...]:
    """The contents of every complete ``\\boxed{}``, in order, nested braces respected; linear in the text's length.

    A box that never closes, or whose content is longer than any answer, is passed over.
    """
    found, position = [], 0
    while (start := text.find(_BOX, position)) >= 0:
        start += len(_BOX)
        position, depth = start, 1
        for end in range(start, min(len(text), start + _LONGEST_ANSWER)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                found.append(text[start:end].strip())
                position = end + 1
                break
    return tuple(found)


def parse_number(text: str) -> Fraction | None:
    """A plain decimal number, with or without thousands separators; None for anything else."""
    text = text.strip().removeprefix("$").removesuffix("$").strip()
    return Fraction(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


def same_answer(answer: str, gold: str) -> bool:
    """Equal as numbers where both are numbers, else equal as text."""
    number, gold_number = parse_number(answer), parse_number(gold)
    if number is None or gold_number is None:
        return answer.strip() == gold.strip()
    return number == gold_number


def grade(response: str, gold: str) -> Grade:
    """Judge a response, given without its prompt and without any restart prefix."""
    answers = boxed_answers(response)
    if not answers:
        return Grade(Verdict.NO_ANSWER)
    return Grade(Verdict.CORRECT if same_answer(answers[-1], gold) else Verdict.WRONG, answers)
