"""MMLU-Pro, its six STEM categories: questions with up to ten options.

* Data set: TIGER-Lab/MMLU-Pro; split test; 5,371 rows of physics, chemistry, computer science, engineering, biology and
  economics, as in the paper; the other categories are out of scope.
* Local file: the same columns (``question_id``, ``question``, ``options``, ``answer``, ``category``, …), the six
  categories only or all.
* Added to the prompt: the options, a line each, with their letters.
* Answer: a letter, A to J. Nine rows in ten have ten options, the others fewer, two of them one or two.
* Metric: share of right letters.
"""

from string import ascii_uppercase

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row, UnusableRow
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem

CATEGORIES = ("physics", "chemistry", "computer science", "engineering", "biology", "economics")
LETTERS = ascii_uppercase[:10]
_FORM = "Put the letter of the right option in the box."


def _in_scope(row: Row) -> bool:
    return row.text("category", empty=True) in CATEGORIES


def _read(row: Row) -> Problem:
    options, answer = row.texts("options"), row.text("answer").strip()
    if len(options) > len(LETTERS):
        raise UnusableRow(f"{len(options)} options, where {len(LETTERS)} are the most")
    letters = LETTERS[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise UnusableRow(f"the answer {answer!r} is the letter of none of its {len(options)} options")
    lines = "\n".join(f"{letter}. {option.strip()}" for letter, option in zip(letters, options, strict=True))
    return Problem(
        id=row.id,
        question=f"{row.text('question').strip()}\n\n{lines}\n\n{_FORM}",
        answer=answer,
        form=AnswerForm(kind=AnswerKind.CHOICE),
    )


MMLU_PRO_STEM = Benchmark(
    name="mmlu_pro_stem",
    title="MMLU-Pro STEM",
    out_of_domain=True,
    hub=Hub("TIGER-Lab/MMLU-Pro"),
    files=(("mmlu_pro_stem_test.jsonl",), ("mmlu_pro_test.jsonl",)),
    size=5371,
    paper_size=5371,
    read=_read,
    in_scope=_in_scope,
    ids=("question_id",),
)
