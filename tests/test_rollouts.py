"""Initial states, rollouts of a scripted engine, their outcome and reward (satori.reinforcement.rollouts)."""

import math
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from satori.engines.base import Sampling
from satori.engines.scripted import ScriptedEngine
from satori.grading import grade
from satori.reinforcement import rollouts as module
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome, RewardBreakdown
from satori.reinforcement.rollouts import InitialState, Rollout, StartWeights, collect, draw_states, judge, summarize
from satori.types import Completion, FinishReason, Problem

PROBLEM = Problem("p", "2+3=?", "5")
BETA = 0.5


def state(number, start=Start.PROBLEM):
    return InitialState(PROBLEM, start, (number,))


STATES = {start: [state(10 * n + i, start) for i in range(5)] for n, start in enumerate(Start)}


def draw(count=100, samples=1, seed=0, states=STATES, **weights):
    return draw_states(states, StartWeights(**weights), count, samples, seed)


# --- drawing initial states ---


def test_a_start_of_weight_zero_is_never_drawn():
    drawn = draw(1000, problem=1, positive=0, negative=1)
    assert {s.start for s in drawn} == {Start.PROBLEM, Start.NEGATIVE}


def test_starts_are_drawn_in_proportion_to_their_weights():
    counts = Counter(s.start for s in draw(4000, problem=2, positive=1, negative=1))
    assert counts[Start.PROBLEM] == pytest.approx(2000, abs=130)  # four standard deviations
    assert counts[Start.POSITIVE] == pytest.approx(1000, abs=110)
    assert counts[Start.NEGATIVE] == pytest.approx(1000, abs=110)


def test_the_size_of_a_buffer_does_not_matter():
    states = {Start.PROBLEM: [state(0)], Start.POSITIVE: [state(i, Start.POSITIVE) for i in range(1, 100)]}
    counts = Counter(s.start for s in draw(2000, states=states))
    assert counts[Start.PROBLEM] == pytest.approx(1000, abs=90)


def test_every_state_of_a_buffer_is_drawn_alike():
    counts = Counter(draw(5000, positive=0, negative=0))
    assert set(counts) == set(STATES[Start.PROBLEM])
    assert all(count == pytest.approx(1000, abs=115) for count in counts.values())


@pytest.mark.parametrize("empty", [{Start.POSITIVE: []}, {}])
def test_an_empty_or_missing_buffer_is_passed_over(empty):
    drawn = draw(200, states={Start.PROBLEM: STATES[Start.PROBLEM], **empty})
    assert {s.start for s in drawn} == {Start.PROBLEM}


@pytest.mark.parametrize(
    ("states", "weights"),
    [
        ({}, {}),
        ({Start.PROBLEM: []}, {}),
        (STATES, {"problem": 0, "positive": 0, "negative": 0}),
        ({Start.PROBLEM: STATES[Start.PROBLEM]}, {"problem": 0}),
    ],
)
def test_with_nothing_left_to_draw_from_there_is_an_error(states, weights):
    with pytest.raises(ValueError, match="no initial states to draw from"):
        draw(4, states=states, **weights)


def test_the_copies_of_a_state_stand_together():
    drawn = draw(40, samples=8)
    assert all(len(set(drawn[i : i + 8])) == 1 for i in range(0, 40, 8))
    assert len(set(drawn)) > 1


def test_the_last_state_has_fewer_copies_where_the_count_is_no_multiple():
    drawn = draw(10, samples=4)
    assert len(drawn) == 10
    assert drawn[8] == drawn[9]


def test_the_same_seed_draws_the_same_states():
    assert draw(50, seed=1) == draw(50, seed=1)


def test_another_seed_draws_other_states():
    assert draw(50, seed=1) != draw(50, seed=2)


# --- judging ---


@pytest.mark.parametrize(
    ("text", "reason", "outcome"),
    [
        ("\\boxed{5}", FinishReason.STOP, Outcome.RIGHT),
        ("\\boxed{6}", FinishReason.STOP, Outcome.WRONG),
        ("no answer", FinishReason.STOP, Outcome.WRONG),
        ("", FinishReason.STOP, Outcome.WRONG),
        ("\\boxed{5}", FinishReason.LENGTH, Outcome.TRUNCATED),
        ("\\boxed{6}", FinishReason.LENGTH, Outcome.TRUNCATED),
    ],
)
def test_judge(text, reason, outcome):
    assert judge(Completion((1,), reason), grade(text, "5")) is outcome


# --- collecting rollouts ---


def roll(tokenizer, text, start=Start.PROBLEM, prefix="", max_new_tokens=100, reward_model=None):
    """The one rollout of an engine that says ``text``."""

    def encode(part):
        return tuple(tokenizer.encode(part, add_special_tokens=False))

    initial = InitialState(PROBLEM, start, encode("2+3=?"), encode(prefix))
    engine = ScriptedEngine(lambda context: encode(text), tokenizer.eos_token_id)
    sampling = Sampling(max_new_tokens=max_new_tokens)
    [rollout] = collect(engine, tokenizer, reward_model, [initial], sampling, BETA, seed=0)
    return rollout


@pytest.mark.parametrize("start", [Start.POSITIVE, Start.NEGATIVE])
def test_a_right_answer_in_the_restart_prefix_pays_nothing_for_an_empty_response(tokenizer, start):
    rollout = roll(tokenizer, "", start, prefix="2+3=5. \\boxed{5}<|reflect|>")
    assert rollout.response == ""
    assert rollout.outcome is Outcome.WRONG
    assert rollout.reward == RewardBreakdown(rule=-1.0, preference=0.0, bonus=-BETA if start is Start.POSITIVE else 0.0)


def test_a_wrong_answer_in_the_restart_prefix_costs_nothing(tokenizer):
    rollout = roll(tokenizer, " Wait.<|explore|> \\boxed{5}", Start.NEGATIVE, prefix="\\boxed{6}<|reflect|>")
    assert rollout.outcome is Outcome.RIGHT
    assert rollout.reward == RewardBreakdown(rule=0.0, preference=0.0, bonus=BETA)


def test_the_sequence_keeps_context_and_sampled_ids_apart(tokenizer):
    rollout = roll(tokenizer, "ab", Start.NEGATIVE, prefix="c<|reflect|>")
    context, sampled = rollout.sequence
    assert tokenizer.decode(context) == "2+3=?c<|reflect|>"
    assert sampled == (*tokenizer.encode("ab", add_special_tokens=False), tokenizer.eos_token_id)


def test_the_engine_starts_from_prompt_and_prefix(tokenizer):
    seen = []
    states = [InitialState(PROBLEM, Start.NEGATIVE, (1, 2), (3,)), InitialState(PROBLEM, Start.PROBLEM, (4,))]
    engine = ScriptedEngine(lambda context: seen.append(context) or (), tokenizer.eos_token_id)
    collect(engine, tokenizer, None, states, Sampling(), BETA, seed=0)
    assert seen == [(1, 2, 3), (4,)]


def test_meta_actions_stay_in_the_response_and_the_end_token_does_not(tokenizer):
    text = "2+3=6.<|reflect|> Wait.<|explore|> \\boxed{5}"
    assert roll(tokenizer, text).response == text


def test_a_response_cut_off_is_truncated_even_with_the_answer_in_it(tokenizer):
    rollout = roll(tokenizer, "\\boxed{5} and more", max_new_tokens=10)
    assert rollout.response == "\\boxed{5} "
    assert rollout.outcome is Outcome.TRUNCATED
    assert rollout.reward.rule == -1.0


def test_a_response_that_ends_exactly_at_the_limit_is_not_truncated(tokenizer):
    assert roll(tokenizer, "\\boxed{5}", max_new_tokens=10).outcome is Outcome.RIGHT  # nine bytes and the end


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_reward_model_scores_context_and_sampled_ids(tokenizer, monkeypatch, device):
    asked = []

    def logits(model, sequences, token_budget):
        asked.extend(sequences)
        return [math.log(3)]

    monkeypatch.setattr(module, "reward_logits", logits)
    rollout = roll(tokenizer, "\\boxed{6}", Start.POSITIVE, prefix="x<|reflect|>", reward_model=on(device))
    assert asked == [rollout.sequence]
    assert rollout.reward.preference == pytest.approx(0.75)  # 3 / (1 + 3)
    assert rollout.reward.total == pytest.approx(-1 + 0.75 - 0.5)


def test_on_a_gpu_finished_responses_are_scored_while_others_are_generated(tokenizer, monkeypatch):
    scored = threading.Event()

    def logits(model, sequences, token_budget):
        scored.set()
        return [float(len(response)) for _, response in sequences]

    class Slow(ScriptedEngine):
        def generate(self, prompts, sampling, seed, first=0):
            for index, completion in super().generate(prompts, sampling, seed):
                assert index < 4 or scored.wait(10)
                yield index, completion

    monkeypatch.setattr(module, "reward_logits", logits)
    engine = Slow(lambda p: [5] * p[0], tokenizer.eos_token_id)
    states = [state(n) for n in range(1, 7)]
    rollouts = collect(engine, tokenizer, on("cuda"), states, Sampling(), BETA, seed=0, token_budget=8)
    expected = [1 / (1 + math.exp(-len(r.completion.token_ids))) for r in rollouts]
    assert [r.reward.preference for r in rollouts] == pytest.approx(expected)


def test_the_engine_sleeps_before_a_reward_model_scores_after_it(tokenizer, monkeypatch):
    order = []

    class Sleepy(ScriptedEngine):
        def sleep(self):
            order.append("asleep")

    def logits(model, sequences, token_budget):
        order.append(torch.is_autocast_enabled("cpu"))
        return [0.0]

    monkeypatch.setattr(module, "reward_logits", logits)
    engine = Sleepy(lambda p: [5], tokenizer.eos_token_id)
    collect(engine, tokenizer, on("cpu"), [state(1)], Sampling(), BETA, seed=0, precision="bfloat16")
    assert order == ["asleep", True]


def on(device):
    """What scoring asks of a reward model that does not compute."""
    return SimpleNamespace(device=torch.device(device))


def test_rollouts_come_in_the_order_of_their_states(tokenizer):
    class Backwards(ScriptedEngine):
        def generate(self, prompts, sampling, seed, first=0):
            return reversed(list(super().generate(prompts, sampling, seed)))

    answers = {(1,): "\\boxed{5}", (2,): "\\boxed{6}"}
    engine = Backwards(lambda p: tokenizer.encode(answers[p], add_special_tokens=False), tokenizer.eos_token_id)
    collected = collect(engine, tokenizer, None, [state(1), state(2)], Sampling(), BETA, seed=0)
    assert [r.outcome for r in collected] == [Outcome.RIGHT, Outcome.WRONG]


# --- summary ---


def made(start, outcome, length, response="", reward=(0.0, 0.0, 0.0)):
    reason = FinishReason.LENGTH if outcome is Outcome.TRUNCATED else FinishReason.STOP
    return Rollout(state(0, start), Completion((7,) * length, reason), response, outcome, RewardBreakdown(*reward))


ROLLOUTS = [
    made(Start.PROBLEM, Outcome.RIGHT, 4, "a<|continue|> b", (0.0, 0.5, 0.0)),
    made(Start.PROBLEM, Outcome.WRONG, 6, "a<|reflect|> b<|explore|> c", (-1.0, 0.3, 0.0)),
    made(Start.PROBLEM, Outcome.TRUNCATED, 20, "", (-1.0, 0.2, 0.0)),
    made(Start.NEGATIVE, Outcome.RIGHT, 10, "a<|explore|> b<|continue|> c", (0.0, 0.6, 0.5)),
]


def test_summarize_averages_the_parts_of_the_reward():
    summary = summarize(ROLLOUTS)
    assert summary["reward"] == pytest.approx((0.5 - 0.7 - 0.8 + 1.1) / 4)
    assert summary["reward_rule"] == -0.5
    assert summary["reward_preference"] == pytest.approx(0.4)
    assert summary["reward_bonus"] == 0.125


def test_summarize_averages_outcomes_and_lengths():
    summary = summarize(ROLLOUTS)
    assert (summary["accuracy"], summary["truncation_rate"], summary["response_length"]) == (0.5, 0.25, 10)


def test_summarize_tells_the_starts_apart():
    summary = summarize(ROLLOUTS)
    assert (summary["accuracy_problem"], summary["length_problem"]) == (pytest.approx(1 / 3), 10)
    assert (summary["accuracy_negative"], summary["length_negative"]) == (1.0, 10)


def test_summarize_says_nothing_of_a_start_that_was_not_drawn():
    assert not [name for name in summarize(ROLLOUTS) if "positive" in name]


def test_summarize_counts_meta_actions():
    summary = summarize(ROLLOUTS)
    counts = [summary[f"{name}_per_response"] for name in ("continue", "reflect", "explore")]
    assert counts == [0.5, 0.25, 0.5]
