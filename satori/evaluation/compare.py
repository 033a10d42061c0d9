"""Runs side by side: both tables of results of the paper (section 5) with our rows, and paired tests between runs.

Pure functions over the responses of each run. An average is given only where every benchmark of its table was run. Two
runs are tested on the problems that both answered: same benchmark, id, question and gold answer. Of several samples
a problem the tables take the mean, the paired test the first. What it leaves out: drawing the tables, which
:mod:`satori.report.comparison` does, and a correction of p for the number of tests.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from satori.evaluation.paper_tables import (
    BENCHMARK_LABELS,
    MATHS,
    MATHS_ROWS,
    OUT_OF_DOMAIN,
    OUT_OF_DOMAIN_ROWS,
    PaperRow,
)
from satori.evaluation.records import EvaluatedResponse, by_problem
from satori.evaluation.samples import sampling_rates, solved
from satori.evaluation.statistics import mcnemar, wilson

POOLED = "all benchmarks"


@dataclass(frozen=True)
class Run:
    """An evaluated model: its name, and its responses to each benchmark."""

    name: str
    benchmarks: Mapping[str, Sequence[EvaluatedResponse]]


@dataclass(frozen=True)
class Cell:
    """Accuracy on one benchmark; a quoted one has no interval and no count of problems."""

    accuracy: float
    interval: tuple[float, float] | None = None
    problems: int | None = None


@dataclass(frozen=True)
class Row:
    """A model's line in a table of results; None stands for what was not run."""

    name: str
    quoted: bool
    cells: tuple[Cell | None, ...]
    average: float | None


@dataclass(frozen=True)
class ResultsTable:
    """One table of results: our rows first, then the paper's. ``average`` where the paper has one."""

    title: str
    benchmarks: tuple[str, ...]
    rows: tuple[Row, ...]
    average: bool = True


@dataclass(frozen=True)
class PairedTest:
    """Two runs on the problems of one benchmark that both answered; ``p`` is that of McNemar's exact two-sided test."""

    first: str
    second: str
    benchmark: str
    problems: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class SamplingRow:
    """What several samples a problem give on one benchmark; k is the number of samples, and ``best_of_k`` None
    where no reward model judged."""

    name: str
    benchmark: str
    samples: int
    pass_at_1: float
    pass_at_k: float
    majority_at_k: float
    best_of_k: float | None


@dataclass(frozen=True)
class Comparison:
    """Everything ``satori compare`` shows of the named runs."""

    names: tuple[str, ...]
    tables: tuple[ResultsTable, ...]
    tests: tuple[PairedTest, ...]
    sampling: tuple[SamplingRow, ...]


def compare(runs: Sequence[Run]) -> Comparison:
    """The comparison of some runs. Raises ValueError where two have the same name."""
    names = Counter(run.name for run in runs)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"two runs are called {repeated[0]!r}")
    tables = [
        results_table("Mathematics", MATHS, runs, MATHS_ROWS),
        results_table("Out of domain", OUT_OF_DOMAIN, runs, OUT_OF_DOMAIN_ROWS),
    ]
    others = tuple(name for name in _benchmarks(runs) if name not in BENCHMARK_LABELS)
    if others:
        tables.append(results_table("Other sets", others, runs, (), average=False))
    tests = [test for first, second in combinations(runs, 2) for test in paired_tests(first, second)]
    sampling = tuple(row for run in runs for row in sampling_rows(run))
    return Comparison(tuple(names), tuple(tables), tuple(tests), sampling)


def results_table(
    title: str, benchmarks: Sequence[str], runs: Sequence[Run], paper: Sequence[PaperRow], average: bool = True
) -> ResultsTable:
    """Our rows above the quoted ones. A run that has none of the benchmarks has no row."""
    rows = []
    for run in runs:
        cells = tuple(measured(run.benchmarks.get(name, ())) for name in benchmarks)
        if any(cells):
            known = [cell.accuracy for cell in cells if cell is not None]
            complete = average and len(known) == len(cells)
            rows.append(Row(run.name, False, cells, sum(known) / len(known) if complete else None))
    rows += [
        Row(row.model, True, tuple(Cell(figure / 100) for figure in row.percentages), row.average / 100)
        for row in paper
    ]
    return ResultsTable(title, tuple(benchmarks), tuple(rows), average)


def measured(responses: Sequence[EvaluatedResponse]) -> Cell | None:
    """Pass@1 with its 95% interval, None without responses: the mean over problems of the share of right samples."""
    if not responses:
        return None
    right, problems = solved(responses)
    low, high = wilson(right, problems)
    return Cell(right / problems, (low, high), problems)


def paired_tests(first: Run, second: Run) -> list[PairedTest]:
    """A test for every benchmark that has problems which both runs answered, and where there are several, over all."""
    tests = []
    for name in _benchmarks([first, second]):
        one, other = (first_verdicts(run.benchmarks.get(name, ())) for run in (first, second))
        both = one.keys() & other.keys()
        if both:
            only_first, only_second = sum(one[p] > other[p] for p in both), sum(one[p] < other[p] for p in both)
            tests.append(_test(first, second, name, len(both), only_first, only_second))
    if len(tests) > 1:
        problems, only_first, only_second = (
            sum(getattr(test, part) for test in tests) for part in ("problems", "only_first", "only_second")
        )
        tests.append(_test(first, second, POOLED, problems, only_first, only_second))
    return tests


def _test(first: Run, second: Run, benchmark: str, problems: int, only_first: int, only_second: int) -> PairedTest:
    p = mcnemar(only_first, only_second)
    return PairedTest(first.name, second.name, benchmark, problems, only_first, only_second, p)


def first_verdicts(responses: Sequence[EvaluatedResponse]) -> dict[tuple[str, str, str], bool]:
    """Whether the first sample of each problem is right."""
    firsts = [group[0] for group in by_problem(responses)]
    return {(r.problem_id, r.question, r.gold): r.correct for r in firsts}


def sampling_rows(run: Run) -> list[SamplingRow]:
    """pass@k, majority@k and best-of-k of each benchmark that was sampled several times, k the number of samples."""
    rows = []
    for benchmark, responses in run.benchmarks.items():
        rates = sampling_rates(responses)
        if rates is None:
            continue
        one, all_samples = "1", str(rates.samples)
        rows.append(
            SamplingRow(
                name=run.name,
                benchmark=benchmark,
                samples=rates.samples,
                pass_at_1=rates.pass_at_k[one],
                pass_at_k=rates.pass_at_k[all_samples],
                majority_at_k=rates.majority_at_k[all_samples],
                best_of_k=rates.best_of_k[all_samples] if rates.best_of_k else None,
            )
        )
    return rows


def _benchmarks(runs: Sequence[Run]) -> list[str]:
    """Every benchmark of the runs, those of the paper first and in its order."""
    found = dict.fromkeys(name for run in runs for name, responses in run.benchmarks.items() if responses)
    return [*(name for name in BENCHMARK_LABELS if name in found), *(n for n in found if n not in BENCHMARK_LABELS)]
