"""Where the answer of a response stands: the last complete ``\\boxed{}``, and stated places where there is no box.

Every box is kept, in order, for the self-correction analysis; the last one is the answer, so after a reflection the
new answer counts. Only where a response has no complete box are these tried, in this order, in its last 2,000
characters:

1. ``#### ANSWER`` on a line, ``answer is ANSWER``, ``Answer: ANSWER``, or ``A: ANSWER`` on the last line, to the end of
   the sentence; the last of them that reads as an answer of its kind (every kind);
2. a last line that is nothing but a letter (choice), a label (label) or a literal (literal).

Numbers and expressions that merely stand last in the text are no answers. Everything here takes time linear in the
length of the text.
"""

import re
from collections.abc import Callable

from satori.grading.equivalence import LONGEST_ANSWER, read_number
from satori.grading.forms import AnswerForm, AnswerKind, Found
from satori.grading.kinds import read_choice, read_label, read_literal

_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,8}\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"^[ \t]{0,8}####[ \t]{0,8}(\S.*)$", re.MULTILINE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)")
_STATED = re.compile(
    r"(?:\banswer is\b(?!.*\banswer is\b)|^[ \t*]{0,8}(?:final )?answer(?=\W{0,4}:)|^A(?=:[^\n]*\Z))[\s:*]{0,8}"
    r"(?=([^\s:*].*)$)",
    re.IGNORECASE | re.MULTILINE,
)
_TAIL = 2000


def boxed_answers(text: str) -> tuple[str, ...]:
    """The contents of every complete outermost ``\\boxed{}``, in order; nested and escaped braces are respected."""
    found: list[tuple[int, str]] = []
    open_braces: list[int | None] = []  # where the content of a box starts; None for a plain brace
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                while found and found[-1][0] > start:
                    found.pop()
                found.append((start, text[start : min(match.start(), start + LONGEST_ANSWER + 1)].strip()))
        elif token == "{":
            open_braces.append(None)
        elif token[-1] == "{" and len(token) > 2:
            open_braces.append(match.end())
    return tuple(answer for _, answer in found)


def extract_answers(response: str, form: AnswerForm) -> tuple[tuple[str, ...], Found | None]:
    """All answers of a response, in order, and where they were found; ((), None) where there is none."""
    if boxes := boxed_answers(response):
        return boxes, Found.BOX
    tail = response[-_TAIL:]
    readers: dict[AnswerKind, Callable[[str], object | None]] = {
        AnswerKind.NUMBER: read_number,
        AnswerKind.CHOICE: read_choice,
        AnswerKind.LABEL: lambda text: read_label(text, form.labels),
        AnswerKind.LITERAL: read_literal,
    }
    reads = readers.get(form.kind, str.strip)
    stated = [
        (match.start(), _undress(match.group(1)), place)
        for place, pattern in ((Found.HASHES, _HASHES), (Found.STATED, _STATED))
        for match in pattern.finditer(tail)
    ]
    readable = [(start, text, place) for start, text, place in stated if reads(text) not in (None, "")]
    if readable:
        _, text, place = max(readable)
        return (text,), place
    lines = tail.strip().splitlines()
    if lines and form.kind in (AnswerKind.CHOICE, AnswerKind.LABEL, AnswerKind.LITERAL):
        last = _undress(lines[-1])
        if reads(last) is not None:
            return (last,), Found.LAST_LINE
    return (), None


def _undress(text: str) -> str:
    """The first sentence, without emphasis and dollar signs around the whole."""
    text = _SENTENCE_END.split(text.strip(), maxsplit=1)[0].strip().strip("*").strip()
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" else text
