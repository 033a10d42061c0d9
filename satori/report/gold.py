"""The check on the gold answers as a document: a line a benchmark, and every row that fails or is excepted."""

from collections.abc import Sequence

from satori.benchmarks.gold_check import LEAST_WRONG, GoldCheck, GoldRow
from satori.report.blocks import Block, Document, Section, Table, Terms, Text
from satori.report.values import percent, whole


def gold_document(check: GoldCheck, missing: Sequence[str] = ()) -> Document:
    """The figures of :func:`satori.benchmarks.gold_check.check_gold`; ``missing`` names what had no file."""
    header = ("Benchmark", "Rows", "Expected", "Gold graded correct", "Exceptions", "Others graded wrong", "Passed")
    caption = (
        "Every gold answer in a box must be graded correct, listed exceptions apart; another row's different gold "
        f"answer must be graded wrong in at least {percent(LEAST_WRONG)} of the rows."
    )
    blocks: list[Block] = [Table(header, tuple(map(_row, check.rows)), caption)]
    if missing:
        blocks.append(Text(f"No file for: {', '.join(missing)}.", note=True))
    details = tuple((row.title, "; ".join(lines)) for row in check.rows if (lines := _details(row)))
    if details:
        blocks.append(Terms(details))
    title = "Gold answers: all rates reached" if check.passed else "Gold answers: a rate is missed"
    return Document(title, "", (), (Section("gold", "Check on the gold", tuple(blocks)),))


def _row(row: GoldRow) -> tuple[str, ...]:
    return (
        row.title,
        whole(row.found),
        whole(row.expected),
        f"{row.own_correct} of {row.rows}",
        whole(len(row.exceptions)),
        f"{row.others_wrong} of {row.others}",
        "yes" if row.passed else "no",
    )


def _details(row: GoldRow) -> list[str]:
    return [
        *(f"gold of {id} is not graded correct" for id in row.failing),
        *(f"exception {id}: {reason}" for id, reason in row.exceptions),
        *(f"the gold of {other} is not graded wrong for {id}" for id, other in row.mistaken),
        *(f"{id} cannot be used: {reason}" for id, reason in row.unusable),
    ]
