"""What reflecting does to answers, on responses made by hand: changes, outcomes, self-correction."""

from collections import Counter

import pytest
from made_responses import evaluated

from satori.evaluation import reflections
from satori.evaluation.reflections import Outcome, answer_history, reflection_outcomes, self_correction, stretches
from satori.grading import AnswerForm, AnswerKind, Status

TO_RIGHT = "\\boxed{8}<|reflect|> Wait.<|explore|> \\boxed{9}"
TO_WRONG = "\\boxed{9}<|reflect|> Wait.<|explore|> \\boxed{8}"
TO_ANOTHER_WRONG = "\\boxed{7}<|reflect|> Wait.<|explore|> \\boxed{8}"
KEPT = "\\boxed{9}<|reflect|> Wait.<|continue|> \\boxed{9}"
PLAIN = "2+3=5.<|continue|> \\boxed{9}"


def change(text, **fields):
    return answer_history(evaluated(text, **fields)).change


def outcomes(text, **fields):
    return [outcome.value for outcome in answer_history(evaluated(text, **fields)).outcomes]


def histories(*texts):
    return [answer_history(evaluated(text)) for text in texts]


# --- changed answers (paper table 4) ---


@pytest.mark.parametrize(
    ("text", "expected"), [(TO_RIGHT, (False, True)), (TO_WRONG, (True, False)), (TO_ANOTHER_WRONG, (False, False))]
)
def test_another_answer_after_a_reflection_is_a_change(text, expected):
    assert change(text) == expected


def test_an_exploration_alone_is_a_search_too():
    assert change("\\boxed{8}<|explore|> \\boxed{9}") == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        KEPT,
        "\\boxed{9}<|reflect|> Wait.<|continue|> \\boxed{9.0}",
        "\\boxed{1,009}<|reflect|> Wait.<|continue|> \\boxed{1009}",
    ],
)
def test_the_same_value_again_is_no_change(text):
    assert change(text) is None


def test_another_answer_without_a_reflection_between_is_no_change():
    assert change("\\boxed{8}<|continue|> \\boxed{9}") is None


def test_an_answer_that_comes_only_after_the_reflection_is_no_change():
    assert change("2+3=6.<|reflect|> Wait.<|explore|> \\boxed{9}") is None


@pytest.mark.parametrize("text", ["2+3=6.<|reflect|> Wait.", ""])
def test_a_response_without_an_answer_changes_nothing(text):
    history = answer_history(evaluated(text))
    assert (history.change, history.changes, history.searched_after_answer) == (None, 0, False)


def test_an_answer_that_is_reflected_on_but_never_given_again_is_no_change():
    history = answer_history(evaluated("\\boxed{9}<|reflect|> Wait.<|explore|> Hm."))
    assert (history.change, history.searched_after_answer) == (None, True)


def test_the_first_answer_is_the_last_one_before_the_reflection():
    assert change("\\boxed{7} no, \\boxed{9}<|reflect|> Wait. \\boxed{8}") == (True, False)


def test_the_final_answer_of_a_response_cut_off_is_wrong():
    assert change(TO_RIGHT, finished=False) == (False, False)


def test_the_final_answer_counts_whatever_came_between():
    assert change("\\boxed{9}<|reflect|> Wait. \\boxed{8}<|reflect|> Hold on. \\boxed{9}") is None


def test_a_reflection_before_the_first_answer_does_not_count():
    text = "2+3=6.<|reflect|> Wait.<|explore|> \\boxed{8}<|reflect|> Hold on.<|explore|> \\boxed{9}"
    assert change(text) == (False, True)


def test_an_answer_inside_the_reflection_itself_is_a_second_answer():
    assert change("\\boxed{8}<|reflect|> Wait, \\boxed{9}") == (False, True)


def test_answers_are_compared_in_the_form_of_the_problem():
    form = AnswerForm(AnswerKind.LABEL, labels=("True", "False", "Uncertain|Unknown"))
    assert change("\\boxed{True}<|reflect|> \\boxed{unknown}", gold="Uncertain", form=form) == (False, True)
    assert change("\\boxed{Unknown}<|reflect|> \\boxed{Uncertain}", gold="Uncertain", form=form) is None


def test_the_last_answer_is_judged_as_it_was_graded():
    assert change(TO_RIGHT, status=Status.TIMED_OUT) == (False, False)


def test_each_pair_of_answers_is_compared_once(monkeypatch):
    asked = []

    def same(one, other, form):
        asked.append((one, other))
        return one == other

    monkeypatch.setattr(reflections, "same_answer", same)
    text = "\\boxed{8}<|reflect|> \\boxed{7}<|reflect|> \\boxed{8}<|reflect|> \\boxed{7}"
    answer_history(evaluated(text))
    assert len(asked) == len(set(asked)) and ("8", "9") in asked and ("8", "7") in asked


# --- how often ---


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (PLAIN, 0),
        (KEPT, 0),
        (TO_RIGHT, 1),
        ("\\boxed{9}<|reflect|> \\boxed{8}<|reflect|> \\boxed{9}", 2),  # there and back
        ("\\boxed{7}<|reflect|> \\boxed{8}<|explore|> \\boxed{8.0}<|reflect|> \\boxed{9}", 2),
        ("\\boxed{7}<|reflect|> Hm.<|reflect|> \\boxed{8}", 1),
        ("\\boxed{7} \\boxed{8} \\boxed{9}", 0),  # no search between
    ],
)
def test_changes_are_counted_from_one_standing_answer_to_the_next(text, changes):
    assert answer_history(evaluated(text)).changes == changes


# --- what came of each reflection ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEPT, ["confirms_right"]),
        ("\\boxed{9}<|reflect|> Wait. \\boxed{9.00}", ["confirms_right"]),
        ("\\boxed{8}<|reflect|> Wait. \\boxed{8}", ["confirms_wrong"]),
        (TO_RIGHT, ["catches_error"]),
        (TO_WRONG, ["breaks_right"]),
        (TO_ANOTHER_WRONG, ["changes_wrong"]),
        ("2+3=6.<|reflect|> No.<|explore|> \\boxed{9}", ["no_answer_before"]),
        ("\\boxed{9}<|reflect|> Hm.", ["no_answer_after"]),
        (PLAIN, []),
        ("\\boxed{8}<|explore|> \\boxed{9}", []),  # an exploration is no reflection
        ("<|reflect|>", ["no_answer_before"]),
    ],
)
def test_a_reflection_is_told_by_the_answers_before_and_after_it(text, expected):
    assert outcomes(text) == expected


def test_each_reflection_is_judged_by_the_answer_before_the_next_one():
    text = "\\boxed{8}<|reflect|> \\boxed{8}<|reflect|> No.<|explore|> \\boxed{9}<|reflect|> \\boxed{7} \\boxed{6}"
    assert outcomes(text) == ["confirms_wrong", "catches_error", "breaks_right"]


def test_an_exploration_belongs_to_the_reflection_before_it():
    assert outcomes("\\boxed{8}<|reflect|> \\boxed{8}<|explore|> \\boxed{9}") == ["catches_error"]


def test_a_change_belongs_to_the_reflection_that_led_to_it():
    assert outcomes("\\boxed{8}<|reflect|> Hm.<|reflect|> No. \\boxed{9}") == ["no_answer_after", "catches_error"]


def test_the_answer_before_a_reflection_may_come_from_an_exploration():
    assert outcomes("\\boxed{8}<|explore|> \\boxed{9}<|reflect|> \\boxed{9}") == ["confirms_right"]


def test_the_same_answer_again_is_confirmed_even_in_a_response_cut_off():
    assert outcomes(KEPT, finished=False) == ["confirms_right"]
    assert outcomes(TO_RIGHT, finished=False) == ["changes_wrong"]


def test_outcomes_are_counted_over_all_responses():
    counts = reflection_outcomes(histories(KEPT, KEPT, TO_RIGHT, TO_WRONG, PLAIN))
    assert counts == {kind.value: 0 for kind in Outcome} | {"confirms_right": 2, "catches_error": 1, "breaks_right": 1}


# --- self-correction ---


def test_self_correction_counts_both_ways_and_how_often_going_over_an_answer_changed_it():
    there_and_back = "\\boxed{9}<|reflect|> \\boxed{8}<|reflect|> \\boxed{9}"
    assert self_correction(
        histories(TO_RIGHT, TO_RIGHT, TO_RIGHT, TO_WRONG, TO_ANOTHER_WRONG, KEPT, PLAIN, there_and_back, "none"),
    ) == {
        "reflected_on": 7,
        "changed": 5,
        "changed_rate": 5 / 7,
        "changed_more_than_once": 1,
        "wrong_to_right_count": 3,
        "right_to_wrong_count": 1,
        "wrong_to_right": 0.75,
        "right_to_wrong": 0.25,
    }


@pytest.mark.parametrize(
    ("texts", "changed", "rate"),
    [([KEPT, PLAIN], 0, 0.0), ([TO_ANOTHER_WRONG], 1, 1.0), ([PLAIN], 0, None), ([], 0, None)],
)
def test_without_a_decided_change_there_are_no_shares(texts, changed, rate):
    shown = self_correction(histories(*texts))
    assert (shown["changed"], shown["changed_rate"]) == (changed, rate)
    assert (shown["wrong_to_right"], shown["right_to_wrong"]) == (None, None)


def test_stretches_cover_hostile_text():
    text = "\\boxed{" * 50 + "<|reflect|>" * 40 + "\\boxed{1}" * 30 + "\x00<|reflec"
    assert Counter(part.answer for part in stretches(text)) == {None: 40, "1": 1}
