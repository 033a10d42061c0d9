"""Reward models of synthesis, local and on a server (satori.synthesis.llm.reward)."""

import asyncio
import copy
import math

import pytest
import torch
from pydantic import ValidationError
from scripted_server import Say, ScriptedServer, always, in_turn
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from satori.coat import render_prompt
from satori.engines.http_client import HttpClient, Traffic
from satori.engines.server_errors import Cause, ServerError
from satori.synthesis.agents import PartialSolution
from satori.synthesis.batching import Batches
from satori.synthesis.llm import reward
from satori.synthesis.llm.reward import ClassifierReward, RewardPrompt, RewardServerSettings, ServerReward, read_score
from satori.types import Problem


def solution(text="3+4=7.\nSo \\boxed{7}."):
    return PartialSolution(Problem("p", "3+4=?", "7"), tuple(text.split("\n")))


@pytest.fixture(scope="module")
def classifier(tokenizer):
    """A random reward model for the embedded tokenizer."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForSequenceClassification(config).eval()


SHOWN = {
    RewardPrompt.CHAT: "<|im_start|>user\n3+4=?<|im_end|>\n<|im_start|>assistant\n3+4=7.\nSo \\boxed{7}.<|im_end|>\n",
    RewardPrompt.ORM: None,
}


def shown(tokenizer, form):
    text = SHOWN[form] or render_prompt(tokenizer, "3+4=?") + "3+4=7.\nSo \\boxed{7}." + tokenizer.eos_token
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("form", RewardPrompt)
def test_the_score_is_the_logit_after_the_whole_text(classifier, tokenizer, form):
    async def work():
        async with Batches(0) as batches:
            return await ClassifierReward(classifier, tokenizer, batches, form).score(solution())

    ids = shown(tokenizer, form)
    expected = classifier(torch.tensor([ids])).logits.item()
    assert asyncio.run(work()) == pytest.approx(expected, abs=1e-5)


def test_what_waits_is_scored_in_one_batch(classifier, tokenizer, monkeypatch):
    sizes = []

    def counting(model, sequences):
        sizes.append(len(sequences))
        return real(model, sequences)

    real = reward.reward_logits
    monkeypatch.setattr(reward, "reward_logits", counting)
    solutions = [solution(f"{i}+4 is something." + "x" * i) for i in range(6)]

    async def work():
        async with Batches(0) as batches:
            model = ClassifierReward(classifier, tokenizer, batches)
            together = await asyncio.gather(*map(model.score, solutions))
            return together, [await model.score(one) for one in solutions]

    together, alone = asyncio.run(work())
    assert together == pytest.approx(alone, abs=1e-5) and len(set(together)) == 6
    assert sizes == [6, 1, 1, 1, 1, 1, 1]


def test_a_solution_longer_than_the_context_comes_last(classifier, tokenizer):
    async def work():
        async with Batches(0) as batches:
            return await ClassifierReward(classifier, tokenizer, batches).score(solution("x" * 200))

    assert asyncio.run(work()) == -math.inf


def test_what_is_no_reward_model_is_refused(classifier, tokenizer):
    two = copy.copy(classifier)
    two.config = copy.deepcopy(classifier.config)
    two.config.num_labels = 2
    with pytest.raises(ValueError, match="has 2 labels: a reward model has one"):
        ClassifierReward(two, tokenizer, Batches(0))
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        ClassifierReward(classifier, bare, Batches(0))
    bare.eos_token = None
    with pytest.raises(ValueError, match="end token is None"):
        ClassifierReward(classifier, bare, Batches(0), RewardPrompt.ORM)


# --- a server ---


@pytest.fixture
def serve():
    servers = []

    def start(script):
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def classified(*values):
    """As vLLM's /classify answers."""
    return {"data": [{"index": 0, "label": "LABEL_0", "probs": list(values), "num_classes": len(values)}]}


def settings(server, **changed):
    return RewardServerSettings(
        **{"url": f"http://127.0.0.1:{server.port}", "model": "rm", "first_wait": 0.01, "attempts": 2, **changed}
    )


def score(found, tokenizer=None, count=1):
    async def work():
        async with HttpClient(found, Traffic()) as client:
            model = ServerReward(client, found, tokenizer)
            return await asyncio.gather(*(model.score(solution()) for _ in range(count)))

    return asyncio.run(work())


def test_the_server_is_asked_for_the_raw_logit_of_a_chat(serve):
    server = serve(always(classified(-3.5)))
    assert score(settings(server)) == [-3.5]
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/classify")
    assert request.body == {
        "model": "rm",
        "messages": [
            {"role": "user", "content": "3+4=?"},
            {"role": "assistant", "content": "3+4=7.\nSo \\boxed{7}."},
        ],
        "use_activation": False,
    }


def test_our_own_reward_models_are_sent_token_ids(serve, tokenizer):
    server = serve(always(classified(1)))
    found = settings(server, prompt="orm", tokenizer="rm", extra_fields={"use_activation": None, "activation": False})
    assert score(found, tokenizer) == [1.0]
    assert server.requests[0].body == {
        "model": "rm",
        "input": shown(tokenizer, RewardPrompt.ORM),
        "activation": False,
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://h:8000", "http://h:8000"), ("http://h:8000/v1/", "http://h:8000"), ("http://h/rm", "http://h/rm")],
)
def test_the_address_is_the_one_beside_the_version(url, expected):
    assert RewardServerSettings(url=url, model="rm").url == expected


def test_no_more_scores_are_in_flight_than_the_settings_allow(serve):
    async def script(request):
        await asyncio.sleep(0.02)
        return classified(1)

    server = serve(script)
    assert score(settings(server, concurrency=2), count=8) == [1.0] * 8
    assert server.peak == 2


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"data": []},
        {"data": [1]},
        {"data": [{"probs": []}]},
        {"data": [{"probs": "0.5"}]},
        {"data": [{"probs": 0.5}]},
        {"data": [{"data": [0.5]}]},
        classified(None),
        classified("0.5"),
        classified(True),
        classified(math.nan),
        classified(math.inf),
        classified(10**40),
        classified(0.5, 0.5),
        {"data": classified(1)["data"] * 2},
    ],
)
def test_an_answer_without_one_finite_number_is_refused(serve, answer):
    with pytest.raises(ValueError, match=r"\w"):
        read_score(answer)
    with pytest.raises(ServerError) as caught:
        score(settings(serve(always(Say(body=answer)))))
    assert caught.value.cause is Cause.GARBAGE


def test_a_solution_that_does_not_fit_comes_last_and_other_errors_come_out(serve):
    too_long = Say(400, {"error": {"message": "This model's maximum context length is 512 tokens."}})
    assert score(settings(serve(always(too_long)))) == [-math.inf]
    with pytest.raises(ServerError) as caught:
        score(settings(serve(always(Say(404, {"error": "no such model"})))))
    assert caught.value.cause is Cause.NOT_FOUND
    assert score(settings(serve(in_turn(Say(503), classified(2.5))))) == [2.5]


def test_a_reward_server_that_cannot_be_asked_is_refused_at_once(tokenizer):
    with pytest.raises(ValidationError, match="orm needs a tokenizer"):
        RewardServerSettings(url="http://127.0.0.1:1", model="rm", prompt="orm")
    found = RewardServerSettings(url="http://127.0.0.1:1", model="rm", prompt="orm", tokenizer="rm")
    client = HttpClient(found, Traffic())
    with pytest.raises(ValueError, match="needs the reward model's tokenizer"):
        ServerReward(client, found)
    with pytest.raises(ValueError, match=r"connected to http://127.0.0.1:1, not to http://127.0.0.1:2"):
        ServerReward(client, found.model_copy(update={"url": "http://127.0.0.1:2"}), tokenizer)


def test_the_settings_explain_themselves():
    assert all(field.description for field in RewardServerSettings.model_fields.values())
    for form in RewardPrompt:
        assert f"`{form}`" in RewardServerSettings.model_fields["prompt"].description
