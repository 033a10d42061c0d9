"""Runs beside the paper, from responses made by hand, and the documents of comparisons and analyses."""

import io
import re
from html.parser import HTMLParser

import pytest
from made_responses import evaluated
from rich.console import Console

from satori.evaluation.analyses import analyse
from satori.evaluation.compare import POOLED, Cell, Run, compare, measured, paired_tests, results_table
from satori.evaluation.paper_tables import (
    BENCHMARK_LABELS,
    MATHS,
    MATHS_ROWS,
    OUT_OF_DOMAIN,
    OUT_OF_DOMAIN_ROWS,
    PAPER_SIZES,
)
from satori.evaluation.statistics import wilson
from satori.report.analysis import analysis_document
from satori.report.comparison import comparison_document
from satori.report.html_page import render_html
from satori.report.markdown_page import render_markdown
from satori.report.terminal import render_terminal
from satori.report.values import DASH

HOSTILE = "<script>alert(1)</script>|[red]run[/red]\x1b[31m`_x_`\u202e"


def answers(verdicts, prefix="p", **fields):
    """One response a problem: ``+`` right, ``-`` wrong."""
    return [
        evaluated("\\boxed{9}" if verdict == "+" else "\\boxed{8}", problem_id=f"{prefix}{number}", **fields)
        for number, verdict in enumerate(verdicts)
    ]


# --- the paper's rows ---


@pytest.mark.parametrize(("benchmarks", "rows"), [(MATHS, MATHS_ROWS), (OUT_OF_DOMAIN, OUT_OF_DOMAIN_ROWS)])
def test_the_quoted_averages_are_those_of_the_quoted_figures(benchmarks, rows):
    for row in rows:
        assert len(row.percentages) == len(benchmarks)
        assert sum(row.percentages) / len(benchmarks) == pytest.approx(row.average, abs=0.051)


def test_every_benchmark_has_a_label_and_a_size():
    assert [*BENCHMARK_LABELS] == [*PAPER_SIZES] == [*MATHS, *OUT_OF_DOMAIN]


# --- tables of results ---


def test_accuracy_has_its_interval_and_number_of_problems():
    assert measured(answers("+++-")) == Cell(0.75, tuple(wilson(3, 4)), 4)
    assert measured([]) is None


def test_of_several_samples_the_mean_counts():
    responses = [evaluated(f"\\boxed{{{answer}}}", sample=place) for place, answer in enumerate((9, 8, 8, 8))]
    assert measured(responses) == Cell(0.25, tuple(wilson(0.25, 1)), 1)


def test_our_rows_stand_beside_the_quoted_ones():
    full = Run("full", {name: answers("+-", prefix=name) for name in MATHS} | {"amc2023": answers("+++-")})
    part = Run("part", {"math500": answers("++++")})
    none = Run("none", {"folio": answers("+"), "gsm8k": []})
    table = results_table("Mathematics", MATHS, [full, part, none], MATHS_ROWS)
    assert [(row.name, row.quoted) for row in table.rows] == [
        ("full", False), ("part", False), ("Qwen2.5-Math-7B-Instruct", True), ("Satori-Qwen-7B", True),
        ("Satori-Qwen-7B round 2", True),
    ]  # fmt: skip
    assert table.rows[0].average == pytest.approx((4 * 0.5 + 0.75) / 5)
    assert [cell and cell.accuracy for cell in table.rows[1].cells] == [None, 1.0, None, None, None]
    assert table.rows[1].average is None
    assert table.rows[3].cells[1] == Cell(0.856) and table.rows[3].average == pytest.approx(0.626)


def test_both_tables_of_the_paper_are_there_and_others_where_a_run_has_other_sets():
    assert [table.title for table in compare([]).tables] == ["Mathematics", "Out of domain"]
    found = compare([Run("a", {"harder": answers("+-"), "gsm8k": answers("+")}), Run("b", {"test": answers("-")})])
    others = found.tables[2]
    assert (others.benchmarks, others.average) == (("harder", "test"), False)
    assert [[cell and cell.accuracy for cell in row.cells] for row in others.rows] == [[0.5, None], [None, 0.0]]


def test_two_runs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two runs are called 'a'"):
        compare([Run("a", {}), Run("b", {}), Run("a", {})])


# --- paired tests ---


def test_a_paired_test_counts_the_problems_that_only_one_run_solved():
    first, second = Run("a", {"gsm8k": answers("+++++++--")}), Run("b", {"gsm8k": answers("+------+-")})
    [test] = paired_tests(first, second)
    assert (test.first, test.second, test.benchmark) == ("a", "b", "gsm8k")
    assert (test.problems, test.only_first, test.only_second) == (9, 6, 1)
    assert test.p == 0.125  # 2 · (1 + 7) / 128


def test_benchmarks_are_tested_one_by_one_and_pooled_in_the_paper_s_order():
    one = Run("a", {"test": answers("+"), "folio": answers("++-"), "gsm8k": answers("++++"), "cruxeval": answers("+")})
    two = Run("b", {"gsm8k": answers("----"), "folio": answers("--+"), "test": answers("+"), "aime2024": answers("+")})
    tests = paired_tests(one, two)
    assert [(t.benchmark, t.problems, t.only_first, t.only_second) for t in tests] == [
        ("gsm8k", 4, 4, 0), ("folio", 3, 2, 1), ("test", 1, 0, 0), (POOLED, 8, 6, 1),
    ]  # fmt: skip
    assert [t.p for t in tests] == [0.125, 1.0, 1.0, 0.125]


def test_only_problems_that_both_answered_are_paired():
    first = Run("a", {"gsm8k": answers("++++")})
    second = Run("b", {"gsm8k": answers("--")})
    assert [(t.problems, t.only_first) for t in paired_tests(first, second)] == [(2, 2)]
    for other in ({"question": "another?"}, {"gold": "7"}, {"prefix": "q"}):
        assert paired_tests(first, Run("b", {"gsm8k": answers("--", **other)})) == []


def test_of_several_samples_the_first_is_paired():
    samples = [evaluated("\\boxed{8}", problem_id="p0", sample=1), evaluated("\\boxed{9}", problem_id="p0", sample=0)]
    [test] = paired_tests(Run("a", {"gsm8k": samples}), Run("b", {"gsm8k": answers("-")}))
    assert (test.problems, test.only_first, test.only_second) == (1, 1, 0)


def test_every_two_runs_are_tested():
    runs = [Run(name, {"gsm8k": answers("+")}) for name in "abc"]
    assert [(t.first, t.second) for t in compare(runs).tests] == [("a", "b"), ("a", "c"), ("b", "c")]


# --- several samples ---


def test_a_benchmark_sampled_several_times_has_its_rates():
    samples = [
        evaluated(f"\\boxed{{{answer}}}", sample=place, score=score)
        for place, (answer, score) in enumerate([(8, 0.1), (9, 0.9), (9, 0.3)])
    ]
    [row] = compare([Run("a", {"gsm8k": answers("+"), "math500": samples})]).sampling
    assert (row.benchmark, row.samples, row.pass_at_k, row.majority_at_k, row.best_of_k) == ("math500", 3, 1, 1, 1)
    assert row.pass_at_1 == pytest.approx(2 / 3)


# --- documents ---


def rendered(document):
    """The document as HTML, Markdown and terminal text."""
    console = Console(file=io.StringIO(), width=220, force_terminal=True)
    console.print(render_terminal(document))
    return render_html(document), render_markdown(document), console.file.getvalue()


def table_cells(text, first):
    """The cells of the terminal's line that begins so, as a pattern."""
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in text.splitlines()]
    return next(re.split(r"\s{2,}", line) for line in lines if re.match(first, line))


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


def test_the_tables_mark_what_is_quoted_and_dash_what_is_missing():
    html, markdown, terminal = rendered(comparison_document(compare([Run("ours", {"math500": answers("+++-")})])))
    ours = f"| ours | measured | {DASH} | 75.0% (30.1–95.4%) | {DASH} | {DASH} | {DASH} | {DASH} |"
    assert DASH == "–" and ours in markdown
    assert "| Satori-Qwen-7B | paper | 93.2% | 85.6% | 46.6% | 67.5% | 20.0% | 62.6% |" in markdown
    assert table_cells(terminal, "Satori-Qwen-7B ")[1:4] == ["paper", "93.2%", "85.6%"]
    assert table_cells(terminal, "ours ")[1:4] == ["measured", DASH, "75.0% (30.1–95.4%)"]
    assert "ours: MATH500 4, paper 500" in html and "Paired tests" not in html


def test_runs_without_a_problem_in_common_are_said_to_have_none():
    runs = [Run("a", {"gsm8k": answers("+")}), Run("b", {"folio": answers("+")})]
    assert "No two runs answered the same problems." in rendered(comparison_document(compare(runs)))[1]


def test_a_run_of_the_paper_s_size_has_no_note():
    _, markdown, _ = rendered(comparison_document(compare([Run("ours", {"aime2024": answers("+" * 30)})])))
    assert "Not on as many problems" not in markdown


def test_paired_tests_and_samples_are_shown():
    samples = [evaluated("\\boxed{9}", problem_id="p0", sample=place) for place in range(2)]
    runs = [Run("a", {"gsm8k": answers("++++++")}), Run("b", {"gsm8k": answers("------"), "folio": samples})]
    _, markdown, terminal = rendered(comparison_document(compare(runs)))
    assert "| a | b | GSM8K | 6 | 6 | 0 | 0.031 |" in markdown
    assert f"| b | FOLIO | 2 | 100.0% | 100.0% | 100.0% | {DASH} |" in markdown
    assert table_cells(terminal, r"a\s+b") == ["a", "b", "GSM8K", "6", "6", "0", "0.031"]


@pytest.fixture
def hostile_documents():
    run = Run(HOSTILE, {HOSTILE: answers("+-"), "gsm8k": answers("+")})
    text = f"{HOSTILE}\\boxed{{{HOSTILE}}}<|reflect|> {HOSTILE}<|explore|> \\boxed{{9}}"
    analysis = analyse([evaluated(text, level=level, problem_id=str(level)) for level in (1, 2)])
    return [comparison_document(compare([run]), HOSTILE), analysis_document(HOSTILE, {HOSTILE: analysis}, HOSTILE)]


def test_hostile_names_stay_text(hostile_documents):
    for document in hostile_documents:
        html, markdown, terminal = rendered(document)
        assert "script" not in Tags(html).tags and "&lt;script&gt;" in html
        assert "<script" not in markdown and "`_x_`" not in markdown
        assert "[red]run[/red]" in terminal and "\x1b[31m" not in terminal
        for text in (html, markdown, terminal):
            assert "\u202e" not in text


def test_the_analyses_of_benchmarks_are_one_document():
    levels = [evaluated("\\boxed{9}", problem_id=str(n), level=n) for n in (1, 2)]
    changed = evaluated("\\boxed{8}<|reflect|> No.<|explore|> \\boxed{9}", problem_id="3", level=2, finished=False)
    samples = [evaluated(f"\\boxed{{{answer}}}", sample=place) for place, answer in enumerate((9, 8))]
    results = {"MATH500": analyse([*levels, changed]), "GSM8K": analyse(samples)}
    html, markdown, terminal = rendered(analysis_document("Analyses", results))
    titles = ["Accuracy per benchmark", "Verdicts", "Several samples", "Accuracy by level", "Response length",
              "Self-correction", "Use of meta-actions"]  # fmt: skip
    assert [line[3:] for line in markdown.splitlines() if line.startswith("## ")] == titles
    assert "| MATH500 | 3 | 3 | 0 | 0 | 0 | 0 |" in markdown  # verdicts
    assert f"| GSM8K | 1 | 50.0% | 100.0% | {DASH} |\n| GSM8K | 2 | 100.0% | 100.0% | {DASH} |" in markdown
    assert "| Level 2 | 2 | 50.0% (9.5–90.5%) |" in markdown  # GSM8K has no levels and no column
    assert "| MATH500 | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 |" in markdown  # the reflection, cut off: wrong to wrong
    assert table_cells(terminal, "MATH500: explore")[1:] == ["1", "0.0%", "0.0%", "100.0%", "0.0%", "0.0%"]  # 24/45
    anchors = ("accuracy", "levels", "length", "reflections", "actions", "positions", "transitions")
    assert html.count("<svg") == len(anchors) and all(f'id="{name}-' in html for name in anchors)
    assert "Not measured in this run." in html  # no change between right and wrong


def test_an_analysis_of_one_level_has_no_sections_by_level():
    document = analysis_document("Analyses", {"a": analyse([evaluated("\\boxed{9}")])}, "Run")
    assert [section.anchor for section in document.sections] == ["accuracy", "verdicts", "self-correction", "actions"]
    assert "Accuracy per run" in render_markdown(document)
