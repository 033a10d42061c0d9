"""What the vLLM engine samples, against transformers (satori.engines.vllm_engine)."""

import json
import random
from collections import Counter

import pytest
import torch
from vllm_models import CONTEXT, EOS, SETTINGS, VOCABULARY, make_model, wrong_by

from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.vllm_engine import VllmEngine
from satori.types import FinishReason

NEVER = -1  # an end token that no model samples


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def engine(model, saved):
    """An engine of a checkpoint whose generation_config.json says all kinds of things that must not matter."""
    folder = saved(model)
    leaks = {
        "do_sample": True,
        "temperature": 0.1,
        "top_k": 1,
        "top_p": 0.5,
        "repetition_penalty": 5.0,
        "eos_token_id": list(range(2, VOCABULARY)),
        "max_new_tokens": 3,
    }
    (folder / "generation_config.json").write_text(json.dumps(leaks))
    with VllmEngine(folder, EOS, SETTINGS) as opened:
        yield opened


@pytest.fixture
def stops(engine, monkeypatch):
    """Lets the engine stop at other tokens."""

    def set_to(*ids):
        monkeypatch.setattr(engine, "stop_ids", frozenset(ids))

    return set_to


def random_prompts(count, longest, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(2, VOCABULARY) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def greedy_response(model, prompt, new_tokens, ends=()):
    """What the model says greedily after one prompt, by one forward pass a token."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + new_tokens:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in ends:
                break
    return tuple(ids[len(prompt) :])


def test_greedy_is_the_most_likely_token(model, engine, stops):
    """Mixed lengths, more prompts than sequences at a time, responses that end at different places; the end token is
    kept."""
    prompts = random_prompts(12, longest=20)
    endless = [greedy_response(model, p, 12) for p in prompts]
    (first, _), (second, _) = Counter(t for response in endless for t in set(response)).most_common(2)
    expected = [greedy_response(model, p, 12, (first, second)) for p in prompts]
    assert len({len(response) for response in expected}) > 2
    assert {response[-1] for response in expected} >= {first, second}
    stops(first, second)
    completions = generate_all(engine, prompts, Sampling(temperature=0, max_new_tokens=12), 0)
    assert [c.token_ids for c in completions] == expected
    for c in completions:
        ended = c.token_ids[-1] in (first, second)
        assert c.finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH)


def test_an_end_token_at_the_length_limit_is_an_end(model, engine, stops):
    prompt = random_prompts(1, 9)[0]
    response = greedy_response(model, prompt, 1)
    stops(response[0])
    (completion,) = generate_all(engine, [prompt], Sampling(temperature=0, max_new_tokens=1), 0)
    assert (completion.token_ids, completion.finish_reason) == (response, FinishReason.STOP)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.0])
def test_logprobs_are_those_of_the_sampling_temperature(model, engine, stops, temperature):
    stops(NEVER)
    prompts = random_prompts(10, 30)
    completions = generate_all(engine, prompts, Sampling(temperature=temperature, max_new_tokens=20), 0)
    assert all(len(c.token_ids) == len(c.logprobs) == 20 for c in completions)
    assert wrong_by(model, prompts, completions, temperature) < 1e-4
    assert wrong_by(model, prompts, completions, temperature * 1.1) > 1e-3


def test_greedy_logprobs_are_those_of_temperature_one(model, engine):
    prompts = random_prompts(10, 30)
    completions = generate_all(engine, prompts, Sampling(temperature=0, max_new_tokens=20), 0)
    assert wrong_by(model, prompts, completions, 1.0) < 1e-4


def test_samples_have_the_frequencies_of_the_model(model, engine):
    """800 samples of one token: no top-k, top-p or penalty of the checkpoint's own cuts the distribution."""
    prompt = random_prompts(1, 9, seed=3)[0]
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    completions = generate_all(engine, [prompt] * 800, Sampling(temperature=1, max_new_tokens=1), 5)
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in completions]), minlength=VOCABULARY)
    likely = expected * 800 >= 5
    assert likely.sum() > 5
    distance = ((counts - expected * 800) ** 2 / (expected * 800))[likely].sum()
    assert distance < 2.5 * likely.sum()  # chi-square: far beyond its 99.9% quantile for this many tokens


def test_seeds(engine, stops):
    stops(NEVER)
    prompts, sampling = [random_prompts(1, 9)[0]] * 4, Sampling(max_new_tokens=16)
    once = generate_all(engine, prompts, sampling, 7)
    assert generate_all(engine, prompts, sampling, 7) == once
    assert generate_all(engine, prompts, sampling, 8) != once
    assert len({c.token_ids for c in once}) == 4, "samples of one prompt are to be different"


def test_a_long_shared_beginning(model, engine):
    """Longer than a block of vLLM's cache, so that it is computed once."""
    shared = [random.Random(1).randrange(2, VOCABULARY) for _ in range(300)]
    prompts = [[*shared, *tail] for tail in random_prompts(6, 9)]
    completions = generate_all(engine, prompts, Sampling(max_new_tokens=20), 0)
    assert wrong_by(model, prompts, completions) < 1e-4


def test_more_than_vllm_computes_in_one_step(model, engine):
    """Sampled with seeds: vLLM fails on a CPU where such a prompt is divided over several steps."""
    prompts = [(p * 900)[:900] for p in random_prompts(9, 9)]
    completions = generate_all(engine, prompts, Sampling(max_new_tokens=10), 0)
    assert wrong_by(model, prompts, completions) < 1e-4


def test_no_prompts(engine):
    assert generate_all(engine, [], Sampling(), 0) == []


def test_completions_come_as_they_finish(model, engine, stops):
    prompts = random_prompts(8, 9)
    endless = [greedy_response(model, p, 30) for p in prompts]
    last = len(prompts) - 1
    only_last = set(endless[last]).difference(*endless[:last])
    assert only_last, "the last prompt of this test has to end alone"
    stops(*only_last)
    running = engine.generate(prompts, Sampling(temperature=0, max_new_tokens=30), 0)
    assert next(running)[0] == last
    assert engine._llm.llm_engine.get_num_unfinished_requests() == last
    assert sorted(index for index, _ in running) == list(range(last))


# --- stopping early ---


def unfinished(engine):
    return engine._llm.llm_engine.has_unfinished_requests()


def test_closing_leaves_no_work_behind(engine, stops):
    stops(NEVER)
    prompts, sampling = random_prompts(20, 200), Sampling(max_new_tokens=30)
    expected = generate_all(engine, prompts, sampling, 1)
    running = engine.generate(prompts, sampling, 1)
    next(running)
    assert unfinished(engine)
    running.close()
    assert not unfinished(engine)
    assert generate_all(engine, prompts, sampling, 1) == expected


@pytest.mark.parametrize("step", [1, 2, 5])
def test_an_interrupt_within_a_step(engine, stops, monkeypatch, step):
    """vLLM has scheduled the work of the step, and marked the blocks it would fill as filled: they must not be used."""
    stops(NEVER)
    shared = [random.Random(2).randrange(2, VOCABULARY) for _ in range(300)]
    prompts, sampling = [[*shared, *tail] for tail in random_prompts(5, 9)], Sampling(max_new_tokens=10)
    expected = generate_all(engine, prompts, sampling, 1)
    executor = engine._llm.llm_engine.model_executor
    execute, calls = executor.execute_model, []

    def interrupted(*args, **kwargs):
        calls.append(None)
        if len(calls) == step:
            raise KeyboardInterrupt
        return execute(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(executor, "execute_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate_all(engine, prompts, sampling, 1)
    assert not unfinished(engine)
    assert generate_all(engine, prompts, sampling, 1) == expected


def test_only_one_call_at_a_time(engine, stops):
    stops(NEVER)
    sampling = Sampling(max_new_tokens=5)
    first = engine.generate(random_prompts(9, 9), sampling, 0)  # one more than sequences at a time
    next(first)
    with pytest.raises(EngineError, match="a call of generate is under way"):
        engine.update_weights_from(iter(()))
    with pytest.raises(EngineError, match="another call of generate is under way"):
        next(engine.generate(random_prompts(3, 9), sampling, 0))
    assert len(list(first)) == 8, "the first call has gone on"


def test_a_call_that_is_closed_late_does_not_end_the_next_one(engine, stops):
    """All of the first call is computed, but not all of it taken."""
    stops(NEVER)
    sampling = Sampling(max_new_tokens=5)
    first = engine.generate(random_prompts(3, 9), sampling, 0)
    next(first)
    second = engine.generate(random_prompts(9, 9), sampling, 0)
    next(second)
    first.close()
    assert len(list(second)) == 8


# --- what is refused ---


@pytest.mark.parametrize(
    ("prompts", "sampling", "message"),
    [
        ([[5], []], Sampling(), "prompt 1 is empty"),
        ([[5] * (CONTEXT - 9)], Sampling(max_new_tokens=10), f"more than the model's context of {CONTEXT}"),
        ([[5, VOCABULARY]], Sampling(), f"outside of the model's vocabulary of {VOCABULARY}"),
        ([[-1]], Sampling(), "outside of the model's vocabulary"),
        ([[5]], Sampling(temperature=0.005), "no temperature between 0 and 0.01"),
    ],
)
def test_bad_requests(engine, prompts, sampling, message):
    with pytest.raises(EngineError, match=message):
        generate_all(engine, prompts, sampling, 0)


def test_the_whole_context_may_be_used(engine, stops):
    stops(NEVER)
    (completion,) = generate_all(engine, [[5] * (CONTEXT - 10)], Sampling(max_new_tokens=10), 0)
    assert len(completion.token_ids) == 10


def test_a_response_ends_where_the_context_does(engine, stops):
    stops(NEVER)
    sampling = Sampling(max_new_tokens=10, context_length=CONTEXT)
    found = generate_all(engine, [[5] * (CONTEXT - 4), [5]], sampling, 0)
    assert [len(completion.token_ids) for completion in found] == [4, 10]


def test_a_response_can_be_watched_as_it_is_written(engine):
    """The same tokens as in a call of generate, one after the other, and without the end token."""
    for temperature in (0.0, 1.0):
        sampling = Sampling(temperature=temperature, max_new_tokens=12)
        [whole] = generate_all(engine, [[3, 4, 5]], sampling, seed=2)
        pieces = [piece.token_ids for piece in engine.stream([3, 4, 5], sampling, seed=2)]
        ids = [i for piece in pieces for i in piece]
        assert ids == [i for i in whole.token_ids if i != EOS]
        assert len(pieces) >= len(ids)
    stopped = engine.stream([3, 4, 5], Sampling(max_new_tokens=12), seed=0)
    next(stopped)
    stopped.close()
    assert len(generate_all(engine, [[3, 4]], Sampling(max_new_tokens=2), seed=0)) == 1
