"""Wording that gives away that somebody saw the answer, and texts in another language (satori.synthesis.llm.leaks)."""

import time

import pytest

from satori.synthesis.llm.leaks import leak_in, wrong_language

LEAKS = [
    "This does not match the ground truth.",
    "The ground-truth value is 7.",
    "The reference solution factors the polynomial first.",
    "The reference\nsolution factors first.",
    "The **reference** answer is 12.",
    "The answer key has 12 here.",
    "The official solution uses symmetry.",
    "The model answer is 9.",
    "Compare this with the expected answer.",
    "The given answer is 12, so this is wrong.",
    "The known answer is 12.",
    "The provided solution takes another path.",
    "The given solution says that x is 3.",
    "The correct solution shows that the angle is right.",
    "The correct answer is given as 12.",
    "According to the solution, we should divide by 2.",
    "According to the correct answer, x = 2.",
    "As stated in the correct answer, x is 3.",
    "As shown in the solution, the area doubles.",
    "This differs from the correct answer.",
    "The result doesn't match the correct answer of 12.",
    "This is consistent with the correct solution.",
    "This leads to the correct answer.",
    "It does not agree with the correct result.",
    "Since we know that the answer is 12, this must be wrong.",
    "We are told the correct answer is $12$.",
    "The solution says to multiply.",
    "The hint said to use symmetry.",
    "As the hint suggests, use symmetry.",
    "Following the hint, we use symmetry.",
    "As the reviewer pointed out, the sum is wrong.",
    "The critic said the third step is wrong.",
    "Based on the feedback, I will redo step 3.",
    "According to the given hint, factor first.",
    "Thank you for pointing that out.",
    "You're right, I made a mistake.",
    "You’re absolutely right.",
    "As you pointed out, the sign is wrong.",
    "The reference gives x=4.",
    "As the reference shows, the sides are equal.",
    "This does not match the reference.",
    "It should be 12 according to the reference.",
    "In the reference, the term is 4.",
    "Compared with the reference and the problem, a sign is lost.",
    "It should be 12 as in the solution.",
    "The last line does not come to the right result.",
    "For your eyes only, the way is to factor.",
    "According to the note, I should redo it.",
    "My note says the last step is wrong.",
    "As the notes point out, the sum is wrong.",
    "As noted in the review above, the sign is wrong.",
    "The re\u200bference solu\u200btion is other.",
    "The ｇｒｏｕｎｄ ｔｒｕｔｈ is other.",
]

INNOCENT = [
    "The ground is at height 0.",
    "The reference angle is 30 degrees, and the reference point is the origin.",
    "According to the reference angle, the sine is 1/2.",
    "In the reference frame of the train, it is at rest; take the ground as the reference.",
    "This matches the reference triangle, and the reference states are equal in energy.",
    "Note that x is positive, and note the sign.",
    "The note has a frequency of 440 Hz, and the notes are played in order.",
    "The solution is x = 4.",
    "As in the solution of a quadratic, we complete the square.",
    "The total comes to the right of 0, and the sum comes to 12.",
    "The review of the film has 300 words.",
    "The correct answer is therefore 12.",
    "So the correct answer must be (B).",
    "The final answer is given by the sum of both parts.",
    "The solution is given by x = 3.",
    "The general solution is given in the form y = Ce^x.",
    "The expected value of the die is 3.5; this agrees with the expected value.",
    "None of the given answer choices is 5.",
    "From the given answer choices, only B is even.",
    "According to the solution of the quadratic, x = 2.",
    "The given solution contains 20% acid.",
    "The given solution has a concentration of 10%.",
    "This agrees with the known result for triangles.",
    "This contradicts the given value x = 3.",
    "The truth table has 8 rows, and the key idea is symmetry.",
    "The teacher says that 12 students passed.",
    "The critics gave the film 4 stars on average.",
    "A model of the solution space is a plane.",
    "We know the answer must be positive.",
    "We know that the answer is an integer.",
    "Given that the sum is 12, the numbers are 5 and 7.",
    "Let me check the solution by substitution.",
    "This answer confirms our guess.",
    "The steps so far hold: 3 + 4 = 7.",
    "The official price is 12 dollars, the provided data are enough.",
    "The golden ratio is the answer's limit.",
    "A sample of 20 solutions is drawn.",
    "Feedback loops aside, the gain is 2.",
    "",
]


@pytest.mark.parametrize("text", LEAKS)
def test_wording_with_a_source_is_a_leak(text):
    assert leak_in(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_words_that_problems_use_themselves_pass(text):
    assert leak_in(text) is None


def test_the_quote_is_what_was_found():
    assert leak_in("Hmm. It follows from the\nReference Solution: 3.") == "reference solution"


@pytest.mark.parametrize(
    "text",
    [
        "the " * 60_000,
        "given the " * 30_000,
        "according to the correct " * 12_000,
        "according to the given reference " * 10_000,
        "the notes above " * 20_000,
        "\u0301\u0316" * 100_000,
        "-" * 200_000,
    ],
)
def test_long_hostile_texts_are_read_in_linear_time(text):
    start = time.perf_counter()
    leak_in(text)
    wrong_language(text, "How many?")
    assert time.perf_counter() - start < 20


ENGLISH = "How many apples does Tom have if he buys $3$ more?"
CHINESE = "小明有三个苹果，又买了两个，他一共有多少个苹果？"
RUSSIAN = "Сколько яблок у Тома, если он купил ещё три?"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("我们需要先计算总数，然后除以二。", ENGLISH),
        ("Сначала сложим оба числа.", ENGLISH),
        ("نجمع العددين ثم نقسم على اثنين", ENGLISH),
        ("두 수를 더하면 됩니다", ENGLISH),
        ("รวมตัวเลขทั้งสองก่อน", ENGLISH),
        ("Wait. 这一步是错误的，因为三加四等于七。", ENGLISH),
        ("First we add both numbers and then divide the sum.", CHINESE),
        ("First we add both numbers.", RUSSIAN),
        ("先计算总数。", RUSSIAN),
    ],
)
def test_a_text_in_another_script_is_in_the_wrong_language(text, question):
    assert wrong_language(text, question)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("First we add both numbers.", ENGLISH),
        ("Let α and β be the angles, so α + β = π and \\alpha = 2\\beta.", ENGLISH),
        ("αβγδεζηθ = π", ENGLISH),
        ("Tom was called 小明 at home, which means that he has five apples now.", ENGLISH),
        ("所以 $\\frac{a}{b} = \\sin x$，答案是五。", CHINESE),
        ("Складываем: \\frac{a}{b} = x + y, ответ 5.", RUSSIAN),
        ("3 + 4 = 7", ENGLISH),
        ("", ENGLISH),
        ("𝑥 = 𝟑, so 𝒚 is even", ENGLISH),
        ("先计算总数。", "$1 + 1$"),
        ("Ответ: пять яблок, five apples.", "How many is пять яблок?"),
    ],
)
def test_maths_names_and_the_questions_own_scripts_are_not_foreign(text, question):
    assert not wrong_language(text, question)
