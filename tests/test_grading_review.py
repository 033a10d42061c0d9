"""Answers that a policy trained against the grader would find, and ways in which models write right answers.

Found by a review of :mod:`satori.grading`: each was graded the other way once.
"""

import time

import pytest

from satori.grading import AnswerForm, AnswerKind, Status, grade

LATEX = AnswerForm(AnswerKind.LATEX)
NUMBER = AnswerForm()
CHOICE = AnswerForm(AnswerKind.CHOICE)
LABEL = AnswerForm(AnswerKind.LABEL, labels=("True", "False"))
LITERAL = AnswerForm(AnswerKind.LITERAL)
CELL = AnswerForm(AnswerKind.CELL)

WRONG = [
    (LATEX, r"\sin(\exp(999999))", "3"),
    (LATEX, r"\sin(\exp(\exp(20)))", "3"),
    (LATEX, r"x^{\exp(9!)}", "3"),
    (LATEX, r"\tan(9^{9!})", "3"),
    (LATEX, r"\sqrt[\sqrt{-1}]{2}", "5"),
    (LATEX, r"\sqrt[\sqrt{-x}]{2}", "5"),
    (LATEX, "x>=5", "5"),
    (LATEX, "x<=5", "5"),
    (LATEX, "x!=5", "5"),
    (LATEX, r"x \neq y=5", "5"),
    (LATEX, "x<y=5", "5"),
    (LATEX, "x+1=5", "5"),
    (LATEX, "x-1=5", "5"),
    (LATEX, "x/2=5", "5"),
    (LATEX, r"\sqrt{x}=5", "5"),
    (LATEX, r"\pi=5", "5"),
    (LATEX, "x^2=25", "25"),
    (LATEX, "25", "x^2=25"),
    (LATEX, r"5 \text{ or more}", "5"),
    (LATEX, r"5 \text{ not}", "5"),
    (LATEX, r"5 \text{ minus two}", "5"),
    (LATEX, r"5 \text{ hundredths}", "5"),
    (LATEX, r"5 \text{ base two}", "5"),
    (LATEX, r"k \ge 2 \text{ even}", r"k\ge 2"),
    (LATEX, r"2n \text{ for even}", "2n"),
    (LATEX, r"5\text{cm}-3", "5"),
    (LATEX, r"5\text{cm}/2", "5"),
    (LATEX, r"5\text{cm}\cdot 2", "5"),
    (LATEX, r"5\text{ maybe }3", "5"),
    (LATEX, r"x-1 \text{ for all } x", r"x+1 \text{ for all } x"),
    (LATEX, r"\text{-5 apples}", r"\text{5 apples}"),
    (LATEX, "52_9", "52_8"),
    (LATEX, "34_5", "34"),
    (LATEX, "5_000", "5"),
    (LATEX, "y'", "y"),
    (LATEX, "f'(x)", "f(x)"),
    (LATEX, "5''", "5"),
    (LATEX, "10^{-41}", "0"),
    (LATEX, "10^{-41}", "10^{-42}"),
    (LATEX, r"\frac{1}{10^{50}}", r"\frac{2}{10^{50}}"),
    (LATEX, "0.99999999999999999999999999999999999999999999999999", "1"),
    (LATEX, "0.3333333333333333333333333333333333333333333", r"\frac13"),
    (LATEX, "0.30102999566398", r"\log_{10} 2"),
    (LATEX, "0.8414709848079", r"\sin 1"),
    (LATEX, "0.5772156649015329", r"\gamma"),
    (LATEX, r"\Pi", r"\pi"),
    (LATEX, r"\sin 1^\circ", r"\sin 1"),
    (LATEX, "5 3", "53"),
    (LATEX, r"5 \% 7", "57"),
    (LATEX, r"1^\circ 2", "12"),
    (LATEX, "1'2", "12"),
    (LATEX, r"1\$2", "12"),
    (LATEX, "x^2+y^2=-4", "x^2+y^2=-5"),
    (LATEX, "1=2", "3=4"),
    (LATEX, "y=7=2x+3", "y=2x+3"),
    (LATEX, "(y,x)=(3,5)", "(3,5)"),
    (LATEX, r"1\in[1,2]", "[1,2]"),
    (LATEX, "N=n+1", "N=n"),
    (LATEX, "x=3=4", "4"),
    (LATEX, "2+2=4=5", "5"),
    (NUMBER, r"5 \text{ or more}", "5"),
    (NUMBER, "5 million", "5"),
    (NUMBER, "5 M", "5"),
    (NUMBER, "5 minus two", "5"),
    (NUMBER, "5 lakh", "5"),
    (NUMBER, "5 dozen", "5"),
    (NUMBER, "2+3", "5"),
    (NUMBER, "5!", "5"),
    (NUMBER, "5^1", "5"),
    (NUMBER, "--5", "5"),
    (NUMBER, "5.0001", "5"),
    (NUMBER, "5 6", "5"),
    (NUMBER, "5-", "5"),
    (NUMBER, "x+5", "5"),
    (CELL, "10.6 m", "1.06 m"),
    (CELL, "$1.5 million", "$15 million"),
    (CELL, "-5 points", "+5 points"),
    (CELL, "<5", ">5"),
    (CELL, "12:05", "1:205"),
    (CELL, "-800 m", "800 m"),
    (CELL, "9.5", "10"),
    (LABEL, "~True", "True"),
    (LABEL, "!True", "True"),
    (LABEL, "<>True", "True"),
]
RIGHT = [
    (LATEX, r"\$58,500", "58,500"),
    (LATEX, "x = 58,500", "58,500"),
    (LATEX, r"58,500 \text{ ways}", "58,500"),
    (LATEX, r"\(58,500\)", "58,500"),
    (LATEX, "{58,500}", "58,500"),
    (LATEX, "yx", "xy"),
    (LATEX, r"x\cdot y", "xy"),
    (LATEX, "nm", "mn"),
    (LATEX, r"5\text{ min}", "5"),
    (LATEX, r"166 \text{ cm}^2", "166"),
    (LATEX, r"15\,\mathrm{cm^2}", r"15\mbox{ cm}^2"),
    (LATEX, r"15 \text{ square centimeters}", r"15\mbox{ cm}^2"),
    (LATEX, r"15\text{ cm²}", r"15\mbox{ cm}^2"),
    (LATEX, r"864\text{ in}^2", r"864 \mbox{ inches}^2"),
    (LATEX, r"5\text{ m}", "5"),
    (LATEX, r"2\cdot i", "2i"),
    (LATEX, "0.5+0.5i", r"\frac{1+i}{2}"),
    (LATEX, "6+(-5)i", "6-5i"),
    (LATEX, "i^2", "-1"),
    (LATEX, "x+0", "x"),
    (LATEX, "2x-x", "x"),
    (LATEX, "1,-1,0", r"\pm 1,0"),
    (LATEX, r"\{1+\sqrt5,1-\sqrt5,-2\}", r"\{1\pm\sqrt5,-2\}"),
    (LATEX, "= 5", "5"),
    (LATEX, r"\underline{5}", "5"),
    (LATEX, "**5**", "5"),
    (LATEX, r"\boxed{5}", "5"),
    (LATEX, r"\mathbf{5}", "5"),
    (LATEX, "√(13)", r"\sqrt{13}"),
    (LATEX, r"\frac{3}{56}\approx 0.05", r"\frac{3}{56}"),
    (LATEX, "2^{10}=1024", "1024"),
    (LATEX, r"\text{Area} = 9", "9"),
    (LATEX, "|AB|=9", "9"),
    (LATEX, "k>=2", r"k \geqslant 2"),
    (LATEX, r"\theta=30^\circ", "30"),
    (LATEX, "f(n)=2n", "2n"),
    (LATEX, "90°", "90"),
    (LATEX, r"50\%", "50"),
    (NUMBER, "18.", "18"),
    (NUMBER, "x = 18", "18"),
    (NUMBER, "(18)", "18"),
    (NUMBER, "{18}", "18"),
    (NUMBER, r"\(18\)", "18"),
    (NUMBER, r"18\ \text{dollars}", "18"),
    (NUMBER, r"18~\text{dollars}", "18"),
    (NUMBER, r"18\;\text{cm}", "18"),
    (NUMBER, r"18 \text{ km/h}", "18"),
    (NUMBER, r"18\text{ ft}^2", "18"),
    (NUMBER, r"\mathrm{~18}", "18"),
    (NUMBER, "18 dollars/day", "18"),
    (NUMBER, "€18", "18"),
    (NUMBER, "£18", "18"),
    (NUMBER, "18", "18"),
    (NUMBER, "**18**", "18"),
    (NUMBER, r"18\ \%", "18"),
    (NUMBER, "18 months", "18"),
    (NUMBER, "18 times", "18"),
    (NUMBER, "18 in", "18"),
    (NUMBER, "18 points", "18"),
    (NUMBER, r"18 \text{ seconds}", "18"),
    (NUMBER, r"70\,000", "70000"),
    (NUMBER, "−10", "-10"),
    (NUMBER, "70,000", "70000"),
    (CHOICE, r"\textbf{(B)}\ 5", "B"),
    (CHOICE, "B - text", "B"),
    (CHOICE, "Option B", "B"),
    (CHOICE, "**B**", "B"),
    (LITERAL, r"'a\_b'", "'a_b'"),
    (LITERAL, r"\left[1,2\right]", "[1, 2]"),
    (LITERAL, r"[1,\ 2]", "[1, 2]"),
]
STATED = [
    (NUMBER, "Answer:\n12", "12", True),
    (CHOICE, "The answer is:\n\n(B)", "B", True),
    (NUMBER, "Final Answer: The final answer is $12$. I hope it is correct.", "12", True),
    (NUMBER, "The answer is 12. Let me check.", "12", True),
    (NUMBER, "#### Step 1: go\nThe answer is 12.", "12", True),
    (NUMBER, "#### 12\nThe answer is 13.", "12", False),
    (NUMBER, r"The answer is \(12\).", "12", True),
    (CHOICE, "A: 1\nB: 2\nSo it is A", "B", False),
]


@pytest.mark.parametrize(("form", "answer", "gold"), WRONG)
def test_wrong_answers_that_look_right(form, answer, gold):
    start = time.monotonic()
    assert grade(f"\\boxed{{{answer}}}", gold, form).status is not Status.CORRECT
    assert time.monotonic() - start < 4.5


@pytest.mark.parametrize(("form", "answer", "gold"), RIGHT)
def test_right_answers_as_models_write_them(form, answer, gold):
    assert grade(f"\\boxed{{{answer}}}", gold, form).status is Status.CORRECT


@pytest.mark.parametrize(("form", "response", "gold", "right"), STATED)
def test_answers_stated_without_a_box(form, response, gold, right):
    assert grade(response, gold, form).correct == right
