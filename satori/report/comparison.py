"""Runs beside the paper as a document: tables of results, several samples a problem, paired tests (paper section 5).

Rows from the paper are marked as such; they are quoted, not measured here.
"""

from satori.evaluation.compare import Cell, Comparison, ResultsTable, Row
from satori.evaluation.paper_tables import BENCHMARK_LABELS, PAPER_SIZES
from satori.report.blocks import Block, Document, Section, Table, Text
from satori.report.values import DASH, p_value, percent, percent_with_range, whole


def comparison_document(comparison: Comparison, title: str = "Satori: comparison of runs") -> Document:
    """The comparison, ready for any of the three renderers."""
    sections = [_results_section(number, table) for number, table in enumerate(comparison.tables, start=1)]
    if comparison.sampling:
        sections.append(_sampling_section(comparison))
    if len(comparison.names) > 1:
        sections.append(_test_section(comparison))
    return Document(title, "", (), tuple(sections))


def _results_section(number: int, table: ResultsTable) -> Section:
    labels = tuple(map(benchmark_label, table.benchmarks))
    average = ("Average",) if table.average else ()
    quoted = any(row.quoted for row in table.rows)
    caption = "Accuracy in percent; in brackets the 95% Wilson interval."
    if quoted:
        caption += " Rows from the paper are quoted, not measured here: zero-shot, greedy, pass@1."
    blocks: list[Block] = [
        Table(("Model", "Source", *labels, *average), tuple(_row(row, table.average) for row in table.rows), caption)
    ]
    if quoted and (sizes := _other_sizes(table)):
        blocks.append(Text(f"Not on as many problems as in the paper: {'; '.join(sizes)}.", note=True))
    return Section(f"results-{number}", table.title, tuple(blocks))


def _row(row: Row, average: bool) -> tuple[str, ...]:
    return (
        row.name,
        "paper" if row.quoted else "measured",
        *map(_cell, row.cells),
        *([percent(row.average)] if average else []),
    )


def _cell(cell: Cell | None) -> str:
    return DASH if cell is None else percent_with_range(cell.accuracy, cell.interval)


def _other_sizes(table: ResultsTable) -> list[str]:
    """Where a run's figure rests on another number of problems than the paper's: ``run: MATH500 20 of 500``."""
    return [
        f"{row.name}: {benchmark_label(name)} {whole(cell.problems)}, paper {whole(PAPER_SIZES[name])}"
        for row in table.rows
        for name, cell in zip(table.benchmarks, row.cells, strict=True)
        if cell is not None and cell.problems is not None and cell.problems != PAPER_SIZES[name]
    ]


def _sampling_section(comparison: Comparison) -> Section:
    rows = tuple(
        (
            row.name,
            benchmark_label(row.benchmark),
            whole(row.samples),
            *map(percent, (row.pass_at_1, row.pass_at_k, row.majority_at_k, row.best_of_k)),
        )
        for row in comparison.sampling
    )
    header = ("Run", "Benchmark", "Samples k", "pass@1", "pass@k", "majority@k", "best-of-k")
    caption = "Several samples a problem. Best-of-k: the sample that the reward model scores highest."
    return Section("samples", "Several samples", (Table(header, rows, caption),))


def _test_section(comparison: Comparison) -> Section:
    rows = tuple(
        (
            test.first,
            test.second,
            benchmark_label(test.benchmark),
            *map(whole, (test.problems, test.only_first, test.only_second)),
            p_value(test.p),
        )
        for test in comparison.tests
    )
    block: Block = Text("No two runs answered the same problems.", note=True)
    if rows:
        block = Table(
            ("First run", "Second run", "Benchmark", "Problems", "Only first right", "Only second right", "p"),
            rows,
            "Two runs at a time on the problems that both answered: McNemar's exact two-sided test. Of several samples "
            "a problem the first counts. p is not corrected for the number of tests.",
        )
    return Section("paired-tests", "Paired tests", (block,))


def benchmark_label(name: str) -> str:
    return BENCHMARK_LABELS.get(name, name)
