"""AMC2023: 40 problems of the American Mathematics Competitions 12 of 2023, with a number for the answer, no choices.

* Data set: math-ai/amc23; split test; 40 rows, as in the paper. That this hub copy has the same 40 problems as the
  local file is taken from their common source and count; it was not compared row by row.
* Local file: QwenLM/Qwen2.5-Math's ``amc23/test.jsonl`` (``problem``, a copy of it in ``question``, ``answer`` as a
  decimal such as 27.0); the hub has ``question`` and ``answer``.
* Added to the prompt: nothing.
* Answer: a number.
* Metric: share of right answers.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row, plain_number
from satori.types import Problem


def _read(row: Row) -> Problem:
    answer = plain_number(row.value("a number", "answer"))
    return Problem(id=row.id, question=row.text("problem", "question"), answer=answer)


AMC2023 = Benchmark(
    name="amc2023",
    title="AMC2023",
    out_of_domain=False,
    hub=Hub("math-ai/amc23"),
    files=(("amc23_test.jsonl",), ("amc23/test.jsonl",)),
    size=40,
    paper_size=40,
    read=_read,
    ids=("id",),
)
