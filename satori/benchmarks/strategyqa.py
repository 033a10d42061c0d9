"""StrategyQA: yes/no questions whose steps of reasoning are not stated.

* Data set: ChilleD/StrategyQA; splits train and test together, which are the 2,290 public questions with an answer
  (the paper's count).
* Local files: eladsegal/strategyqa's ``train.json`` (2,061) and ``dev.json`` (229), which are these questions as well;
  or the one file of the authors' own archive. All have ``qid``, ``question`` and ``answer`` (true or false).
* Added to the prompt: the two labels. The reference facts and decompositions are not shown.
* Answer: a label, yes or no.
* Metric: share of right labels. (One question occurs under two ids; both rows are used.)

Not verified: that the hub's splits hold just the same questions; their stated sizes (1,603 and 687) add up.
"""

from satori.benchmarks.base import Benchmark
from satori.benchmarks.rows import Hub, Row
from satori.grading.forms import AnswerForm, AnswerKind
from satori.types import Problem

LABELS = ("yes", "no")
_FORM = "Put yes or no in the box."


def _read(row: Row) -> Problem:
    return Problem(
        id=row.id,
        question=f"{row.text('question').strip()}\n\n{_FORM}",
        answer="yes" if row.truth("answer") else "no",
        form=AnswerForm(kind=AnswerKind.LABEL, labels=LABELS),
    )


STRATEGYQA = Benchmark(
    name="strategyqa",
    title="StrategyQA",
    out_of_domain=True,
    hub=Hub("ChilleD/StrategyQA", split="train+test"),
    files=(
        ("strategyqa_train.json", "strategyqa_dev.json"),
        ("strategyqa/train.json", "strategyqa/dev.json"),
        ("strategyqa_train.json",),
    ),
    size=2290,
    paper_size=2290,
    read=_read,
    ids=("qid",),
)
