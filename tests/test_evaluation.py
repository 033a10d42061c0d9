"""Analyses of hand-made responses: accuracy, meta-actions, several samples, the summary."""

import json

import pytest
from made_responses import evaluated

from satori.evaluation import samples
from satori.evaluation.analyses import accuracy, analyse, mean_plain_length, summarize
from satori.evaluation.meta_actions import action_positions, action_transitions
from satori.evaluation.samples import SamplingRates, majority_verdicts, sampling_rates
from satori.evaluation.statistics import wilson

RIGHT, WRONG = "\\boxed{9}", "\\boxed{8}"


def group(*texts, problem="p", **fields):
    """Samples of one problem."""
    return [evaluated(text, problem_id=problem, sample=number, **fields) for number, text in enumerate(texts)]


# --- accuracy ---


def test_accuracy_comes_with_its_interval_and_count():
    responses = [*group(RIGHT, problem="a"), *group(WRONG, problem="b")]
    assert accuracy(responses) == {"accuracy": 0.5, "ci95": wilson(1, 2), "count": 2}


def test_of_several_samples_accuracy_is_the_mean_and_problems_are_what_is_counted():
    responses = [*group(RIGHT, WRONG, WRONG, WRONG, problem="a"), *group(RIGHT, problem="b")]
    assert accuracy(responses) == {"accuracy": 0.625, "ci95": wilson(1.25, 2), "count": 2}


# --- meta-actions ---


def test_positions_are_tenths_of_the_response_in_characters():
    text = "a" * 24 + "<|reflect|>" + "b" * 4 + "<|explore|>"  # the tokens begin at 24 and 39 of 50
    assert action_positions([evaluated(text)]) == {
        "continue": [0] * 10,
        "reflect": [0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        "explore": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    }


def test_positions_add_up_over_responses_and_reach_both_ends():
    first = evaluated("<|continue|>" + "a" * 200)
    last = evaluated("a" * 200 + "<|continue|>")
    positions = action_positions([first, last, first, evaluated("")])
    assert positions["continue"] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_transitions_run_from_start_to_end():
    responses = [
        evaluated("a<|continue|> b<|continue|> c<|reflect|> d<|explore|> e"),
        evaluated("<|reflect|> d<|reflect|> e"),
        evaluated("plain"),
        evaluated("", finished=False),
        evaluated("a<|continue|> b", finished=False),
    ]
    nothing = {"continue": 0, "reflect": 0, "explore": 0, "end": 0, "cut_off": 0}
    assert action_transitions(responses) == {
        "start": nothing | {"continue": 2, "reflect": 1, "end": 1, "cut_off": 1},
        "continue": nothing | {"continue": 1, "reflect": 1, "cut_off": 1},
        "reflect": nothing | {"reflect": 1, "explore": 1, "end": 1},
        "explore": nothing | {"end": 1},
    }


# --- several samples a problem ---


def test_one_sample_a_problem_has_no_rates():
    assert sampling_rates(group(RIGHT)) is None
    assert sampling_rates([*group(RIGHT, WRONG, problem="a"), *group(RIGHT, problem="b")]) is None
    assert sampling_rates([]) is None


def test_rates_of_three_samples_by_hand():
    responses = [
        *group(WRONG, RIGHT, "\\boxed{9.0}", problem="a"),  # 2 of 3 right, majority right from the third on
        *group("\\boxed{7}", WRONG, "no answer", problem="b"),
    ]
    assert sampling_rates(responses) == SamplingRates(
        samples=3,
        pass_at_k={"1": pytest.approx(1 / 3), "2": 0.5, "3": 0.5},
        majority_at_k={"1": 0.0, "2": 0.0, "3": 0.5},
        best_of_k=None,
    )


def test_k_goes_up_in_powers_of_two_to_the_smallest_number_of_samples():
    responses = [*group(*[RIGHT] * 6, problem="a"), *group(*[WRONG] * 9, problem="b")]
    rates = sampling_rates(responses)
    assert rates is not None and rates.samples == 6
    assert rates.pass_at_k == {"1": 0.5, "2": 0.5, "4": 0.5, "6": 0.5}
    assert list(sampling_rates(group(*[RIGHT] * 4)).pass_at_k) == ["1", "2", "4"]


def test_pass_at_k_uses_every_sample_of_a_problem():
    responses = [*group(WRONG, WRONG, RIGHT, problem="a"), *group(WRONG, WRONG, problem="b")]
    assert sampling_rates(responses).pass_at_k == {"1": pytest.approx(1 / 6), "2": pytest.approx(1 / 3)}


def test_best_of_k_takes_the_highest_score_of_the_first_k():
    scored = [
        evaluated(text, sample=number, score=score)
        for number, (text, score) in enumerate([(WRONG, 0.5), (RIGHT, 0.9), (RIGHT, -1.0), (WRONG, 2.0)])
    ]
    assert sampling_rates(scored).best_of_k == {"1": 0.0, "2": 1.0, "4": 0.0}
    assert sampling_rates([*scored[:3], evaluated(WRONG, sample=3)]).best_of_k is None


def test_responses_cut_off_or_without_an_answer_cast_no_vote():
    votes = [
        evaluated(WRONG, sample=0, finished=False),
        evaluated(WRONG, sample=1, finished=False),
        evaluated("none", sample=2),
        evaluated(RIGHT, sample=3),
    ]
    assert majority_verdicts(votes, [2, 3, 4]) == [False, False, True]


def test_of_equally_many_votes_the_earliest_answer_wins():
    assert majority_verdicts(group(RIGHT, WRONG), [2]) == [True]
    assert majority_verdicts(group(WRONG, RIGHT), [2]) == [False]


def test_the_votes_of_every_k_compare_each_pair_once(monkeypatch):
    asked = []

    def same(one, other, form):
        asked.append((one, other))
        return one == other

    monkeypatch.setattr(samples, "same_answer", same)
    majority_verdicts(group("\\boxed{1}", "\\boxed{2}", "\\boxed{3}", "\\boxed{2}"), [1, 2, 4])
    assert sorted(asked) == [("1", "2"), ("1", "3"), ("2", "3")]


# --- everything of one set ---

RESPONSES = [
    evaluated("\\boxed{9}", problem_id="a", level=1, tokens=4),
    evaluated("\\boxed{8}<|reflect|> Wait.<|explore|> \\boxed{9}", problem_id="b", level=1, tokens=8),
    evaluated("a<|continue|> b<|continue|> \\boxed{7}", problem_id="c", level=2, tokens=6),
    evaluated("a<|reflect|> b", problem_id="d", level=2, tokens=30, finished=False),
    evaluated("\\boxed{8}", problem_id="e", set_name="harder", level=6, tokens=100),
    evaluated("\\boxed{9}", problem_id="f", set_name="harder", level=6, tokens=100),
    evaluated("\\boxed{9}", problem_id="g", set_name="number_sequence", level=0, tokens=100, finished=False),
]


def test_the_summary_is_of_the_main_set_alone():
    summary = summarize(RESPONSES, "test")
    assert summary["count"] == summary["responses"] == 4
    assert summary["accuracy"] == 0.5
    assert summary["accuracy_ci95"] == wilson(2, 4)
    assert summary["reflect_rate"] == 0.5
    assert summary["mean_length"] == 12
    assert summary["truncation_rate"] == 0.25
    assert summary["changed"] == summary["wrong_to_right_count"] == summary["reflected_on"] == 1
    assert summary["statuses"] == {
        "correct": 2, "wrong": 1, "no_answer": 1, "timed_out": 0, "unparseable_gold": 0,
    }  # fmt: skip
    assert {kind: count for kind, count in summary["reflections"].items() if count} == {
        "catches_error": 1,
        "no_answer_before": 1,
    }


def test_the_summary_tells_the_levels_apart():
    summary = summarize(RESPONSES, "test")
    assert summary["by_level"] == {
        "1": {"accuracy": 1.0, "ci95": wilson(2, 2), "count": 2},
        "2": {"accuracy": 0.0, "ci95": wilson(0, 2), "count": 2},
    }
    assert summary["length_by_level"] == {"1": 6, "2": 18}
    assert summary["reflect_rate_by_level"] == {"1": 0.5, "2": 0.5}
    assert summary["truncation_by_level"] == {"1": 0.0, "2": 0.5}


def test_the_summary_counts_the_meta_actions():
    summary = summarize(RESPONSES, "test")
    assert summary["action_counts"] == {"continue": 2, "reflect": 2, "explore": 1}
    assert summary["actions_per_response"] == {"continue": 0.5, "reflect": 0.5, "explore": 0.25}
    assert sum(summary["action_positions"]["continue"]) == 2
    assert summary["action_transitions"]["reflect"] == {
        "continue": 0, "reflect": 0, "explore": 1, "end": 0, "cut_off": 1,
    }  # fmt: skip


def test_the_summary_has_each_out_of_domain_set():
    assert summarize(RESPONSES, "test")["ood"] == {
        "harder": {"accuracy": 0.5, "ci95": wilson(1, 2), "count": 2},
        "number_sequence": {"accuracy": 0.0, "ci95": wilson(0, 1), "count": 1},
    }


def test_without_responses_to_the_main_set_there_is_no_summary():
    with pytest.raises(ValueError, match="no responses to the set 'exam'"):
        summarize(RESPONSES, "exam")


def test_an_analysis_is_json_and_the_summary_adds_the_other_sets():
    analysis = analyse(RESPONSES[:4])
    assert json.loads(json.dumps(analysis)) == analysis
    assert summarize(RESPONSES, "test") == analysis | {"ood": summarize(RESPONSES, "test")["ood"]}
    assert analysis["sampling"] is None


def test_an_analysis_of_several_samples_has_their_rates():
    analysis = analyse(group(WRONG, RIGHT))
    assert json.loads(json.dumps(analysis)) == analysis
    assert (analysis["count"], analysis["responses"], analysis["accuracy"]) == (1, 2, 0.5)
    assert analysis["sampling"] == {
        "samples": 2, "pass_at_k": {"1": 0.5, "2": 1.0}, "majority_at_k": {"1": 0.0, "2": 0.0}, "best_of_k": None,
    }  # fmt: skip


def test_there_is_no_analysis_of_nothing():
    with pytest.raises(ValueError, match="no responses to analyse"):
        analyse([])


def test_mean_plain_length_is_of_the_reference_solutions():
    assert mean_plain_length([evaluated("", plain_tokens=4), evaluated("", plain_tokens=7)]) == 5.5
