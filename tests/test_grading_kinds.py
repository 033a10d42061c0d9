"""Answers of every kind but plain numbers (satori.grading): LaTeX, letters, labels, literals, table cells, tasks."""

import json

import pytest
import reasoning_gym
from hypothesis import given, settings
from hypothesis import strategies as st

from satori.grading import AnswerForm, AnswerKind, Found, Status, grade, same_answer
from satori.grading.tokens import tokenize

LATEX = AnswerForm(AnswerKind.LATEX)
SEVERAL = AnswerForm(AnswerKind.LATEX, multiple=True)
CHOICE = AnswerForm(AnswerKind.CHOICE)
LABEL = AnswerForm(AnswerKind.LABEL, labels=("True", "False", "Uncertain|Unknown"))
LITERAL = AnswerForm(AnswerKind.LITERAL)
CELL = AnswerForm(AnswerKind.CELL)


def status(answer, gold, form):
    return grade(f"so \\boxed{{{answer}}}.", gold, form).status


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\dfrac12", r"\frac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt 2}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        (r"\sqrt[3]{8}", "2"),
        (r"x = 5", "5"),
        ("5", "x=5"),
        (r"y = 2x + 3", r"2x+3"),
        (r"y=2x+3", r"y = 3 + 2x"),
        ("2y = 4x + 6", "y = 2x + 3"),
        (r"x \in [-2,7]", r"[-2, 7]"),
        (r"(-\infty, 1) \cup (2, 3]", r"(2,3]\cup(-\infty,1)"),
        (r"\{2, 1\}", r"\{1,2\}"),
        ("2, 1", "1,2"),
        (r"1 \text{ and } 2", "2, 1"),
        (r"1+\sqrt{19}, 1-\sqrt{19}", r"1 \pm \sqrt{19}"),
        (r"\begin{bmatrix} 1 & 1/2 \\ 3 & 4 \end{bmatrix}", r"\begin{pmatrix}1&\frac12\\3&4\end{pmatrix}"),
        (r"(x+1)^2", "x^2+2x+1"),
        (r"10{,}080", r"10,\!080"),
        ("10,080", "10080"),
        (r"\frac{9}{5}", r"1\frac{4}{5}"),
        (r"-1 \frac45", "-1.8"),
        (r"90^\circ", "90"),
        (r"5 \text{ cm}", "5"),
        (r"5", r"5 \mbox{ inches}^2"),
        (r"\text{Evelyn}", "evelyn"),
        (r"\text{(C)}", "C"),
        (r"\frac{d!}{2k!(d-k)!}", r"\frac{d !}{2 k ! (d-k) !}"),
        ("$12$", "12"),
        ("−3", "-3"),
        ("2^{2^{2^{100}}}", "2^{2^{2^{100}}}"),
    ],
)
def test_the_same_latex(answer, gold):
    assert status(answer, gold, LATEX) is Status.CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("0.333", r"\frac13"),
        (r"\frac{4}{5}", r"1\frac{4}{5}"),
        ("M = 2^{n}+2", "M=2^n+1"),
        ("0.0000001", "0.0000002"),
        ("2^{1009}+1", "2^{1009}"),
        (r"\sqrt{3} + 10^{-30}", r"\sqrt{3}"),
        ("(1, 2)", "(2, 1)"),
        ("(1, 2)", "[1, 2]"),
        (r"(-\infty, 3]", r"(-\infty, 3)"),
        ("1, 2, 3, 4, 5", "3"),
        (r"\{1, 2, 3\}", r"\{1, 2\}"),
        ("1, 1", "1, 2"),
        ("3", "1, 3"),
        ("13", "3"),
        ("3", "13"),
        ("x", "y"),
        ("c", "C"),
        ("x = 5", "y = 5"),
        ("5x", "5"),
        (r"5 \text{ m}", r"5 \text{ cm}"),
        (r"\text{even}", r"\text{odd}"),
        (r"\text{not even}", r"\text{even}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
        (r"(1,2) \cup (3,4)", "(1,2)"),
        ("x^2+2x+2", "(x+1)^2"),
        (r"\text{the answer is 5}", "5"),
        ("5 or 6", "5"),
        ("5 million", "5"),
        (r"5 \text{ thousand dollars}", "5"),
        ("a_1", "a_2"),
        (r"x \geq 2", r"x > 2"),
    ],
)
def test_different_latex(answer, gold):
    assert status(answer, gold, LATEX) is Status.WRONG


def test_several_values_in_any_order_and_a_box_around_one():
    assert status(r"\{3, 1\}", "1,3", SEVERAL) is Status.CORRECT
    assert status(r"(3,0), (1,2)", "(1,2),(3,0)", SEVERAL) is Status.CORRECT
    assert status(r"(3,0)", "(1,2),(3,0)", SEVERAL) is Status.WRONG


@pytest.mark.parametrize(
    ("answer", "right"), [("1.95", True), ("2.1", True), ("2.11", False), (r"\frac{19}{10}", True)]
)
def test_tolerance_is_absolute(answer, right):
    form = AnswerForm(AnswerKind.LATEX, tolerance=0.1)
    assert (status(answer, "2", form) is Status.CORRECT) == right


def test_the_unit_may_be_carried_or_left_out_but_not_changed():
    form = AnswerForm(AnswerKind.LATEX, unit="km")
    assert status(r"5 \text{ km}", "5", form) is Status.CORRECT
    assert status("5", "5", form) is Status.CORRECT
    assert status(r"5 \text{ miles}", "5", form) is Status.WRONG


def test_a_gold_answer_that_cannot_be_read_is_reported():
    assert status("5", "", LATEX) is Status.UNPARSEABLE_GOLD
    assert status("5", "five", AnswerForm()) is Status.UNPARSEABLE_GOLD
    assert status("A", "Z", CHOICE) is Status.UNPARSEABLE_GOLD
    assert status("True", "maybe", LABEL) is Status.UNPARSEABLE_GOLD
    assert status("[1]", "[1", LITERAL) is Status.UNPARSEABLE_GOLD


@pytest.mark.parametrize("answer", ["B", "(B)", "B.", r"\text{B}", "B) five metres", "B: all of A", r"\textbf{(B)}"])
def test_the_letter_of_a_choice(answer):
    assert status(answer, "B", CHOICE) is Status.CORRECT


@pytest.mark.parametrize(
    "answer", ["A", "A or B", "A, B", "A) no, B) yes", "b", "Bee", "AB", "not B", "A. wrong B. right", "", "B or C"]
)
def test_no_or_another_letter(answer):
    assert status(answer, "B", CHOICE) is Status.WRONG


@pytest.mark.parametrize("answer", ["Uncertain", "uncertain.", r"\text{Unknown}", "**Uncertain**"])
def test_labels_by_any_spelling(answer):
    assert status(answer, "Uncertain", LABEL) is Status.CORRECT


@pytest.mark.parametrize("answer", ["True", "not uncertain", "True or Uncertain", "Uncertain, True", "Uncertainty"])
def test_other_labels(answer):
    assert status(answer, "Uncertain", LABEL) is Status.WRONG


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("[1, 2]", "[1,2]"),
        ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}"),
        (r"\{'a': 1\}", "{'a': 1}"),
        ('"x"', "'x'"),
        ("None", "None"),
        (r"\texttt{'a_b'}", "'a_b'"),
        ("1.0", "1"),
    ],
)
def test_the_same_literal(answer, gold):
    assert status(answer, gold, LITERAL) is Status.CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("True", "1"),
        ("[1, 2]", "(1, 2)"),
        ("a", "'a'"),
        ("1 + 1", "2"),
        ("2 ** 3", "8"),
        ("__import__('os').getcwd()", "'/'"),
        ("[" * 5000, "[]"),
        ("-" * 100_000 + "1", "1"),
        ("9" * 100_000, "9"),
        ("'\\0'", "''"),
    ],
)
def test_other_literals(answer, gold):
    assert status(answer, gold, LITERAL) is Status.WRONG


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("10.62", "10.6"),
        ("10.6%", "10.6"),
        ("$1,234", "1234"),
        ("The  United States.", "united states"),
        ("2880210, Tony Stewart", "2880210, tony stewart"),
        (r"\text{Real Betis, Real Madrid B}", "Real Betis, Real Madrid B"),
        ("-87", "-87"),
    ],
)
def test_the_same_cell(answer, gold):
    assert status(answer, gold, CELL) is Status.CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1.06", "10.6"),
        ("106", "10.6"),
        ("10.7", "10.6"),
        ("united kingdom", "united states"),
        ("states", "united states"),
        ("tony stewart, 2880210", "2880210, tony stewart"),
        ("Real Betis", "Real Betis, Real Madrid B"),
        ("5, 6, 7", "6"),
        ("", "the"),
    ],
)
def test_other_cells(answer, gold):
    assert status(answer, gold, CELL) is Status.WRONG


@pytest.mark.parametrize(
    ("response", "form", "gold"),
    [
        ("I think so.\n(B)", CHOICE, "B"),
        ("Therefore:\n**Unknown**", LABEL, "Uncertain"),
        ("It returns\n[1, 2]", LITERAL, "[1,2]"),
    ],
)
def test_a_last_line_that_is_nothing_but_the_answer(response, form, gold):
    result = grade(response, gold, form)
    assert (result.status, result.found) == (Status.CORRECT, Found.LAST_LINE)


def test_a_task_is_scored_by_its_own_scorer():
    task = "basic_arithmetic"
    entry = reasoning_gym.create_dataset(task, size=1, seed=0)[0]
    form = AnswerForm(AnswerKind.TASK, task=task, entry=json.dumps(entry))
    assert status(entry["answer"], entry["answer"], form) is Status.CORRECT
    assert status(entry["answer"] + "1", entry["answer"], form) is Status.WRONG


@given(st.text(alphabet="0123456789abxy\\{}()[],.^_!+-/=$ frac sqrt pi text", max_size=60))
@settings(max_examples=300, deadline=None)
def test_tokens_of_any_text_compare_equal_to_themselves(text):
    tokens = tokenize(text)
    assert tokens == tokenize(text)
    if tokens and len(text) < 50:
        assert same_answer(text, text, LATEX) or not text.strip()


@given(
    st.sampled_from(["3", r"\frac{1}{2}", "(1,2)", r"\text{yes}", "x+1"]), st.text("23456789,", min_size=1, max_size=9)
)
@settings(max_examples=200, deadline=None)
def test_digits_around_a_gold_answer_make_it_wrong(gold, digits):
    assert status(f"{gold}{digits}", gold, LATEX) is not Status.CORRECT or not digits.strip(",")
    assert status(f"{digits}{gold}", gold, LATEX) is not Status.CORRECT or not digits.strip(",")


@pytest.mark.parametrize("form", [LATEX, SEVERAL, LABEL, AnswerForm(AnswerKind.LATEX, tolerance=0.1, unit="km")])
def test_forms_go_to_dicts_and_back(form):
    assert AnswerForm.from_dict(json.loads(json.dumps(form.to_dict()))) == form


def test_an_unknown_key_of_a_form_is_named():
    with pytest.raises(ValueError, match="unknown key 'colour'"):
        AnswerForm.from_dict({"kind": "latex", "colour": "red"})
