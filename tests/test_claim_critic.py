"""The symbolic critic for free text: what it reads, what it calls false, what it leaves alone, how it puts it right."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satori.synthesis.agents import Mistake, PartialSolution, Unusable, Verification
from satori.synthesis.claim_critic import ClaimCritic, read_equations
from satori.types import Problem

PROBLEM = Problem("p", "How many?", "19")


def find(*steps, reviewed_from=0):
    return asyncio.run(ClaimCritic().find_mistake(PartialSolution(PROBLEM, steps), reviewed_from, seed=0))


def verify(*steps):
    return asyncio.run(ClaimCritic().verify(PartialSolution(PROBLEM, steps), seed=0))


@pytest.mark.parametrize(
    ("step", "reason", "corrected"),
    [
        ("12 + 7 = 20", "12 + 7 is 19, not 20.", "12 + 7 = 19"),
        ("So he has 12+7=20 apples.", "12+7 is 19, not 20.", "So he has 12+7=19 apples."),
        ("Total = 12 + 7 = 20.", "12 + 7 is 19, not 20.", "Total = 12 + 7 = 19."),
        ("3 x 4 = 11", "3 x 4 is 12, not 11.", "3 x 4 = 12"),
        ("3 × 4 − 2 = 11", "3 × 4 − 2 is 10, not 11.", "3 × 4 − 2 = 10"),
        (r"We get $12 \times 3 = 35$.", r"$12 \times 3$ is 36, not 35.", r"We get $12 \times 3 = 36$."),
        (
            r"\[ \frac{1}{2} + \frac{1}{4} = 1.5 \]",
            r"$\frac{1}{2} + \frac{1}{4}$ is 0.75, not 1.5.",
            r"\[ \frac{1}{2} + \frac{1}{4} = 0.75 \]",
        ),
        ("48/2 = <<48/2=25>>25 clips", "48/2 is 24, not 25.", "48/2 = <<48/2=24>>24 clips"),
        ("It costs $1,200 + $34 = $1,235.", "1,200 + 34 is 1,234, not 1,235.", "It costs $1,200 + $34 = $1,234."),
        ("$2.50 * 3 = $7.60", "2.50 * 3 is 7.5, not 7.60.", "$2.50 * 3 = $7.5"),
        ("2*3+4 = 6+4 = 11", "6+4 is 10, not 11.", "2*3+4 = 6+4 = 10"),
        ("3(4+5) = 28", "3(4+5) is 27, not 28.", "3(4+5) = 27"),
        ("2^10 = 1000", "2^10 is 1024, not 1000.", "2^10 = 1024"),
        ("**12 + 7 = 20**", "12 + 7 is 19, not 20.", "**12 + 7 = 19**"),
        ("(that is, 12 + 7 = 20)", "12 + 7 is 19, not 20.", "(that is, 12 + 7 = 19)"),
        (r"12 + 7 = \boxed{20}", r"12 + 7 is 19, not 20.", r"12 + 7 = \boxed{19}"),
        ("5 - 7 = 2", "5 - 7 is -2, not 2.", "5 - 7 = -2"),
        ("20% * 50 = 11", "20% * 50 is 10, not 11.", "20% * 50 = 10"),
        ("- 12 + 7 = 20", "12 + 7 is 19, not 20.", "- 12 + 7 = 19"),
        ("2. 12 + 7 = 20", "12 + 7 is 19, not 20.", "2. 12 + 7 = 19"),
    ],
)
def test_a_false_sum_is_found_and_put_right(step, reason, corrected):
    assert find("1 + 1 = 2.", step) == Mistake(1, reason, direction="", corrected=corrected)


@pytest.mark.parametrize(
    "step",
    [
        "12 + 7 = 19",
        "48/2 = <<48/2=24>>24",
        r"$\dfrac{1}{2} + \frac{1}{3} = \frac{5}{6}$",
        "10/3 = 3.33 and 20/3 = 6.67 and 20/3 = 6.66",
        "3/4 = 0.8",
        "7 / 2 = 3",
        "17 / 5 = 3 remainder 2",
        "10/3 * 3 = 3.33 * 3 = 9.99",
        "2 / 5 = 40% and 2 / 5 * 100 = 40%",
        "100 - 20% = 80, and 100% - 20% = 80%",
        "- 12 + 7 = -5",
        "0.1 + 0.2 = 0.3",
        # Not surely an equation in figures alone.
        "12 apples + 7 = 19",
        "x + 3 = 14",
        "3x = 12 and 2x 4 = 1",
        "x - 7 + 2 = 5",
        "50% of 20 + 2 = 12",
        "f(2 + 3) = 6",
        r"\sqrt{16} + 3 = 7",
        r"2 + 3 = 6\pi",
        "5! = 121",
        "is 12 + 7 = 20?",
        "12 + 7 != 20 and 12 + 7 >= 18 and 10/3 ≈ 4",
        "6 * 2 = 1 dozen",
        "0.25 * 4 = 100 cents",
        "12 + 7 = 20x",
        "2 + 2 = 5 x",
        "3:00 + 2:30 = 5:30",
        "60 minutes = 1 hour, 60 = 1",
        "Day 2 = 5 + 1",
        "5 2/3 + 1 = 6 2/3",
        "6/2(1+2) = 1 = 9",
        "1/0 = 5",
        "(3,4) + 1 = 2",
        "2^{9999999} = 3 and 9^9^9 = 1",
        "1" * 30 + " + 1 = 2",
        "",
    ],
)
def test_what_holds_or_may_be_meant_otherwise_is_no_mistake(step):
    assert find(step) == Unusable("no false sum")


@pytest.mark.parametrize(
    ("step", "corrected"),
    [
        ("12 + 7 = 20. So he has 20 apples.", "12 + 7 = 19. So he has 19 apples."),  # told again behind the last sum
        ("12 + 7 = 20, then 3 * 4 = 12.", "12 + 7 = 19, then 3 * 4 = 12."),  # not used later
        ("12 + 7 = 20, then 20 * 2 = 40.", None),
        ("12 + 7 = 20 = 20", None),
        ("He may have 20. 12 + 7 = 20, and 20 is allowed.", None),  # which 20?
        ("2 * 3 + 4 = 5 + 4", None),
        ("1 / 5 = 30%", None),
    ],
)
def test_a_step_is_put_right_only_where_nothing_else_would_have_to_change(step, corrected):
    mistake = find(step)
    assert mistake.corrected == corrected
    assert (mistake.direction == "") is (corrected is not None)


def test_where_a_step_cannot_be_put_right_the_direction_says_what_to_do():
    assert find("12 + 7 = 20, then 20 * 2 = 40.") == Mistake(
        0, "12 + 7 is 19, not 20.", "Work out 12 + 7 again.", corrected=None
    )
    assert find("2 * 3 + 4 = 5 + 4").reason == "2 * 3 + 4 is 10, but 5 + 4 is 9."


def test_the_first_false_sum_counts_and_a_later_round_reviews_later_steps():
    steps = ("1 + 1 = 2.", "2 + 2 = 5.", "3 + 3 = 7.")
    assert find(*steps).first_wrong == 1
    assert find(*steps, reviewed_from=2).first_wrong == 2
    assert find(*steps, reviewed_from=3) == Unusable("no false sum")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (("He buys 12 + 7 = 19.",), "12 + 7 = 19 holds."),
        (("1 + 1 = 2.", "2 + 2 = 4.", "3 * 4 = 12."), "2 + 2 = 4 and 3 * 4 = 12 hold."),
        (("1 + 1 = 2.", "1 + 1 = 2."), "1 + 1 = 2 holds."),
        (("48/2 = <<48/2=24>>24",), "48/2 = 24 holds."),
        (("$3 \\times 4 = 12$",), "$3 \\times 4 = 12$ holds."),
    ],
)
def test_steps_whose_sums_all_hold_are_verified_by_naming_one_or_two(steps, said):
    assert verify(*steps) == Verification(said)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (("1 + 1 = 2.", "2 + 2 = 5."), "a false sum in a right solution"),
        (("He has many.",), "no sum to check"),
        (("7 / 2 = 3",), "no sum to check"),  # cut off: nothing to be proud of
        ((), "no sum to check"),
    ],
)
def test_nothing_else_is_verified(steps, why):
    assert verify(*steps) == Unusable(why)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 100_000 + " + 1 = 2",
        "1 + " * 30_000 + "1 = 2",
        "(" * 50_000 + "1 + 1 = 3",
        "1 = " * 30_000,
        "-" * 50_000 + "1 + 1 = 3",
        "<<" * 50_000,
        "<<1+1=3" * 10_000,
        "1," * 50_000,
        "\\frac{" * 20_000,
        "= " * 50_000,
        "9^" * 50_000 + "9 = 1",
        "1 + 1 = 2 " * 10_000,
        "1 + 1 = 3 " * 10_000,
        " \n" * 50_000,
        "x" * 100_000,
        "1.1" * 30_000,
    ],
)
def test_hostile_texts_hang_nothing(text):
    started = time.monotonic()
    find(text)
    verify(text)
    assert time.monotonic() - started < 20  # quadratic work would take minutes


@given(st.text(alphabet="0123456789+-*/^=(){}<>.,%$x \n\\fracboxed", max_size=80))
def test_no_text_breaks_it_and_a_step_put_right_has_that_sum_right(text):
    mistake = find(text)
    if isinstance(mistake, Mistake) and mistake.corrected is not None:
        wrong = next(e for e in read_equations(text) if not e.true)
        again = [e for e in read_equations(mistake.corrected) if e.start == wrong.start and e.left == wrong.left]
        assert all(equation.true for equation in again)


@given(st.integers(-10_000, 10_000), st.integers(1, 10_000), st.sampled_from("+-*/"), st.integers(1, 50))
def test_a_true_sum_is_never_called_false_and_one_that_is_off_always_is(a, b, sign, off):
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a}[sign]
    left = f"{a * b} / {b}" if sign == "/" else f"{a} {sign} {b}"
    assert find(f"So {left} = {value}.") == Unusable("no false sum")
    mistake = find(f"Total: {left} = {value + off}.")
    assert mistake == Mistake(0, f"{left} is {value}, not {value + off}.", "", f"Total: {left} = {value}.")
