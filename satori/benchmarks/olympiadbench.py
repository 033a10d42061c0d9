"""OlympiadBench: open-ended, text-only mathematics of olympiads, in English.

* Data set: Hothan/OlympiadBench, configuration ``OE_TO_maths_en_COMP``; split train, its only one; 674 rows.
* Local file: QwenLM/Qwen2.5-Math's ``olympiadbench/test.jsonl``; 675 rows. Both have ``question``, ``context`` (null
  in all local rows), ``final_answer`` (a list of one text), ``is_multiple_answer``, ``unit`` and ``error``.
* Added to the prompt: the context, where there is one, before the question.
* Answer: LaTeX, with the dollar signs taken out (``$69$,$84$`` becomes ``69,84``); several values in any order where
  ``is_multiple_answer``; a unit for 8 local rows; an absolute tolerance for one.
* Metric: share of right answers. (OlympiadBench's own prompts also state the type of answer and the unit; the paper
  has one prompt for all benchmarks.)

Why 675 here and 674 in the paper. Established, by comparing the local file with parts of a public dump of the hub's
rows: id 1965 is not among the hub's 674, whose count is stated in several places. Its answer is a family of functions
described in words ("f(x)=ax+b, where b is an arbitrary integer, …"). Some questions are shorter there too (2238 is
one). The authors announced a revision in July 2024, so Qwen2.5-Math's copy seems to be the state before. That the paper
used the hub's state is a conjecture from its count. The local file has no repeated id or question. All rows of a file
are used.

The gold answers of a few rows are oddly written, and are left so: 2045 says ``t(0,4]`` where an interval is meant; 1965
can be met only word for word; 2349 has a stray dollar sign and means 221 and 8; 1687 has two functions but is not
marked as several answers.
"""

import math

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row, UnusableRow
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem


def _read(row: Row) -> Problem:
    context = row.text("context", empty=True) if "context" in row.record else ""
    answers = [_plain(answer) for answer in row.texts("final_answer")]
    if not all(answers):
        raise UnusableRow("final_answer is empty")
    form = AnswerForm(
        kind=AnswerKind.LATEX,
        multiple=row.truth("is_multiple_answer"),
        tolerance=_tolerance(row.text("error", empty=True)),
        unit=_plain(row.text("unit", empty=True)),
    )
    question = "\n\n".join(part for part in (context.strip(), row.text("question").strip()) if part)
    return Problem(id=row.id, question=question, answer=", ".join(answers), form=form)


def _plain(latex: str) -> str:
    """Without dollar signs, which only mark where mathematics starts and ends, and without a full stop after it."""
    return latex.strip().removesuffix(".").replace("$", "").strip()


def _tolerance(error: str) -> float:
    """The absolute tolerance: ``1e-1`` is 0.1; 0 where there is none."""
    try:
        tolerance = float(error or 0)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise UnusableRow(f"the error {error!r} is not a number")
    return tolerance


OLYMPIADBENCH = Benchmark(
    name="olympiadbench",
    title="OlympiadBench",
    out_of_domain=False,
    hub=Hub("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", split="train"),
    files=(
        ("olympiadbench_test.jsonl",),
        ("olympiadbench/test.jsonl",),
        ("OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.json",),
        ("OE_TO_maths_en_COMP.json",),
    ),
    size=675,
    sizes={
        "Hothan/OlympiadBench": 674,
        "OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.json": 674,
        "OE_TO_maths_en_COMP.json": 674,
    },
    paper_size=674,
    read=_read,
    ids=("id",),
)
