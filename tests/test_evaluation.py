"""Analyses of hand-made responses: intervals, self-correction, summaries."""

import pytest

from satori.evaluation.analyses import (
    EvaluatedResponse,
    accuracy,
    changed_answer,
    mean_plain_length,
    self_correction,
    summarize,
    wilson,
)
from satori.evaluation.stage import EvaluateSettings, problem_sets, read_responses, record
from satori.grading import grade
from satori.run_folder import write_jsonl
from satori.sampling import Response
from satori.types import Completion, FinishReason, Problem


def evaluated(response, gold="9", **fields):
    graded = grade(response, gold)
    defaults = {
        "problem_id": "p", "set_name": "test", "level": 1, "question": "?", "tokens": 10, "finished": True,
        "correct": graded.correct, "answers": graded.answers, "plain_tokens": 0,
    }  # fmt: skip
    return EvaluatedResponse(response=response, gold=gold, **defaults | fields)


TO_RIGHT = evaluated("\\boxed{8}<|reflect|> Wait.<|explore|> \\boxed{9}")
TO_WRONG = evaluated("\\boxed{9}<|reflect|> Wait.<|explore|> \\boxed{8}")
TO_ANOTHER_WRONG = evaluated("\\boxed{7}<|reflect|> Wait.<|explore|> \\boxed{8}")
KEPT = evaluated("\\boxed{9}<|reflect|> Wait.<|continue|> \\boxed{9}")
PLAIN = evaluated("2+3=5.<|continue|> \\boxed{9}")


# --- intervals ---


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (50, 100, 0.4038, 0.5962),
        (0, 10, 0.0, 0.2775),  # 3.8416 / 13.8416
        (10, 10, 0.7225, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(right, count, low, high):
    assert wilson(right, count) == pytest.approx([low, high], abs=1e-4)


def test_accuracy_comes_with_its_interval_and_count():
    assert accuracy([PLAIN, TO_WRONG]) == {"accuracy": 0.5, "ci95": wilson(1, 2), "count": 2}


# --- changed answers ---


@pytest.mark.parametrize(
    ("response", "change"), [(TO_RIGHT, (False, True)), (TO_WRONG, (True, False)), (TO_ANOTHER_WRONG, (False, False))]
)
def test_another_answer_after_a_reflection_is_a_change(response, change):
    assert changed_answer(response) == change


def test_an_exploration_alone_is_a_search_too():
    assert changed_answer(evaluated("\\boxed{8}<|explore|> \\boxed{9}")) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{9}<|reflect|> Wait.<|continue|> \\boxed{9}",
        "\\boxed{9}<|reflect|> Wait.<|continue|> \\boxed{9.0}",
        "\\boxed{1,009}<|reflect|> Wait.<|continue|> \\boxed{1009}",
    ],
)
def test_the_same_value_again_is_no_change(text):
    assert changed_answer(evaluated(text)) is None


def test_another_answer_without_a_reflection_between_is_no_change():
    assert changed_answer(evaluated("\\boxed{8}<|continue|> \\boxed{9}")) is None


def test_an_answer_that_comes_only_after_the_reflection_is_no_change():
    assert changed_answer(evaluated("2+3=6.<|reflect|> Wait.<|explore|> \\boxed{9}")) is None


def test_a_response_without_an_answer_changes_nothing():
    assert changed_answer(evaluated("2+3=6.<|reflect|> Wait.")) is None
    assert changed_answer(evaluated("")) is None


def test_an_answer_that_is_reflected_on_but_never_given_again_is_no_change():
    assert changed_answer(evaluated("\\boxed{9}<|reflect|> Wait.<|explore|> Hm.")) is None


def test_the_first_answer_is_the_last_one_before_the_reflection():
    assert changed_answer(evaluated("\\boxed{7} no, \\boxed{9}<|reflect|> Wait. \\boxed{8}")) == (True, False)


def test_the_final_answer_of_a_response_cut_off_is_wrong():
    cut_off = evaluated(TO_RIGHT.response, finished=False, correct=False)
    assert changed_answer(cut_off) == (False, False)


def test_the_final_answer_counts_whatever_came_between():
    there_and_back = "\\boxed{9}<|reflect|> Wait. \\boxed{8}<|reflect|> Hold on. \\boxed{9}"
    assert changed_answer(evaluated(there_and_back)) is None


def test_a_reflection_before_the_first_answer_does_not_count():
    text = "2+3=6.<|reflect|> Wait.<|explore|> \\boxed{8}<|reflect|> Hold on.<|explore|> \\boxed{9}"
    assert changed_answer(evaluated(text)) == (False, True)


def test_an_answer_inside_the_reflection_itself_is_a_second_answer():
    assert changed_answer(evaluated("\\boxed{8}<|reflect|> Wait, \\boxed{9}")) == (False, True)


def test_self_correction_counts_both_ways():
    responses = [TO_RIGHT, TO_RIGHT, TO_RIGHT, TO_WRONG, TO_ANOTHER_WRONG, KEPT, PLAIN]
    assert self_correction(responses) == {
        "changed": 5,
        "wrong_to_right_count": 3,
        "right_to_wrong_count": 1,
        "wrong_to_right": 0.75,
        "right_to_wrong": 0.25,
    }


@pytest.mark.parametrize(("responses", "changed"), [([KEPT, PLAIN], 0), ([TO_ANOTHER_WRONG], 1), ([], 0)])
def test_without_a_decided_change_there_are_no_shares(responses, changed):
    shown = self_correction(responses)
    assert shown["changed"] == changed
    assert (shown["wrong_to_right"], shown["right_to_wrong"]) == (None, None)


# --- summary ---

RESPONSES = [
    evaluated("\\boxed{9}", level=1, tokens=4),
    evaluated("\\boxed{8}<|reflect|> Wait.<|explore|> \\boxed{9}", level=1, tokens=8),
    evaluated("a<|continue|> b<|continue|> \\boxed{7}", level=2, tokens=6),
    evaluated("a<|reflect|> b", level=2, tokens=30, finished=False),
    evaluated("\\boxed{8}", set_name="harder", level=6, tokens=100),
    evaluated("\\boxed{9}", set_name="harder", level=6, tokens=100),
    evaluated("\\boxed{9}", set_name="number_sequence", level=0, tokens=100, finished=False, correct=False),
]


def test_the_summary_is_of_the_main_set_alone():
    summary = summarize(RESPONSES, "test")
    assert summary["count"] == 4
    assert summary["accuracy"] == 0.5
    assert summary["accuracy_ci95"] == wilson(2, 4)
    assert summary["reflect_rate"] == 0.5
    assert summary["mean_length"] == 12
    assert summary["truncation_rate"] == 0.25
    assert summary["changed"] == summary["wrong_to_right_count"] == 1


def test_the_summary_tells_the_levels_apart():
    summary = summarize(RESPONSES, "test")
    assert summary["by_level"] == {
        "1": {"accuracy": 1.0, "ci95": wilson(2, 2), "count": 2},
        "2": {"accuracy": 0.0, "ci95": wilson(0, 2), "count": 2},
    }
    assert summary["length_by_level"] == {"1": 6, "2": 18}
    assert summary["reflect_rate_by_level"] == {"1": 0.5, "2": 0.5}


def test_the_summary_counts_the_meta_actions_of_a_response():
    assert summarize(RESPONSES, "test")["actions_per_response"] == {"continue": 0.5, "reflect": 0.5, "explore": 0.25}


def test_the_summary_has_each_out_of_domain_set():
    assert summarize(RESPONSES, "test")["ood"] == {
        "harder": {"accuracy": 0.5, "ci95": wilson(1, 2), "count": 2},
        "number_sequence": {"accuracy": 0.0, "ci95": wilson(0, 1), "count": 1},
    }


def test_without_responses_to_the_main_set_there_is_no_summary():
    with pytest.raises(ValueError, match="no responses to the set 'exam'"):
        summarize(RESPONSES, "exam")


def test_mean_plain_length_is_of_the_reference_solutions():
    assert mean_plain_length([evaluated("", plain_tokens=4), evaluated("", plain_tokens=7)]) == 5.5


# --- records ---


def test_a_record_has_the_length_of_the_plain_solution_with_its_end_token(tokenizer):
    problem = Problem("p", "2+3=?", "5", 1, ("2+3=5.", "\\boxed{5}"))  # 6 + 1 + 9 bytes, and the end
    completion = Completion((1, 2, 3), FinishReason.LENGTH)
    shown = record("test", Response(problem, (), completion, "\\boxed{5}", grade("\\boxed{5}", "5")), tokenizer)
    assert (shown.plain_tokens, shown.tokens, shown.finished) == (17, 3, False)
    assert shown.correct is False  # cut off: it never gave its final answer


def test_a_record_without_a_reference_solution_has_no_plain_length(tokenizer):
    response = Response(Problem("p", "?", "5"), (), Completion((1,), FinishReason.STOP), "", grade("", "5"))
    assert record("other", response, tokenizer).plain_tokens == 0


def test_responses_are_read_back_as_they_were_written(tmp_path):
    write_jsonl(tmp_path / "r.jsonl", [vars(response) for response in RESPONSES])
    assert read_responses(tmp_path / "r.jsonl") == RESPONSES


def test_the_evaluation_sets_are_the_same_every_time_and_share_no_problem():
    settings = EvaluateSettings(problems=30, harder_problems=10, other_problems=5)
    sets = problem_sets(settings)
    assert {name: len(group) for name, group in sets.items()} == {"test": 30, "harder": 10, "number_sequence": 5}
    assert sets == problem_sets(settings)
    assert len({p.id for group in sets.values() for p in group}) == 45
