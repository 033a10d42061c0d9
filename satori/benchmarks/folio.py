"""FOLIO: does a conclusion follow from premises in plain English, by first-order logic?

* Data set: tasksource/folio, an open copy of yale-nlp/FOLIO (which asks for a log-in); split validation; 203 rows.
* Local file: Yale-LILY/FOLIO's ``folio-validation.jsonl`` of version 0.0; 204 rows. ``premises`` is a list there,
  and one text with a premise a line on the hub; ``conclusion`` and ``label`` are the same. The hub has ``example_id``.
* Added to the prompt: headings, numbers for the premises, what the labels mean.
* Answer: a label, True, False or Uncertain (Unknown is read as Uncertain).
* Metric: share of right labels.

Why 204 here and 203 in the paper. Established, by comparing the local file with a public copy of the hub's version 2
(its first rows, its last, and a long stretch between): version 2 has 203 rows in the same order, and the one that is
gone is row 48 of version 0.0, "James's favorite season is fall." (False). So it is no duplicate that was dropped:
version 0.0 has none, not after normalising case, spaces and the order of premises, nor among the formulas. Version 2
is not version 0.0 less a row, either: it rewrote many premises and conclusions and changed some labels (row 28,
"Marvin is an alien.", from False to Uncertain, say), so the two give different figures. That the paper used version 2
is a conjecture from its count. All rows of a file are used. The mark ``[BG]`` before a few premises of version 0.0 is
the annotators' (background knowledge); it is left.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem

LABELS = ("True", "False", "Uncertain|Unknown")
_FORM = (
    "Put True in the box if the conclusion follows from the premises, False if its opposite follows, "
    "Uncertain if neither does."
)


def _read(row: Row) -> Problem:
    as_list = isinstance(row.record.get("premises"), list)
    premises = row.texts("premises") if as_list else row.text("premises").strip().splitlines()
    facts = "\n".join(f"{number}. {premise.strip()}" for number, premise in enumerate(premises, start=1))
    return Problem(
        id=row.id,
        question=f"Premises:\n{facts}\n\nConclusion: {row.text('conclusion').strip()}\n\n{_FORM}",
        answer=row.label(LABELS, "label"),
        form=AnswerForm(kind=AnswerKind.LABEL, labels=LABELS),
    )


FOLIO = Benchmark(
    name="folio",
    title="FOLIO",
    out_of_domain=True,
    hub=Hub("tasksource/folio", split="validation"),
    files=(
        ("folio_validation.jsonl",),
        ("folio-validation.jsonl",),
        ("data/v0.0/folio-validation.jsonl",),
        ("folio_v2_validation.jsonl",),
    ),
    size=204,
    sizes={"tasksource/folio": 203, "folio_v2_validation.jsonl": 203},
    paper_size=203,
    read=_read,
    ids=("example_id",),
)
