"""GSM8K: grade-school word problems.

* Data set: openai/gsm8k, configuration ``main``; split test; 1,319 rows, as in the paper.
* Local file: the authors' ``test.jsonl`` (``question``, ``answer``); the hub has the same two columns.
* Added to the prompt: nothing.
* Answer: a number, what follows ``####`` in the reference solution, without thousands separators.
* Metric: share of right answers.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row, UnusableRow, plain_number
from satori.types import Problem


def _read(row: Row) -> Problem:
    _, mark, answer = row.text("answer").rpartition("####")
    if not mark:
        raise UnusableRow("the answer has no ####")
    return Problem(id=row.id, question=row.text("question"), answer=plain_number(answer))


GSM8K = Benchmark(
    name="gsm8k",
    title="GSM8K",
    out_of_domain=False,
    hub=Hub("openai/gsm8k", "main"),
    files=(("gsm8k_test.jsonl",), ("gsm8k/test.jsonl",), ("grade_school_math/data/test.jsonl",)),
    size=1319,
    paper_size=1319,
    read=_read,
)
