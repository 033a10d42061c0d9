"""BoardgameQA: does a statement follow from facts and rules that may contradict each other, given preferences?

* Data set: tasksource/Boardgame-QA; split test; 15,000 rows, as in the paper (given there as 15k).
* Local files: the authors' archive, a folder a variant (depth, conflict, distractors, knowledge, two labels only), each
  with a ``test.json`` of 1,000 objects with ``story``, ``label`` and ``proof``; or one such array for all variants.
  The hub calls the story ``example``.
* Added to the prompt: what the labels mean. The story holds facts, rules, preferences and the question.
* Answer: a label, proved, disproved or unknown. (The three variants with two labels are asked with all three.)
* Metric: share of right labels.

Not verified, for want of the files: that the 15 variants have 1,000 test rows each (they add up to the hub's count,
which its card states), and that the hub's ``example`` is the authors' ``story`` to the letter. Rows have no ids of
their own, and the folders are read in alphabetical order, so local ids and the hub's need not name the same row.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem

LABELS = ("proved", "disproved", "unknown")
_FORM = (
    "Put proved in the box if the statement asked about can be derived, disproved if its negation can, unknown if "
    "neither can."
)


def _read(row: Row) -> Problem:
    return Problem(
        id=row.id,
        question=f"{row.text('story', 'example').strip()}\n\n{_FORM}",
        answer=row.label(LABELS, "label"),
        form=AnswerForm(kind=AnswerKind.LABEL, labels=LABELS),
    )


BOARDGAMEQA = Benchmark(
    name="boardgameqa",
    title="BoardgameQA",
    out_of_domain=True,
    hub=Hub("tasksource/Boardgame-QA"),
    files=(("boardgameqa_test.json",), ("BoardgameQA-*/test.json",), ("BoardgameQA/BoardgameQA-*/test.json",)),
    size=15_000,
    paper_size=15_000,
    read=_read,
)
