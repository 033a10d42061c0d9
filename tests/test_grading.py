"""The grader: boxes, numbers, verdicts (satori.grading)."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satori.engines.base import Sampling
from satori.engines.scripted import ScriptedEngine
from satori.grading import Found, Status, boxed_answers, grade, same_answer
from satori.grading.kinds import parse_number
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome
from satori.reinforcement.rollouts import InitialState, collect
from satori.types import Problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no box", ()),
        ("", ()),
        (r"\boxed{5}", ("5",)),
        (r"so \boxed{ 5 }.", ("5",)),
        (r"\boxed{}", ("",)),
        (r"\boxed{\frac{1}{2}}", (r"\frac{1}{2}",)),
        (r"\boxed{{{7}}}", ("{{7}}",)),
        ("\\boxed{1\n+ 2}", ("1\n+ 2",)),
        (r"\boxed{1} then \boxed{2} then \boxed{1}", ("1", "2", "1")),
        (r"\boxed{1}}}\boxed{2}", ("1", "2")),
        (r"\boxed{\boxed{3}}", (r"\boxed{3}",)),
        ("boxed{5}", ()),
    ],
)
def test_boxed_answers(text, expected):
    assert boxed_answers(text) == expected


@pytest.mark.parametrize("text", [r"\boxed{5", r"\boxed{", r"\boxed{\frac{1}{2}"])
def test_a_box_that_never_closes_is_passed_over(text):
    assert boxed_answers(text) == ()


def test_a_passed_over_box_does_not_hide_the_next_one():
    assert boxed_answers(r"\boxed{5 \boxed{6}") == ("6",)


def test_an_endless_box_counts_is_cut_and_is_wrong():
    """Were it passed over, an earlier box would be taken for the answer."""
    response = r"\boxed{12} \boxed{" + "12" * 5000 + "}"
    assert [len(answer) for answer in boxed_answers(response)] == [2, 2001]
    assert grade(response, "12").status is Status.WRONG


def test_escaped_braces_do_not_close_a_box():
    assert boxed_answers(r"\boxed{\{1, 2\}}") == (r"\{1, 2\}",)
    assert boxed_answers(r"\boxed{\left\{ 1 \right.}") == (r"\left\{ 1 \right.",)


@pytest.mark.parametrize("unit", ["\\boxed{", "\\boxed{{", "{", "}", "\\boxed{1}"])
def test_time_is_linear_in_the_length(unit):
    def seconds(count: int) -> float:
        text, best = "\\boxed{" + unit * count, float("inf")
        for _ in range(2):
            start = time.process_time()
            boxed_answers(text)
            best = min(best, time.process_time() - start)
        return best

    seconds(100)
    assert seconds(2000) < 8 * seconds(500) + 0.05  # four times the text; quadratic time would take sixteen times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", Fraction(3)),
        (" -3 ", Fraction(-3)),
        ("+3", Fraction(3)),
        ("007", Fraction(7)),
        ("2.50", Fraction(5, 2)),
        ("1,234", Fraction(1234)),
        ("-1,234,567.5", Fraction(-2469135, 2)),
        ("$12$", Fraction(12)),
        ("$ 12", Fraction(12)),
    ],
)
def test_parse_number(text, expected):
    assert parse_number(text) == expected


NO_NUMBERS = ("", "$", "x", "1/2", "{3}", "3 apples", "1 2", "--3", "1e3", "inf", "1_000", "٣", "9" * 61)
BAD_SEPARATORS = ("1,2", "12,34", "1,2345", "1234,567", ",123", "1,,234")


@pytest.mark.parametrize("text", [*NO_NUMBERS, *BAD_SEPARATORS])
def test_what_is_no_plain_number(text):
    assert parse_number(text) is None


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_do_not_change_a_number(number):
    assert parse_number(f"{number:,}") == parse_number(str(number)) == number


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        (r"\boxed{12}", "12"),
        (r"first \boxed{3}, no: \boxed{12}", "12"),
        (r"\boxed{12.0}", "12"),
        (r"\boxed{1,200}", "1200"),
        (r"\boxed{$12$}", "12"),
        (r"\boxed{12} and long text after it " + "x" * 5000, "12"),
        (r"\boxed{12} and a box that stays open \boxed{3", "12"),
        (r"\boxed{yes}", "yes"),
        (r"\boxed{\$12}", "12"),
        (r"\boxed{12\%}", "12"),
        (r"\boxed{12 \text{ apples}}", "12"),
        (r"\boxed{12 square feet}", "12"),
        (r"\boxed{\frac{24}{2}}", "12"),
        (r"\boxed{24/2}", "12"),
        (r"\boxed{-$12}", "-12"),
        (r"\boxed{1{,}200}", "1200"),
    ],
)
def test_right_answers(response, gold):
    assert grade(response, gold).status is Status.CORRECT


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        (r"\boxed{12} no, \boxed{3}", "12"),  # the last box counts
        (r"\boxed{1,2}", "12"),
        (r"\boxed{13}", "3"),
        (r"\boxed{3}", "13"),
        (r"\boxed{{13}}", "3"),
        (r"\boxed{12.0000001}", "12"),
        (r"\boxed{-12}", "12"),
        (r"\boxed{12 or 13}", "12"),
        (r"\boxed{10 + 2}", "12"),
        (r"\boxed{12 dozen}", "12"),
        (r"\boxed{12 million}", "12"),
        (r"\boxed{12x}", "12"),
        (r"\boxed{x = 12 or so 3}", "12"),
        (r"\boxed{１２}", "12"),
        ("\\boxed{1\u200b2}", "12"),
        ("\\boxed{\u202e21}", "12"),
        ("\\boxed{12\0}", "12"),
        ("\\boxed{\ud8002}", "2"),
        (r"\boxed{}", "12"),
        (r"The answer is 12. \boxed{?}", "12"),
    ],
)
def test_wrong_answers(response, gold):
    assert grade(response, gold).status is Status.WRONG


@pytest.mark.parametrize("response", ["", r"\boxed{12", "12", "so we get 12.", "no answer"])
def test_a_response_that_states_no_answer_has_none(response):
    result = grade(response, "12")
    assert (result.status, result.answers, result.found) == (Status.NO_ANSWER, (), None)


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (r"The answer is 3. \boxed{12}", Found.BOX),
        ("The answer is 3.\n#### 12", Found.HASHES),
        ("The answer is 12.", Found.STATED),
        ("**Final Answer:** $12$", Found.STATED),
        ("5 + 7 = 12\nA: 12", Found.STATED),
        ("The answer is 3, no: the answer is **12**.", Found.STATED),
    ],
)
def test_where_the_answer_was_found(response, found):
    result = grade(response, "12")
    assert (result.status, result.found) == (Status.CORRECT, found)


def test_every_box_is_kept_in_order():
    result = grade(r"\boxed{3}<|reflect|>\boxed{4}<|explore|>\boxed{3}", "3")
    assert result.answers == ("3", "4", "3")
    assert result.answer == "3"
    assert result.correct


def test_a_grade_without_answers_has_no_answer():
    assert grade("", "3").answer is None
    assert not grade("", "3").correct


@given(st.text(max_size=30), st.text(max_size=30))
def test_same_answer_is_symmetric(one, other):
    assert same_answer(one, other) == same_answer(other, one)


@pytest.mark.parametrize(("said", "outcome"), [("fine.", Outcome.WRONG), ("\\boxed{12}", Outcome.RIGHT)])
def test_an_answer_in_the_restart_prefix_pays_nothing(tokenizer, said, outcome):
    """The released code graded prompt and response together; here a response has to say the answer itself."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    state = InitialState(Problem("p", "5 + 7", "12"), Start.POSITIVE, ids("5 + 7 = "), ids("\\boxed{12}<|reflect|>"))
    engine = ScriptedEngine(lambda prompt: ids(said), tokenizer.eos_token_id)
    [rollout] = collect(engine, tokenizer, None, [state], Sampling(), 0.5, seed=0)
    assert rollout.outcome is outcome
    assert rollout.response == said
    if outcome is Outcome.WRONG:
        assert grade(rollout.response, "12").status is Status.NO_ANSWER
