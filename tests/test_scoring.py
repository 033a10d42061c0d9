"""Scores of given sequences against naive computations, one sequence at a time (satori.scoring)."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_torch_engine import granite, reference_logprobs

from satori.scoring import (
    by_length,
    check_padding,
    make_batch,
    policy_logprobs,
    response_values,
    reward_logits,
    sequence_scores,
    token_logprobs,
    token_values,
)
from satori.tiny_model import build_tokenizer

close = torch.testing.assert_close
PAD, EOS = 0, 1


def sequences_of(shape, seed=0):
    """Random (prompt, response) pairs of given lengths, without padding tokens inside."""
    rng = random.Random(seed)
    return [tuple(tuple(rng.randrange(2, 40) for _ in range(n)) for n in lengths) for lengths in shape]


MIXED = sequences_of([(3, 5), (1, 1), (9, 2), (2, 12), (4, 4)])


# --- batches ---


def test_a_batch_by_hand():
    batch = make_batch([((5, 6), (7, 8)), ((9,), (3,))])
    assert batch.ids_BT.tolist() == [[5, 6, 7, 8], [9, 3, 0, 0]]
    assert batch.rows_N.tolist() == [0, 0, 1]
    assert batch.columns_N.tolist() == [1, 2, 0]  # each predicts the next position
    assert batch.targets_N.tolist() == [7, 8, 3]
    assert batch.last_B.tolist() == [3, 1]


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 200))
def test_by_length_covers_each_index_once(lengths, budget):
    assert sorted(i for batch in by_length(lengths, budget) for i in batch) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 200))
def test_by_length_stays_within_the_budget_unless_one_sequence_exceeds_it(lengths, budget):
    for batch in by_length(lengths, budget):
        assert len(batch) * max(lengths[i] for i in batch) <= budget or len(batch) == 1


def test_by_length_by_hand():
    # Longest first: 7 alone (2 * 7 > 10), then 5 and 4 (2 * 5 = 10), then 1.
    assert by_length([4, 7, 1, 5], 10) == [[1], [3, 0], [2]]


# --- policy ---


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_policy_logprobs_of_a_padded_batch_equal_one_sequence_at_a_time(make_policy, temperature):
    model = make_policy(kv_heads=2)
    with torch.no_grad():
        logprobs, _ = policy_logprobs(model, make_batch(MIXED), temperature)
    expected = [value for p, r in MIXED for value in reference_logprobs(model, p, r, temperature)]
    close(logprobs, torch.tensor(expected), atol=1e-4, rtol=0)


def test_entropy_by_the_definition(make_policy):
    model, (prompt, response) = make_policy(), MIXED[0]
    with torch.no_grad():
        _, entropy = policy_logprobs(model, make_batch([(prompt, response)]), 0.7)
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1] / 0.7
    close(entropy, torch.distributions.Categorical(logits=logits).entropy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_token_logprobs_come_in_the_order_of_the_sequences(make_policy, budget):
    model = make_policy(kv_heads=2)
    found = token_logprobs(model, MIXED, 0.7, budget)
    for (prompt, response), logprobs in zip(MIXED, found, strict=True):
        close(logprobs, torch.tensor(reference_logprobs(model, prompt, response, 0.7)), atol=1e-4, rtol=0)


def test_logprobs_of_a_model_that_scales_its_logits():
    model, (prompt, response) = granite(), MIXED[0]
    [logprobs] = token_logprobs(model, [(prompt, response)], 1.0)
    close(logprobs, torch.tensor(reference_logprobs(model, prompt, response, 1.0)), atol=1e-4, rtol=0)


# --- critic ---


def scores_at_all_positions(critic, ids):
    with torch.no_grad():
        return critic.score(critic.model(torch.tensor([ids])).last_hidden_state)[0, :, 0]


def test_token_values_stand_before_their_tokens(make_critic):
    critic = make_critic()
    with torch.no_grad():
        values = token_values(critic, make_batch(MIXED))
    expected = [scores_at_all_positions(critic, [*p, *r])[len(p) - 1 : -1] for p, r in MIXED]
    close(values, torch.cat(expected), atol=1e-4, rtol=0)


def test_a_value_does_not_depend_on_the_token_it_stands_before(make_critic):
    critic, (prompt, response) = make_critic(), MIXED[0]
    [values] = response_values(critic, [(prompt, response)])
    [changed] = response_values(critic, [(prompt, (*response[:-1], 39 if response[-1] != 39 else 38))])
    close(values, changed)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_response_values_come_in_the_order_of_the_sequences(make_critic, budget):
    critic = make_critic()
    for (prompt, response), values in zip(MIXED, response_values(critic, MIXED, budget), strict=True):
        expected = scores_at_all_positions(critic, [*prompt, *response])[len(prompt) - 1 : -1]
        close(values, expected, atol=1e-4, rtol=0)


# --- reward model ---

ENDED = [(prompt, (*response, EOS)) for prompt, response in MIXED[:3]] + list(MIXED[3:])  # some end, some are cut off


def test_scores_are_the_classifiers_own_on_right_padded_batches(make_critic):
    """TRL trains the reward model through this forward pass, so selection and PPO have to pool as it does."""
    reward_model, batch = make_critic(), make_batch(ENDED)
    lengths = [len(p) + len(r) for p, r in ENDED]
    attention = torch.tensor([[1] * n + [0] * (max(lengths) - n) for n in lengths])
    assert reward_model.config.pad_token_id == PAD
    with torch.no_grad():
        own = reward_model(batch.ids_BT.masked_fill(attention == 0, PAD), attention_mask=attention).logits[:, 0]
        close(sequence_scores(reward_model, batch), own, atol=1e-4, rtol=0)


def test_a_score_is_the_heads_output_at_the_last_token(make_critic):
    reward_model = make_critic()
    expected = [scores_at_all_positions(reward_model, [*p, *r])[-1].item() for p, r in ENDED]
    with torch.no_grad():
        assert sequence_scores(reward_model, make_batch(ENDED)).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_reward_logits_come_in_the_order_of_the_sequences(make_critic, budget):
    reward_model = make_critic()
    expected = [scores_at_all_positions(reward_model, [*p, *r])[-1].item() for p, r in ENDED]
    assert reward_logits(reward_model, ENDED, budget) == pytest.approx(expected, abs=1e-4)


def test_where_padding_is_the_end_token_the_classifier_pools_another_token(make_critic):
    """Why check_padding is there: transformers then scores the token before the end."""
    reward_model = make_critic()
    reward_model.config.pad_token_id = EOS
    ids = [5, 6, 7, EOS]
    with torch.no_grad():
        own = reward_model(torch.tensor([ids])).logits[0, 0]
    scores = scores_at_all_positions(reward_model, ids)
    close(own, scores[2])
    assert abs(own - scores[3]) > 1e-3


def test_check_padding_refuses_padding_with_the_end_token():
    tokenizer = build_tokenizer()
    check_padding(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(ValueError, match=r"<\|im_end\|>"):
        check_padding(tokenizer)


def test_check_padding_refuses_a_tokenizer_without_padding():
    tokenizer = build_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="None"):
        check_padding(tokenizer)
