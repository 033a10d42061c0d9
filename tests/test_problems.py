"""The embedded problem family: splits, streams, solutions, column checks, pretraining texts."""

import itertools
import random
import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satori.coat import META_ACTION_TOKENS
from satori.problems.arithmetic import (
    HARDER,
    HARDER_LEVEL,
    LEVELS,
    Claim,
    Level,
    Split,
    check_claims,
    check_text,
    column_check,
    draw_operands,
    make_problem,
    misread,
    pretraining_texts,
    problem_stream,
    read_claims,
    running_sums,
    solution_text,
    solve,
    split_of,
)
from satori.problems.out_of_domain import harder_problems, reasoning_gym_problems

OPERANDS = st.lists(st.integers(1, 9999), min_size=2, max_size=4).map(tuple)


def first(count, split=Split.TRAIN, seed=0, **options):
    return list(itertools.islice(problem_stream(split, seed, **options), count))


def operands_of(problem):
    """The numbers of a question, smallest first; neither wording holds any other number."""
    return tuple(sorted(int(n) for n in re.findall(r"\d+", problem.question)))


# --- splits and streams ---


@given(OPERANDS)
def test_the_split_does_not_depend_on_the_order_of_the_operands(operands):
    assert len({split_of(order) for order in itertools.permutations(operands)}) == 1


def test_a_problem_has_one_id_and_one_answer_in_every_wording():
    problems = [make_problem(random.Random(seed).sample((12, 34, 56), 3), 4, random.Random(seed)) for seed in range(20)]
    assert len({p.question for p in problems}) > 10
    assert {(p.id, p.answer) for p in problems} == {("sum-4-12+34+56", "102")}


def test_one_operand_set_in_twenty_is_validation_and_one_in_twenty_test():
    counts = Counter(split_of((a, b)) for a in range(100, 200) for b in range(200, 300))
    assert counts[Split.VALIDATION] == pytest.approx(500, abs=90)  # four standard deviations
    assert counts[Split.TEST] == pytest.approx(500, abs=90)
    assert counts.total() == 10_000


def test_the_streams_of_two_splits_share_no_operands():
    train, validation, test = ({operands_of(p) for p in first(400, split)} for split in Split)
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize("split", Split)
def test_a_stream_holds_its_own_split_only(split):
    assert {split_of(operands_of(p)) for p in first(200, split)} == {split}


def test_a_stream_is_the_same_for_the_same_seed():
    assert first(50, seed=3) == first(50, seed=3)


def test_a_stream_is_another_for_another_seed():
    assert first(50, seed=3) != first(50, seed=4)


def test_a_stream_says_when_its_levels_have_run_out():
    stream = problem_stream(Split.TEST, 0, levels=(1,))
    with pytest.raises(ValueError, match=r"no more than \d+ test problems of levels \(1,\)"):
        list(stream)


def test_no_problem_comes_twice_even_where_a_level_is_small():
    problems = first(600, Split.TEST, levels=(1, 2))
    assert len({operands_of(p) for p in problems}) == 600


def test_a_level_that_has_run_out_is_skipped():
    levels = Counter(p.level for p in first(600, Split.TEST, levels=(1, 2)))
    assert levels[1] < 300 < levels[2]


def test_the_five_levels_come_in_turn():
    assert [p.level for p in first(10)] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


def test_every_level_has_its_digits_and_operands():
    for problem in first(100):
        level = LEVELS[problem.level]
        assert [len(str(n)) for n in operands_of(problem)] == [level.digits] * level.operands


def test_the_harder_level_is_beyond_all_trained_ones():
    problems = harder_problems(20)
    assert {p.level for p in problems} == {HARDER_LEVEL}
    assert all([len(str(n)) for n in operands_of(p)] == [HARDER.digits] * HARDER.operands for p in problems)
    assert max(level.operands for level in LEVELS.values()) < HARDER.operands
    assert max(level.digits for level in LEVELS.values()) <= HARDER.digits


def test_drawn_operands_have_no_leading_zero():
    rng = random.Random(0)
    drawn = [n for _ in range(500) for n in draw_operands(Level(2, 2), rng)]
    assert (min(drawn), max(drawn)) == (10, 99)


# --- solutions ---


def test_a_solution_by_hand():
    assert solve((12, 34, 56)) == ("12+34=46.", "46+56=102. \\boxed{102}")
    assert solve((5, 7)) == ("5+7=12. \\boxed{12}",)


@given(OPERANDS)
def test_every_step_of_a_solution_is_one_true_sum(operands):
    for step in solve(operands):
        [claim] = read_claims(step)
        assert claim.true


@given(OPERANDS)
def test_every_step_goes_on_from_the_last_total_with_the_next_operand(operands):
    totals = [operands[0], *(read_claims(step)[0].stated for step in solve(operands))]
    assert [read_claims(step)[0].terms for step in solve(operands)] == list(zip(totals[:-1], operands[1:], strict=True))


@given(OPERANDS)
def test_only_the_last_step_boxes_and_it_boxes_the_total(operands):
    *steps, last = solve(operands)
    assert last.endswith(f" \\boxed{{{sum(operands)}}}")
    assert not any("boxed" in step for step in steps)


# --- checking ---


@pytest.mark.parametrize(
    ("terms", "stated", "check"),
    [
        ((47, 38), 85, "47+38: 7+8=15/5 4+3+1=8/8 so 85, right."),
        ((47, 38), 95, "47+38: 7+8=15/5 4+3+1=8/9! so 85, not 95."),
        ((47, 38), 84, "47+38: 7+8=15/4! 4+3+1=8/8 so 85, not 84."),
        ((99, 1), 100, "99+1: 9+1=10/0 9+0+1=10/10 so 100, right."),  # the highest column is held against all the rest
        ((47, 38), 185, "47+38: 7+8=15/5 4+3+1=8/18! so 85, not 185."),  # a digit too many
        ((47, 38), 8, "47+38: 7+8=15/8! 4+3+1=8/0! so 85, not 8."),  # a digit too few
        ((99, 99, 99), 297, "99+99+99: 9+9+9=27/7 9+9+9+2=29/29 so 297, right."),  # a carry of 2
    ],
)
def test_column_check_by_hand(terms, stated, check):
    assert column_check(Claim(terms, stated)) == check


@given(
    OPERANDS,
    st.one_of(st.integers(0, 10**6), st.sampled_from((0, 1, -1, 10, -10, 100, 1000, 10_000)).map(lambda d: ("off", d))),
)
def test_a_column_is_marked_exactly_where_the_claim_is_false(terms, stated):
    if isinstance(stated, tuple):
        stated = max(0, sum(terms) + stated[1])
    claim = Claim(terms, stated)
    check = column_check(claim)
    assert ("!" in check) is not claim.true
    assert check.endswith(", right.") is claim.true
    assert check.endswith(f"so {sum(terms)}, not {stated}.") is not claim.true


@given(OPERANDS, st.integers(0, 10**6))
def test_the_columns_of_a_check_are_themselves_true_sums(terms, stated):
    columns = read_claims(column_check(Claim(terms, stated)))
    assert len(columns) == max(len(str(term)) for term in terms)
    assert all(column.true for column in columns)


def test_a_check_stops_at_the_first_wrong_claim():
    right, wrong, after = Claim((1, 2), 3), Claim((3, 4), 8), Claim((8, 1), 10)
    assert check_claims([right, wrong, after]) == f"{column_check(right)} {column_check(wrong)}"


def test_a_check_of_true_claims_goes_to_the_end():
    claims = running_sums((12, 34, 56))
    assert check_claims(claims) == " ".join(column_check(claim) for claim in claims)


@given(st.integers(1, 10**6), st.integers(0, 999))
def test_a_misread_number_is_positive_and_off_by_one_in_one_digit(number, seed):
    wrong = misread(number, random.Random(seed))
    assert wrong > 0
    assert abs(wrong - number) in [10**place for place in range(len(str(number)))]


# --- reading claims out of a text ---


def test_read_claims_reads_all_sums_of_a_text_in_order():
    assert read_claims("1+2=3. So 3+4+5=13, boxed 13") == [Claim((1, 2), 3), Claim((3, 4, 5), 13)]


@pytest.mark.parametrize(
    "text",
    ["", "12=12", "1+=2", "1 + 2 = 3", "x+y=z", "1+2=", "1-2=3", "١+٢=٣", "+1+2=3", "1234567890123+1=2"],
)
def test_read_claims_passes_over_what_is_no_sum(text):
    assert read_claims(text) == []


@pytest.mark.parametrize("text", ["1+2=12345678901234", "1+2+3+4+5+6+7+8+9+10=55"])
def test_read_claims_reads_no_part_of_a_longer_sum(text):
    assert read_claims(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "1" * 300_000,
        "1" * 50_000 + "+1=" + "2" * 50_000,
        "1+" * 100_000 + "=1",
        "123456789012+" * 20_000,
        "1+1=" * 50_000,
        "=" * 300_000,
    ],
    ids=["digits", "long numbers", "many operands", "long operands", "chained", "equals"],
)
def test_read_claims_takes_linear_time_on_hostile_text(text):
    started = time.process_time()
    read_claims(text)
    assert time.process_time() - started < 2


# --- pretraining texts ---


def training_operands(text):
    return tuple(int(n) for n in re.findall(r"\d+", text.question))


def check_texts(count=400):
    rng = random.Random(7)
    return [check_text(rng) for _ in range(count)]


def test_pretraining_texts_come_from_the_training_split_only():
    texts = list(itertools.islice(pretraining_texts(0, check_share=0.5), 1000))
    assert {split_of(training_operands(text)) for text in texts} == {Split.TRAIN}


def test_pretraining_texts_are_the_same_for_the_same_seed():
    one, two = (list(itertools.islice(pretraining_texts(5, 0.5), 50)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(("check_share", "expected"), [(0.0, 0), (0.25, 250), (1.0, 1000)])
def test_the_share_of_checking_exercises_is_as_asked(check_share, expected):
    texts = itertools.islice(pretraining_texts(0, check_share), 1000)
    assert sum(text.question.startswith("Check ") for text in texts) == pytest.approx(expected, abs=55)


def test_a_solution_text_is_a_problem_with_its_plain_solution():
    text = solution_text(random.Random(1))
    assert (text.given, text.answer) == ("", "\n".join(solve(training_operands(text))))


def test_a_checking_exercise_teaches_no_wrong_sum():
    for text in check_texts():
        assert all(claim.true for claim in read_claims(text.answer)), text


def unchecked_claims(text):
    """The sums of the given solution after those that stand checked already."""
    return read_claims(re.split(r"right\.\n|not \d+\.[^.]*\.[^.]*\.\n", text.given)[-1])


def test_a_checking_exercise_checks_up_to_the_first_wrong_claim():
    for text in check_texts():
        assert check_claims(unchecked_claims(text)) in text.answer


def test_what_stands_checked_is_right_or_put_right():
    checked = [text for text in check_texts() if ": " in text.given]
    assert len(checked) > 30
    for text in checked:
        first = read_claims(text.given)[0]
        assert column_check(first) in text.given
        assert first.true or f" {first.formula}={sum(first.terms)}.\n" in text.given


def test_a_checking_exercise_ends_with_the_right_answer_of_the_problem():
    for text in check_texts():
        assert text.answer.endswith(f"\\boxed{{{sum(training_operands(text))}}}")


def test_after_a_wrong_sum_a_checking_exercise_puts_it_right_and_goes_on_to_the_end():
    later_sums = 0
    for text in check_texts():
        wrong = next((claim for claim in unchecked_claims(text) if not claim.true), None)
        if wrong is not None:
            operands = training_operands(text)
            rest = solve(operands)[operands.index(wrong.terms[1], 1) - 1 :]
            later_sums += len(rest) > 1
            assert text.answer.endswith(" " + "\n".join(rest))
    assert later_sums > 20


def test_a_checking_exercise_is_given_right_and_wrong_solutions_whole_and_half_finished():
    kinds = Counter(
        (all(claim.true for claim in unchecked_claims(text)), "boxed" in text.given) for text in check_texts()
    )
    assert all(kinds[right, whole] > 10 for right in (True, False) for whole in (True, False)), kinds


def test_pretraining_texts_hold_no_meta_action():
    for text in check_texts():
        assert not any(token in text.question + text.given + text.answer for token in META_ACTION_TOKENS)


# --- out of domain ---


def test_reasoning_gym_problems_are_the_same_for_the_same_seed():
    problems = reasoning_gym_problems("number_sequence", 3, seed=1)
    assert problems == reasoning_gym_problems("number_sequence", 3, seed=1)
    assert [p.id for p in problems] == ["number_sequence-0", "number_sequence-1", "number_sequence-2"]
    assert all(p.question and p.answer for p in problems)


def test_an_unknown_reasoning_gym_task_is_named():
    with pytest.raises(ValueError, match="reasoning-gym has no task 'juggling'"):
        reasoning_gym_problems("juggling", 1)
