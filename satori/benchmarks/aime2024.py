"""AIME2024: the 30 problems of the two American Invitational Mathematics Examinations of 2024.

* Data set: HuggingFaceH4/aime_2024; split train, its only one; 30 rows, as in the paper.
* Local file: QwenLM/Qwen2.5-Math's ``aime24/test.jsonl`` (``problem``, ``answer``); the hub has these columns too.
* Added to the prompt: nothing.
* Answer: a number from 0 to 999; leading zeros (``025``) are dropped.
* Metric: share of right answers.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row, plain_number
from satori.types import Problem


def _read(row: Row) -> Problem:
    answer = plain_number(row.value("a number", "answer"))
    return Problem(id=row.id, question=row.text("problem", "question"), answer=answer)


AIME2024 = Benchmark(
    name="aime2024",
    title="AIME2024",
    out_of_domain=False,
    hub=Hub("HuggingFaceH4/aime_2024", split="train"),
    files=(("aime24_test.jsonl",), ("aime24/test.jsonl",)),
    size=30,
    paper_size=30,
    read=_read,
    ids=("id",),
)
