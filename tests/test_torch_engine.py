"""The embedded sampler against transformers' own generation and forward pass (satori.engines.torch_engine)."""

import math
import random
from collections import Counter

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from satori.coat import encode_prompt
from satori.engines import row_cache, torch_engine
from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.torch_engine import TorchEngine
from satori.types import FinishReason

NEVER = -1  # an end token that no model samples
VOCABULARY = 40


def random_prompts(count, longest, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(2, VOCABULARY) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def generated(model, prompt, new_tokens, eos=None):
    """What transformers generates greedily after one prompt."""
    ids = torch.tensor([prompt])
    done = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=eos,
        pad_token_id=0,
    )
    return tuple(done[0, len(prompt) :].tolist())


def reference_logprobs(model, prompt, response, temperature):
    """Log-probabilities of a response by one forward pass of the whole sequence."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0].float()
    logprobs = (logits / temperature).log_softmax(-1)
    return [logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(response)]


def greedy(engine, prompts, new_tokens):
    return generate_all(engine, prompts, Sampling(temperature=0, max_new_tokens=new_tokens), seed=0)


SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=16)), "window of 16"),
        (lambda: Phi3ForCausalLM(Phi3Config(**SIZES, sliding_window=16, pad_token_id=0)), "window of 16"),
        (lambda: GPTNeoForCausalLM(GPTNeoConfig(**SIZES, attention_types=[[["local"], 1]])), "has local"),
        (lambda: BloomForCausalLM(BloomConfig(**SIZES)), "an attention of its own"),
        (
            lambda: DeepseekV3ForCausalLM(DeepseekV3Config(**SIZES, qk_rope_head_dim=4, qk_nope_head_dim=8)),
            "different sizes",
        ),
    ],
)
def test_a_model_whose_attention_it_does_not_compute_is_refused(model, words):
    with pytest.raises(EngineError, match=words):
        TorchEngine(model(), NEVER)


@pytest.mark.parametrize("window", [None, 64])
def test_a_window_as_wide_as_the_context_is_full_attention(window):
    config = MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=window, max_position_embeddings=64)
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    assert greedy(TorchEngine(model, NEVER), [[5, 6, 7]], 40)[0].token_ids == generated(model, [5, 6, 7], 40)


# --- greedy ---


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_greedy_is_transformers_generation(make_policy, kv_heads, rows):
    """Mixed lengths; with 3 rows the sampler refills, with 16 it drops rows as they end."""
    model = make_policy(kv_heads)
    prompts = random_prompts(9, longest=12)
    never_ending = [generated(model, p, 12) for p in prompts]
    eos = Counter(t for response in never_ending for t in set(response)).most_common(1)[0][0]  # ends some, not all
    expected = [generated(model, p, 12, eos) for p in prompts]
    lengths = {len(response) for response in expected}
    assert len(lengths) > 2, "the responses of this test have to end at different times"
    completions = greedy(TorchEngine(model, eos, rows), prompts, 12)
    assert [c.token_ids for c in completions] == expected


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_greedy_in_parts(make_policy, monkeypatch, kv_heads):
    """Rows that attend in several spans, prompts that are computed in several batches, some of them twice."""
    monkeypatch.setattr(row_cache, "_LEAST_ROWS", 2)
    monkeypatch.setattr(torch_engine, "_PREFILL_TOKENS", 20)
    model = make_policy(kv_heads)
    prompts = random_prompts(11, longest=14)
    prompts += prompts[3:6]
    expected = [generated(model, p, 9) for p in prompts]
    for rows in (5, 14):
        assert [c.token_ids for c in greedy(TorchEngine(model, NEVER, rows), prompts, 9)] == expected


def test_spans_are_as_long_as_their_longest_row(monkeypatch):
    monkeypatch.setattr(row_cache, "_LEAST_ROWS", 2)
    spans = [(span.rows, span.length) for span in row_cache.spans_of([3, 9, 4, 4, 20])]
    assert spans == [(slice(0, 2), 9), (slice(2, 4), 4), (slice(4, 6), 20)]


def test_greedy_of_another_architecture():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    prompts = random_prompts(5, longest=8)
    completions = greedy(TorchEngine(model, NEVER, rows=2), prompts, 10)
    assert [c.token_ids for c in completions] == [generated(model, p, 10) for p in prompts]


def test_greedy_from_restart_prefixes(embedded):
    tokenizer, model = embedded
    prefixes = ["", "1<|continue|> 2<|reflect|>", "", "12 + 7 = 19<|reflect|> Wait.<|explore|>", "<|reflect|>"]
    prompts = [encode_prompt(tokenizer, "12 + 7", prefix) for prefix in prefixes]
    completions = greedy(TorchEngine(model, NEVER, rows=2), prompts, 10)
    assert [c.token_ids for c in completions] == [generated(model, p, 10) for p in prompts]


def test_a_restart_prefix_continues_as_the_whole_response_would(make_policy):
    model = make_policy()
    [prompt] = random_prompts(1, longest=8)
    engine = TorchEngine(model, NEVER, rows=4)
    [whole] = greedy(engine, [prompt], 12)
    [rest] = greedy(engine, [[*prompt, *whole.token_ids[:5]]], 7)
    assert rest.token_ids == whole.token_ids[5:]


def test_equal_prompts_are_computed_alike(make_policy):
    model = make_policy()
    one, other = random_prompts(2, longest=9, seed=4)
    completions = greedy(TorchEngine(model, NEVER, rows=3), [one, other, one, one, other], 8)
    expected_one, expected_other = generated(model, one, 8), generated(model, other, 8)
    assert [c.token_ids for c in completions] == [
        expected_one, expected_other, expected_one, expected_one, expected_other
    ]  # fmt: skip


def test_responses_longer_than_one_growth_of_the_cache(make_policy):
    model = make_policy()
    prompts = random_prompts(3, longest=6)
    completions = greedy(TorchEngine(model, NEVER, rows=2), prompts, 100)
    assert [c.token_ids for c in completions] == [generated(model, p, 100) for p in prompts]


# --- how responses end ---


def test_the_length_limit_ends_a_response_without_an_end_token(make_policy):
    model = make_policy()
    prompts = random_prompts(4, longest=6)
    for completion in greedy(TorchEngine(model, NEVER, rows=2), prompts, 5):
        assert completion.finish_reason is FinishReason.LENGTH
        assert len(completion.token_ids) == len(completion.logprobs) == 5
        assert NEVER not in completion.token_ids


def test_the_sampled_end_token_ends_a_response_and_belongs_to_it(make_policy):
    model = make_policy()
    [prompt] = random_prompts(1, longest=6)
    free = generated(model, prompt, 8)
    eos = free[3]
    position = free.index(eos)
    [completion] = greedy(TorchEngine(model, eos), [prompt], 8)
    assert completion.finish_reason is FinishReason.STOP
    assert completion.token_ids == free[: position + 1]


def test_an_end_token_sampled_at_the_limit_counts_as_the_end(make_policy):
    model = make_policy()
    [prompt] = random_prompts(1, longest=6)
    free = generated(model, prompt, 8)
    position = next(i for i in range(1, 8) if free[i] not in free[:i])
    [completion] = greedy(TorchEngine(model, free[position]), [prompt], position + 1)
    assert completion.finish_reason is FinishReason.STOP
    assert completion.token_ids == free[: position + 1]


def test_no_prompts_give_no_completions(make_policy):
    assert generate_all(TorchEngine(make_policy(), NEVER), [], Sampling(), 0) == []


def test_every_prompt_is_answered_once(make_policy):
    engine = TorchEngine(make_policy(factor=2.0), eos_token_id=1, rows=4)
    found = list(engine.generate(random_prompts(23, longest=6), Sampling(max_new_tokens=30), seed=0))
    assert sorted(index for index, _ in found) == list(range(23))


# --- sampling ---


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_logprobs_are_those_of_the_forward_pass_at_the_sampling_temperature(make_policy, kv_heads):
    model = make_policy(kv_heads)
    prompts = random_prompts(8, longest=10)
    engine = TorchEngine(model, eos_token_id=1, rows=3)
    completions = generate_all(engine, prompts, Sampling(temperature=0.7, max_new_tokens=15), seed=5)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = reference_logprobs(model, prompt, completion.token_ids, 0.7)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_greedy_logprobs_are_at_temperature_one(make_policy):
    model = make_policy()
    [prompt] = random_prompts(1, longest=6)
    [completion] = greedy(TorchEngine(model, NEVER), [prompt], 6)
    assert completion.logprobs == pytest.approx(reference_logprobs(model, prompt, completion.token_ids, 1.0), abs=1e-4)


def test_the_same_seed_gives_the_same_samples_and_another_does_not(make_policy):
    engine = TorchEngine(make_policy(factor=2.0), NEVER, rows=3)
    prompts, sampling = random_prompts(6, longest=8), Sampling(temperature=1.0, max_new_tokens=10)
    first = generate_all(engine, prompts, sampling, seed=1)
    torch.manual_seed(99)  # the global generator plays no part
    assert generate_all(engine, prompts, sampling, seed=1) == first
    assert generate_all(engine, prompts, sampling, seed=2) != first


def test_equal_prompts_get_different_samples(make_policy):
    engine = TorchEngine(make_policy(factor=2.0), NEVER, rows=4)
    completions = generate_all(engine, [[5, 6, 7]] * 8, Sampling(max_new_tokens=10), seed=1)
    assert len({c.token_ids for c in completions}) == 8


def test_two_sampled_tokens_have_the_frequencies_of_the_model(make_policy):
    """Chi-square over all pairs of a vocabulary of 6: 35 degrees of freedom, exceeded at 85 once in 200,000."""
    model, temperature, draws = make_policy(vocabulary=6, factor=3.0), 0.7, 4000
    engine = TorchEngine(model, NEVER, rows=500)
    sampling = Sampling(temperature=temperature, max_new_tokens=2)
    counts = Counter(c.token_ids for c in generate_all(engine, [[3, 2]] * draws, sampling, seed=0))
    statistic = 0.0
    for one in range(6):
        for two in range(6):
            logprob = sum(reference_logprobs(model, [3, 2], (one, two), temperature))
            expected = draws * math.exp(logprob)
            statistic += (counts[one, two] - expected) ** 2 / expected
    assert statistic < 85


# --- the model around it ---


def test_the_current_weights_are_sampled(make_policy):
    model = make_policy()
    engine = TorchEngine(model, NEVER)
    [prompt] = random_prompts(1, longest=6)
    before = greedy(engine, [prompt], 8)
    model.load_state_dict(make_policy(seed=7).state_dict())
    assert greedy(engine, [prompt], 8) != before
    assert greedy(engine, [prompt], 8)[0].token_ids == generated(model, prompt, 8)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(make_policy, training):
    model = make_policy().train(training)
    attention = model.config._attn_implementation
    greedy(TorchEngine(model, NEVER), [[3, 4]], 3)
    assert model.training is training
    assert model.config._attn_implementation == attention


def test_the_model_is_left_as_it_was_when_the_caller_stops_early(make_policy):
    model = make_policy().train()
    attention = model.config._attn_implementation
    completions = TorchEngine(model, NEVER, rows=1).generate([[3, 4], [5]], Sampling(max_new_tokens=3), seed=0)
    next(completions)
    completions.close()
    assert model.training
    assert model.config._attn_implementation == attention


def granite():
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
        logits_scaling=8.0,
    )
    return GraniteForCausalLM(config).eval()


def test_logprobs_of_a_model_that_scales_its_logits():
    """Granite is one of the paper's weaker bases (section 6)."""
    model = granite()
    prompts = random_prompts(2, longest=6)
    completions = generate_all(TorchEngine(model, NEVER), prompts, Sampling(temperature=0.7, max_new_tokens=6), seed=0)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = reference_logprobs(model, prompt, completion.token_ids, 0.7)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


# --- errors ---


def test_an_empty_prompt_is_refused_by_its_number(make_policy):
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate_all(TorchEngine(make_policy(), NEVER), [[3], []], Sampling(max_new_tokens=3), 0)


def test_a_prompt_too_long_for_the_context_is_refused_with_the_figures(make_policy):
    with pytest.raises(ValueError, match=r"prompt 1 has 100 tokens .* 29.* 128"):
        generate_all(TorchEngine(make_policy(), NEVER), [[3], [3] * 100], Sampling(max_new_tokens=29), 0)


def test_a_prompt_that_just_fits_is_sampled(make_policy):
    [completion] = greedy(TorchEngine(make_policy(), NEVER), [[3] * 100], 28)
    assert len(completion.token_ids) == 28


def test_a_model_may_say_that_its_context_has_no_limit(make_policy):
    model = make_policy()
    model.config.max_position_embeddings = -1
    [completion] = greedy(TorchEngine(model, NEVER), [[3] * 100], 28)
    assert len(completion.token_ids) == 28


@pytest.mark.parametrize("rows", [1, 8])
def test_a_response_ends_where_the_context_does(make_policy, rows):
    engine, sampling = TorchEngine(make_policy(), NEVER, rows), Sampling(max_new_tokens=20, context_length=30)
    prompts = [[3] * 29, [4] * 5, [5] * 20]
    found = generate_all(engine, prompts, sampling, 0)
    assert [len(completion.token_ids) for completion in found] == [1, 20, 10]
    assert {completion.finish_reason for completion in found} == {FinishReason.LENGTH}
    assert len(list(engine.stream(prompts[2], sampling, 0))) == 10
    with pytest.raises(EngineError, match="prompt 0 has 30 tokens"):
        generate_all(engine, [[3] * 30], sampling, 0)


def test_no_rows_are_refused(make_policy):
    with pytest.raises(ValueError, match="rows is 0"):
        TorchEngine(make_policy(), NEVER, rows=0)


def test_a_response_does_not_depend_on_what_is_sampled_beside_it(make_policy):
    model, sampling = make_policy(), Sampling(temperature=1.0, max_new_tokens=30)
    prompts = [[5, 6], [7], [8, 9, 10], [5, 6], [11, 12]]
    together = generate_all(TorchEngine(model, 1), prompts, sampling, 3)
    for rows in (1, 2):
        alone = generate_all(TorchEngine(model, 1, rows=rows), prompts, sampling, 3)
        assert [c.token_ids for c in alone] == [c.token_ids for c in together]
    assert together[0].token_ids != together[3].token_ids  # equal prompts, noise of their own
    assert generate_all(TorchEngine(model, 1), prompts[:2], sampling, 3)[1].token_ids == together[1].token_ids
