"""MATH500: 500 problems of the MATH test set, of five levels of difficulty.

* Data set: HuggingFaceH4/MATH-500; split test; 500 rows, as in the paper.
* Local file: its ``test.jsonl`` (``problem``, ``answer``, ``level``, ``unique_id``, …); the hub has the same columns.
* Added to the prompt: nothing.
* Answer: LaTeX. Some gold answers carry a unit or a word in ``\\text{}``; they are left as they are.
* Metric: share of right answers, also by level (1 to 5).
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem


def _read(row: Row) -> Problem:
    return Problem(
        id=row.id,
        question=row.text("problem"),
        answer=row.text("answer"),
        level=row.integer("level"),
        form=AnswerForm(kind=AnswerKind.LATEX),
    )


MATH500 = Benchmark(
    name="math500",
    title="MATH500",
    out_of_domain=False,
    hub=Hub("HuggingFaceH4/MATH-500"),
    files=(("math500_test.jsonl",), ("math500/test.jsonl",), ("MATH-500/test.jsonl",)),
    size=500,
    paper_size=500,
    read=_read,
    ids=("unique_id",),
)
