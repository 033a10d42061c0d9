"""CRUXEval, output prediction: what does a short Python function return for a given input?

* Data set: cruxeval-org/cruxeval; split test; 800 rows, as in the paper.
* Local file: the authors' ``cruxeval.jsonl`` (``code``, ``input``, ``output``, ``id``); the hub has the same columns.
* Added to the prompt: the function, and the call with its input, in a code block. The input may be empty.
* Answer: a Python literal; every gold output is one.
* Metric: share of right outputs. The benchmark's other half, input prediction, is not in the paper.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem

_FORM = "Put what the last line evaluates to in the box, as a Python literal, with quotes around strings."


def _read(row: Row) -> Problem:
    code, call = row.text("code").strip("\n"), f"f({row.text('input', empty=True)})"
    return Problem(
        id=row.id,
        question=f"Here is a Python function and a call of it.\n\n```python\n{code}\n\n{call}\n```\n\n{_FORM}",
        answer=row.text("output"),
        form=AnswerForm(kind=AnswerKind.LITERAL),
    )


CRUXEVAL = Benchmark(
    name="cruxeval",
    title="CRUXEval",
    out_of_domain=True,
    hub=Hub("cruxeval-org/cruxeval"),
    files=(("cruxeval_test.jsonl",), ("cruxeval.jsonl",), ("data/cruxeval.jsonl",)),
    size=800,
    paper_size=800,
    read=_read,
    ids=("id",),
)
