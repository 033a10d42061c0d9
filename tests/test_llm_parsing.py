"""The critic's answers, read strictly (satori.synthesis.llm.parsing)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satori.coat import META_ACTION_TOKENS
from satori.synthesis.agents import Mistake, Unusable, Verification
from satori.synthesis.llm.parsing import Asked, Useless, parse_mistake, parse_verification

ASKED = Asked("How many apples does Tom have?", range(1, 4), longest=60)
WHY, WAY = "The sum of 3 and 4 is 7, not 8.", "Add both numbers again."
MISTAKE = f"STEP: 3\nWHY: {WHY}\nDIRECTION: {WAY}"


def mistake(text, finished=True):
    return parse_mistake(text, finished, ASKED)


def verification(text, finished=True):
    return parse_verification(text, finished, ASKED)


@pytest.mark.parametrize(
    "text",
    [
        MISTAKE,
        f"\n  STEP: 3  \n\n WHY:   {WHY}\n\n\nDIRECTION: {WAY}\n\n",
        f"step: 3\nWhy: {WHY}\nDirection: {WAY}",
        f"**STEP:** 3\n**WHY:** {WHY}\n**DIRECTION:** {WAY}",
        f"**Step**: 3\n__WHY__: {WHY}\n**DIRECTION** : {WAY}",
        f"```\n{MISTAKE}\n```",
        f"```text\n{MISTAKE}",
        f"{MISTAKE}\n```",
        MISTAKE.replace("\n", "\r\n"),
        "STEP: 3\nWHY: The sum of 3 and 4\n is 7,\tnot 8.\nDIRECTION:\nAdd both\x0bnumbers\u2028again.",
    ],
)
def test_the_form_is_read_with_its_small_liberties(text):
    assert mistake(text) == Mistake(2, WHY, WAY, corrected=None)


@pytest.mark.parametrize("text", ["VERIFIED: {}", "**Verified:** {}", "```\nverified: {}\n```", " VERIFIED:\n{}\n"])
def test_a_verification_is_read_with_the_same_liberties(text):
    assert verification(text.format(WHY)) == Verification(WHY)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", Useless.NO_FORM),
        ("```", Useless.NO_FORM),
        ("```\n```", Useless.NO_FORM),
        ("The third step is wrong.", Useless.NO_FORM),
        (f"Here is my answer:\n{MISTAKE}", Useless.NO_FORM),
        (f"{MISTAKE}\n\nI hope this helps!", Useless.NO_FORM),
        (f"STEP: 3\nWHY: {WHY}", Useless.NO_FORM),
        (f"STEP: 3\nDIRECTION: {WAY}\nWHY: {WHY}", Useless.NO_FORM),
        (f"WHY: {WHY}\nSTEP: 3\nDIRECTION: {WAY}", Useless.NO_FORM),
        (f"STEP: 3 WHY: {WHY} DIRECTION: {WAY}", Useless.NO_FORM),
        (MISTAKE.replace("3\n", "three\n"), Useless.NO_FORM),
        (MISTAKE.replace("3\n", "Step 3\n"), Useless.NO_FORM),
        (MISTAKE.replace("3\n", "3.\n"), Useless.NO_FORM),
        (MISTAKE.replace("3\n", "3.0\n"), Useless.SEVERAL_ANSWERS),
        (MISTAKE.replace("3\n", "-3\n"), Useless.NO_FORM),
        (MISTAKE.replace("3\n", "３\n"), Useless.NO_FORM),
        (MISTAKE.replace("3\n", "\n"), Useless.NO_FORM),
        (MISTAKE.replace("3\n", "9" * 5000 + "\n"), Useless.NO_FORM),
        (MISTAKE.replace("STEP:", "STEP"), Useless.NO_FORM),
        (f"**STEP: 3\nWHY: {WHY}\nDIRECTION: {WAY}", Useless.NO_FORM),
        (f"STEP:** 3\nWHY: {WHY}\nDIRECTION: {WAY}", Useless.NO_FORM),
        (f"- STEP: 3\n- WHY: {WHY}\n- DIRECTION: {WAY}", Useless.NO_FORM),
        (f"VERIFIED: {WHY}", Useless.NO_FORM),
        (MISTAKE.replace("3\n", "2, 3\n"), Useless.SEVERAL_ANSWERS),
        (MISTAKE.replace("3\n", "2 and 3\n"), Useless.SEVERAL_ANSWERS),
        (f"{MISTAKE}\n{MISTAKE}", Useless.SEVERAL_ANSWERS),
        (f"{MISTAKE}\nNO MISTAKE", Useless.SEVERAL_ANSWERS),
        (f"NO MISTAKE\n{MISTAKE}", Useless.SEVERAL_ANSWERS),
        (f"STEP: 3\nWHY: a. DIRECTION: b\nDIRECTION: {WAY}", Useless.SEVERAL_ANSWERS),
        (f"{MISTAKE} Or: NO MISTAKE", Useless.SEVERAL_ANSWERS),
        ("NO MISTAKE", Useless.NO_MISTAKE),
        ("**No mistake.**", Useless.NO_MISTAKE),
        ("NO MISTAKE: all of it holds", Useless.NO_MISTAKE),
        ("```\nNO MISTAKE\n```", Useless.NO_MISTAKE),
        (MISTAKE.replace("3\n", "0\n"), Useless.OUT_OF_RANGE),
        (MISTAKE.replace("3\n", "1\n"), Useless.OUT_OF_RANGE),
        (MISTAKE.replace("3\n", "5\n"), Useless.OUT_OF_RANGE),
        (MISTAKE.replace(WHY, ""), Useless.EMPTY_REASON),
        (MISTAKE.replace(WAY, ""), Useless.EMPTY_REASON),
        (MISTAKE.replace(WHY, "..."), Useless.EMPTY_REASON),
        (MISTAKE.replace(WAY, "None."), Useless.EMPTY_REASON),
        (MISTAKE.replace(WHY, "<one or two sentences>"), Useless.EMPTY_REASON),
        (MISTAKE.replace(WHY, "a" * 61), Useless.TOO_LONG),
        (MISTAKE.replace(WAY, "b " * 40), Useless.TOO_LONG),
        (MISTAKE + "x" * 30_000, Useless.TOO_LONG),
        *((MISTAKE.replace(WHY, f"Wait {token} no."), Useless.SPECIAL_TOKEN) for token in META_ACTION_TOKENS),
        (MISTAKE.replace(WAY, "Add.<|im_end|>"), Useless.SPECIAL_TOKEN),
        (MISTAKE.replace(WAY, "Add.</s>"), Useless.SPECIAL_TOKEN),
        (MISTAKE.replace(WAY, "It is \\boxed{7}."), Useless.BOXED),
        (MISTAKE.replace(WHY, "It differs from the correct answer."), Useless.LEAKED),
        (MISTAKE.replace(WAY, "Do as the reference solution does."), Useless.LEAKED),
        (MISTAKE.replace(WHY, "三加四等于七，不是八。"), Useless.WRONG_LANGUAGE),
        (MISTAKE.replace(WAY, "Сложи их снова."), Useless.WRONG_LANGUAGE),
    ],
)
def test_every_other_answer_to_a_mistake_is_unusable(text, why):
    assert mistake(text) == Unusable(why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Yes.", Useless.NO_FORM),
        ("VERIFIED", Useless.NO_FORM),
        (MISTAKE, Useless.NO_FORM),
        ("I think it is\nVERIFIED: it holds", Useless.NO_FORM),
        (f"VERIFIED: {WHY}\n\nNote that it is so.", Useless.NO_FORM),
        ("NOT VERIFIED", Useless.NOT_VERIFIED),
        ("**NOT VERIFIED**", Useless.NOT_VERIFIED),
        ("not verified.", Useless.NOT_VERIFIED),
        ("NOT VERIFIED: the sum is wrong", Useless.NOT_VERIFIED),
        (f"VERIFIED: {WHY}\nVERIFIED: {WAY}", Useless.SEVERAL_ANSWERS),
        (f"VERIFIED: {WHY}\nNOT VERIFIED", Useless.SEVERAL_ANSWERS),
        (f"VERIFIED: {WHY}\nSTEP: 3", Useless.SEVERAL_ANSWERS),
        ("VERIFIED: yes. NOT VERIFIED: no.", Useless.SEVERAL_ANSWERS),
        ("VERIFIED:", Useless.EMPTY_REASON),
        ("VERIFIED: <one sentence>", Useless.EMPTY_REASON),
        ("VERIFIED: " + "a" * 61, Useless.TOO_LONG),
        ("VERIFIED: It matches the expected answer.", Useless.LEAKED),
        ("VERIFIED: 都对了，没有错误。", Useless.WRONG_LANGUAGE),
        ("VERIFIED: All holds. <|continue|>", Useless.SPECIAL_TOKEN),
    ],
)
def test_every_other_answer_to_a_verification_is_unusable(text, why):
    assert verification(text) == Unusable(why)


def test_an_answer_that_was_cut_off_is_unusable_however_good_it_looks():
    assert mistake(MISTAKE, finished=False) == Unusable(Useless.TRUNCATED)
    assert verification(f"VERIFIED: {WHY}", finished=False) == Unusable(Useless.TRUNCATED)


def test_control_characters_do_not_get_through():
    assert verification("VERIFIED: It\x00 is\x1b[31m so\u202e.") == Verification("It is [31m so .")


_PIECES = st.sampled_from(
    [
        "STEP:",
        "WHY:",
        "DIRECTION:",
        "VERIFIED:",
        "NOT VERIFIED",
        "NO MISTAKE",
        "**",
        "```",
        "\n",
        " ",
        "3",
        "x",
        "<|reflect|>",
    ]
)


@given(st.lists(_PIECES | st.text(max_size=5), max_size=25).map("".join))
def test_whatever_is_said_what_comes_out_is_clean(text):
    for found in (mistake(text), verification(text)):
        if isinstance(found, Unusable):
            assert found.why in set(Useless)
            continue
        texts = [found.reason] if isinstance(found, Verification) else [found.reason, found.direction]
        for said in texts:
            assert 0 < len(said) <= 60 and "\n" not in said and "<|reflect|>" not in said
        assert isinstance(found, Verification) or found.first_wrong in range(1, 4)


@pytest.mark.parametrize(
    "text",
    [
        "STEP: " + "1 " * 9_000,
        "**" * 9_000,
        "WHY:" * 4_500,
        "\n" * 19_000,
        "VERIFIED: " + "<|" * 9_000,
        "`" * 19_000,
        "STEP: 1\n" + "<" * 19_000,
        "VERIFIED: " + "<a" * 9_000,
    ],
)
def test_hostile_answers_are_read_in_linear_time(text):
    start = time.perf_counter()
    parse_mistake(text, True, Asked("q", range(9), longest=10**6))
    parse_verification(text, True, Asked("q", range(9), longest=10**6))
    assert time.perf_counter() - start < 20
