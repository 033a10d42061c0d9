"""The engine over an OpenAI-compatible server (satori.engines.server), against a scripted server on this machine."""

import asyncio
import itertools
import json
import logging
import signal
import socket
import threading
import time
import traceback
from collections import Counter

import pytest
from pydantic import ValidationError
from scripted_server import HANG_UP, Say, ScriptedServer, always, chat_answer, in_turn, text_answer

from satori.coat import PROMPT_INSTRUCTION, encode_prompt, prompt_messages, render_prompt
from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.server import ApiForm, InexactCompletion, Server, ServerEngine, ServerEngineSettings
from satori.engines.server_errors import Cause, ServerError, seconds_to_wait
from satori.engines.server_replies import read_reply
from satori.sampling import decode_response
from satori.types import Completion, FinishReason

GREEDY = Sampling(temperature=0, max_new_tokens=16)
SAMPLED = Sampling(temperature=0.7, max_new_tokens=16)
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def serve():
    servers = []

    def start(script, port=0):
        servers.append(ScriptedServer(script, port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("satori", "asyncio"))]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def settings(port, **changed):
    quick = {"first_wait": 0.01, "attempts": 4, "model": "m", "timeout": 10, "connect_timeout": 2}
    return ServerEngineSettings(url=f"http://127.0.0.1:{port}", **{**quick, **changed})


@pytest.fixture
def prompts(tokenizer):
    return [encode_prompt(tokenizer, f"What is {i}+{i}?") for i in range(3)]


def only(engine, prompts, sampling=GREEDY):
    return generate_all(engine, prompts[:1], sampling, seed=0)[0]


def failure(engine, prompts):
    with pytest.raises(ServerError) as caught:
        only(engine, prompts)
    return caught.value


# --- what is sent ---


def test_prompts_go_out_as_token_ids(serve, tokenizer, prompts):
    server = serve(always(text_answer()))
    engine = ServerEngine(settings(server.port), tokenizer, also_stop=[3])
    generate_all(engine, prompts, Sampling(temperature=0.5, max_new_tokens=7), seed=5)
    bodies = sorted((r.body for r in server.requests), key=lambda body: prompts.index(body["prompt"]))
    assert {(r.method, r.path) for r in server.requests} == {("POST", "/v1/completions")}
    assert [body["prompt"] for body in bodies] == prompts
    seeds = [body.pop("seed") for body in bodies]
    assert len(set(seeds)) == 3
    assert {k: v for k, v in bodies[0].items() if k != "prompt"} == {
        "model": "m",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [tokenizer.eos_token_id, 3],
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "logprobs": 1,
    }
    again = ServerEngine(settings(server.port), tokenizer)
    generate_all(again, prompts, Sampling(temperature=0.5, max_new_tokens=7), seed=5)
    assert {r.body["seed"] for r in server.requests[3:]} == set(seeds)


def test_no_more_tokens_are_asked_for_than_the_context_has_room(serve, tokenizer, prompts):
    server = serve(always(text_answer()))
    sampling = Sampling(temperature=0, max_new_tokens=7, context_length=len(prompts[0]) + 5)
    only(ServerEngine(settings(server.port), tokenizer), prompts, sampling)
    assert server.requests[0].body["max_tokens"] == 5


def test_prompts_go_out_as_text(serve, tokenizer, prompts):
    server = serve(always(text_answer()))
    only(ServerEngine(settings(server.port, api="completion-text"), tokenizer), prompts)
    body = server.requests[0].body
    assert body["prompt"] == render_prompt(tokenizer, "What is 0+0?")
    assert body["add_special_tokens"] is False
    assert "seed" not in body  # greedy


def test_chat_gets_the_user_turn(serve, tokenizer, prompts):
    server = serve(always(chat_answer("4")))
    engine = ServerEngine(settings(server.port, api="chat"), tokenizer)
    strange = encode_prompt(tokenizer, "Say <|im_end|>\n<|im_start|>assistant\nyes, é")
    completions = generate_all(engine, [*prompts, strange], GREEDY, seed=0)
    assert {r.path for r in server.requests} == {"/v1/chat/completions"}
    turns = {r.body["messages"][0]["content"] for r in server.requests}
    asked = {f"What is {i}+{i}?" for i in range(3)} | {"Say <|im_end|>\n<|im_start|>assistant\nyes, é"}
    assert turns == {PROMPT_INSTRUCTION + question for question in asked}
    assert server.requests[0].body["logprobs"] is True
    assert [decode_response(tokenizer, c) for c in completions] == ["4"] * 4


def test_chat_gets_the_user_turn_of_another_template(serve, tokenizer):
    """One that trims the turn, and puts a system turn before it."""
    template = "[sys]be kind[/sys]{% for m in messages %}[inst]{{ m['content'] | trim }}[/inst]{% endfor %}"

    class Other:
        """The same tokenizer without ChatML's tokens."""

        chat_template, unk_token_id = template, None

        def convert_tokens_to_ids(self, token):
            return None

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    server = serve(always(chat_answer("4")))
    other = Other()
    prompt = encode_prompt(other, "What is 1+1?")
    assert tokenizer.decode(prompt).startswith("[sys]be kind[/sys][inst]")
    generate_all(ServerEngine(settings(server.port, api="chat"), other), [prompt], GREEDY, seed=0)
    assert server.requests[0].body["messages"] == prompt_messages("What is 1+1?")


@pytest.mark.parametrize("tail", ["Let me see", "<|im_end|>\n"])
def test_chat_refuses_a_started_response(serve, tokenizer, tail):
    server = serve(always(chat_answer()))
    engine = ServerEngine(settings(server.port, api="chat"), tokenizer)
    started = encode_prompt(tokenizer, "What is 1+1?", prefix=tail)
    with pytest.raises(EngineError, match=r"prompt 1 is not one user turn.*completion-ids"):
        generate_all(engine, [encode_prompt(tokenizer, "1"), started], GREEDY, seed=0)
    assert not server.requests


def test_plain_fields_and_extra_fields(serve, tokenizer, prompts):
    server = serve(always(text_answer()))
    changed = {"extensions": False, "extra_fields": {"max_tokens": None, "max_completion_tokens": 9, "top_p": 0.5}}
    only(ServerEngine(settings(server.port, **changed), tokenizer), prompts)
    assert server.requests[0].body == {
        "model": "m",
        "prompt": prompts[0],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_completion_tokens": 9,
    }


def test_log_probabilities_are_not_asked_for_where_not_wanted(serve, tokenizer, prompts):
    server = serve(always(text_answer()))
    only(ServerEngine(settings(server.port, logprobs=False), tokenizer), prompts)
    assert "logprobs" not in server.requests[0].body


def test_empty_prompts_are_refused(serve, tokenizer):
    engine = ServerEngine(settings(serve(always(text_answer())).port), tokenizer)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate_all(engine, [[5], []], GREEDY, seed=0)
    assert generate_all(engine, [], GREEDY, seed=0) == []


# --- what comes back ---


def test_sampled_ids_and_log_probabilities(serve, tokenizer, prompts):
    """As vLLM answers: the ids of the response with its end token, and of the prompt."""
    ids = [*tokenizer.encode("4", add_special_tokens=False), tokenizer.eos_token_id]
    logprobs = {"tokens": [f"token_id:{i}" for i in ids], "token_logprobs": [-0.25, -1], "top_logprobs": None}
    more = {"token_ids": ids, "logprobs": logprobs, "prompt_token_ids": prompts[0]}
    server = serve(always(text_answer("4", usage=(40, 2), **more)))
    engine = ServerEngine(settings(server.port), tokenizer)
    completion = only(engine, prompts)
    assert completion == Completion(tuple(ids), FinishReason.STOP, (-0.25, -1.0))
    traffic = engine.traffic
    assert (traffic.requests, traffic.answered, traffic.failed) == (1, 1, 0)
    assert (traffic.prompt_tokens, traffic.output_tokens) == (40, 2)
    assert traffic.endings == Counter(stop=1)
    assert not traffic.retries


def test_ids_beside_log_probabilities(tokenizer):
    """An old vLLM names tokens by their ids; llama.cpp has a record for each; SGLang's chat a field of its own."""
    names = {"tokens": ["token_id:7", "token_id:1"], "token_logprobs": [-0.5, None]}
    old_vllm = read_reply(text_answer(logprobs=names))
    assert (old_vllm.token_ids, old_vllm.logprobs) == ((7, 1), ())
    records = [{"id": 7, "token": "o", "logprob": -0.5}, {"id": 1, "token": "", "logprob": -2}]
    llama_cpp = read_reply(text_answer(logprobs={"content": records}))
    assert (llama_cpp.token_ids, llama_cpp.logprobs) == ((7, 1), (-0.5, -2.0))
    sglang = read_reply(chat_answer(response_token_ids=[7, 1], prompt_token_ids=[4]))
    assert (sglang.token_ids, sglang.prompt_ids) == ((7, 1), (4,))
    hosted = read_reply(chat_answer(logprobs={"content": [{"token": "ok", "logprob": -0.5}]}))
    assert hosted.token_ids is None


def test_text_alone_is_encoded_again_and_marked(serve, tokenizer, prompts):
    server = serve(always(text_answer("<|reflect|>4")))
    completion = only(ServerEngine(settings(server.port), tokenizer), prompts)
    assert isinstance(completion, InexactCompletion)
    assert completion.token_ids[0] == tokenizer.convert_tokens_to_ids("<|reflect|>")
    assert completion.token_ids[-1] == tokenizer.eos_token_id
    assert completion.logprobs == ()
    assert decode_response(tokenizer, completion) == "<|reflect|>4"


def test_an_end_token_in_the_text_is_not_doubled(serve, tokenizer, prompts):
    server = serve(always(text_answer("4" + tokenizer.eos_token)))
    assert decode_response(tokenizer, only(ServerEngine(settings(server.port), tokenizer), prompts)) == "4"


@pytest.mark.parametrize(
    ("api", "seen", "exact"),
    [
        ("completion-ids", None, True),
        ("completion-ids", "same", True),
        ("completion-ids", "other", False),
        ("completion-text", None, False),
        ("completion-text", "same", True),
        ("chat", "same", True),
        ("chat", "other", False),
    ],
)
def test_ids_are_exact_only_after_the_prompt_asked_for(serve, tokenizer, prompts, api, seen, exact):
    seen_ids = {None: None, "same": prompts[0], "other": [9, *prompts[0]]}[seen]
    more = {"token_ids": [5, tokenizer.eos_token_id], "prompt_token_ids": seen_ids}
    server = serve(always(chat_answer("&", **more) if api == "chat" else text_answer("&", **more)))
    completion = only(ServerEngine(settings(server.port, api=api), tokenizer), prompts)
    assert completion.token_ids == (5, tokenizer.eos_token_id)
    assert isinstance(completion, InexactCompletion) is not exact


def test_an_end_token_the_engine_was_not_told_of(serve, tokenizer, prompts):
    """The server stopped at an id and left it out of the text: it is the end token. One in the text is not."""
    unknown = tokenizer.pad_token_id
    server = serve(always(text_answer("&", token_ids=[5, unknown])))
    completion = only(ServerEngine(settings(server.port), tokenizer), prompts)
    assert completion == Completion((5, unknown), FinishReason.STOP)
    without = serve(always(text_answer("&", token_ids=[5], logprobs={"tokens": ["&"], "token_logprobs": [-1]})))
    completion = only(ServerEngine(settings(without.port), tokenizer), prompts)
    assert completion == InexactCompletion((5, tokenizer.eos_token_id), FinishReason.STOP)


@pytest.mark.parametrize("ending", ["length", "content_filter", "tool_calls"])
def test_other_endings_are_unfinished_and_counted(serve, tokenizer, prompts, ending):
    server = serve(always(text_answer("42", ending)))
    engine = ServerEngine(settings(server.port), tokenizer)
    completion = only(engine, prompts)
    assert completion.finish_reason is FinishReason.LENGTH
    assert decode_response(tokenizer, completion) == "42"
    assert engine.traffic.endings == Counter({ending: 1})


def test_results_come_as_they_finish(serve, tokenizer):
    """Each answer is held back until the prompts after it have come out."""
    asked = [[10, i] for i in range(5)]
    released = [asyncio.Event() for _ in asked]

    async def script(request):
        index = request.body["prompt"][1]
        if index < 4:
            await released[index].wait()
        return text_answer(str(index))

    server = serve(script)
    seen = []
    for index, completion in ServerEngine(settings(server.port), tokenizer).generate(asked, GREEDY, seed=0):
        seen.append((index, decode_response(tokenizer, completion)))
        if index:
            server.loop.call_soon_threadsafe(released[index - 1].set)
    assert seen == [(i, str(i)) for i in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize("flight", [1, 300])
def test_requests_in_flight(serve, tokenizer, flight):
    """The server answers only once as many are in flight as there may be; no more than that ever are."""
    full = asyncio.Event()

    async def script(request):
        if server.now == flight:
            full.set()
        await full.wait()
        return text_answer()

    server = serve(script)
    count = 2 * flight + 1
    engine = ServerEngine(settings(server.port, concurrency=flight), tokenizer)
    assert len(generate_all(engine, [[5, 6]] * count, SAMPLED, seed=0)) == count
    assert server.peak == flight
    assert len({r.body["seed"] for r in server.requests}) == count
    assert engine.traffic.requests == engine.traffic.answered == count


# --- failures that pass ---

PASSING_FAILURES = {
    "429": (Say(429, {"error": {"message": "slow down"}}), Cause.RATE_LIMIT),
    "408": (Say(408), Cause.SERVER),
    "500": (Say(500, "oops"), Cause.SERVER),
    "503 html": (Say(503, b"<html>down</html>"), Cause.SERVER),
    "529": (Say(529), Cause.SERVER),
    "hung up": (HANG_UP, Cause.CUT),
    "cut in the body": (Say(body=b'{"choices": [', missing=50), Cause.CUT),
    "not JSON": (Say(body=b'{"choices": ['), Cause.GARBAGE),
    "not text": (Say(body=b"\xff\xfe\x00"), Cause.GARBAGE),
    "deep JSON": (Say(body=b"[" * 200_000), Cause.GARBAGE),
    "a page": (Say(body=b"<html>welcome</html>"), Cause.GARBAGE),
    "no choices": ({"choices": []}, Cause.GARBAGE),
    "a list": (Say(body=[1, 2]), Cause.GARBAGE),
    "no text": ({"choices": [{"finish_reason": "stop"}]}, Cause.GARBAGE),
    "no finish reason": ({"choices": [{"text": "ok", "finish_reason": None}]}, Cause.GARBAGE),
    "ids that are none": (text_answer(token_ids=[1, -4]), Cause.GARBAGE),
    "aborted": (text_answer(ending="abort"), Cause.GARBAGE),
    "an error as a success": ({"error": {"message": "provider busy", "code": 502}}, Cause.GARBAGE),
}


@pytest.mark.parametrize(("bad", "cause"), PASSING_FAILURES.values(), ids=PASSING_FAILURES)
def test_a_passing_failure_is_tried_again(serve, tokenizer, prompts, bad, cause):
    server = serve(in_turn(bad, bad, text_answer("4")))
    engine = ServerEngine(settings(server.port), tokenizer)
    assert decode_response(tokenizer, only(engine, prompts)) == "4"
    assert engine.traffic.retries == Counter({cause: 2})
    assert len(server.requests) == 3
    assert len({json.dumps(r.body) for r in server.requests}) == 1  # the same request, with its seed


def hanging_first(answer):
    async def script(request):
        if request.number == 0:
            await asyncio.sleep(60)
        return answer

    return script


def test_a_hanging_server_is_left_and_tried_again(serve, tokenizer, prompts):
    server = serve(hanging_first(text_answer("4")))
    engine = ServerEngine(settings(server.port, timeout=0.2), tokenizer)
    assert decode_response(tokenizer, only(engine, prompts)) == "4"
    assert engine.traffic.retries == Counter({Cause.TIMEOUT: 1})
    assert server.left == 1


def test_a_server_that_was_there_is_waited_for(serve, tokenizer, prompts):
    first = serve(always(text_answer("4")))
    engine = ServerEngine(settings(first.port, attempts=20, first_wait=0.02, longest_wait=0.1), tokenizer)
    only(engine, prompts)
    first.stop()
    timer = threading.Timer(0.3, lambda: serve(always(text_answer("5")), first.port))
    timer.start()
    assert decode_response(tokenizer, only(engine, prompts)) == "5"
    timer.join()
    assert engine.traffic.retries[Cause.UNREACHABLE] > 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Say(429, {"error": {"message": "slow down"}}), "429.*lower concurrency.*4 attempts failed.*slow down"),
        (Say(502, "bad gateway"), "HTTP 502.*its log.*4 attempts failed.*bad gateway"),
        (HANG_UP, "broke the connection off.*4 attempts failed"),
        (Say(body=b"<html>hello"), "not as an OpenAI-compatible server.*hello.*is url its address.*4 attempts"),
    ],
)
def test_attempts_are_limited(serve, tokenizer, prompts, bad, message):
    server = serve(always(bad))
    engine = ServerEngine(settings(server.port), tokenizer)
    with pytest.raises(ServerError, match=message) as caught:
        only(engine, prompts)
    assert f"http://127.0.0.1:{server.port}/v1/completions" in str(caught.value)
    assert not caught.value.concerns_all
    assert len(server.requests) == 4
    assert engine.traffic.failed == 1
    assert engine.traffic.retries.total() == 3


def test_a_timeout_says_what_to_change(serve, tokenizer, prompts):
    server = serve(hanging_first(text_answer()))
    error = failure(ServerEngine(settings(server.port, timeout=0.2, attempts=1), tokenizer), prompts)
    assert "no answer within 0.2 s" in str(error)
    assert "raise timeout" in str(error)


def gaps(server):
    times = [r.at for r in server.requests]
    return [b - a for a, b in itertools.pairwise(times)]


def test_waits_grow_up_to_a_limit(serve, tokenizer):
    server = serve(always(Say(500)))
    failure(ServerEngine(settings(server.port, first_wait=0.04, longest_wait=0.1, attempts=5), tokenizer), [[5]])
    for gap, longest in zip(gaps(server), (0.04, 0.08, 0.1, 0.1), strict=True):
        assert longest / 2 <= gap < longest + 0.5


def test_requests_that_failed_together_do_not_come_back_together(serve, tokenizer):
    async def script(request):
        return Say(503) if request.number < 40 else text_answer()

    server = serve(script)
    generate_all(ServerEngine(settings(server.port, first_wait=0.4), tokenizer), [[5]] * 40, GREEDY, seed=0)
    back = [r.at for r in server.requests[40:]]
    assert len(back) == 40
    assert max(back) - min(back) > 0.1


@pytest.mark.parametrize(("asked", "least", "most"), [("0.3", 0.3, 2), ("3600", 0.5, 2), ("soon", 0, 0.3)])
def test_retry_after_is_respected_within_a_bound(serve, tokenizer, prompts, asked, least, most):
    server = serve(in_turn(Say(429, headers={"Retry-After": asked}), text_answer()))
    only(ServerEngine(settings(server.port, longest_wait=0.5), tokenizer), prompts)
    assert least <= gaps(server)[0] < most


def test_retry_after_as_a_date():
    assert seconds_to_wait("Fri, 31 Dec 2100 23:59:59 GMT") > 1e9
    assert seconds_to_wait("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert seconds_to_wait("-5") == 0
    assert [seconds_to_wait(v) for v in (None, "", "nan", "in a while", "99999999999, 1")] == [None] * 5


# --- failures that do not pass ---


def test_a_server_that_is_not_there(tokenizer, prompts):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        port = taken.getsockname()[1]
        begun = time.monotonic()
        error = failure(ServerEngine(settings(port, first_wait=5), tokenizer), prompts)
    assert time.monotonic() - begun < 3  # at once, without the waits
    assert f"no server answers at http://127.0.0.1:{port}/v1" in str(error)
    assert error.concerns_all


def test_no_proxy_on_the_way_to_this_machine(serve, tokenizer, prompts, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = serve(always(text_answer("4")))
    assert decode_response(tokenizer, only(ServerEngine(settings(server.port), tokenizer), prompts)) == "4"


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused(serve, tokenizer, prompts, monkeypatch, status):
    server = serve(always(Say(status, {"error": {"message": f"wrong key: {KEY}"}})))
    monkeypatch.setenv("MY_KEY", KEY)
    error = failure(ServerEngine(settings(server.port, key_variable="MY_KEY"), tokenizer), prompts)
    assert "the key in the environment variable MY_KEY is not good" in str(error)
    assert "wrong key: ***" in str(error)
    missing = failure(ServerEngine(settings(server.port), tokenizer), prompts)
    assert "OPENAI_API_KEY holds no key; put it there" in str(missing)
    assert len(server.requests) == 2
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in server.requests[1].headers


def test_an_unknown_model_lists_those_there_are(serve, tokenizer, prompts):
    async def script(request):
        if request.path == "/v1/models":
            return {"data": [{"id": "qwen"}, {"id": "llama"}]}
        return Say(404, {"error": {"message": "The model `m` does not exist."}})

    server = serve(script)
    error = failure(ServerEngine(settings(server.port), tokenizer), prompts)
    assert "no model 'm'" in str(error)
    assert "It has qwen, llama. Set model to one it has" in str(error)
    assert "does not exist" in str(error)
    assert error.concerns_all
    nothing = serve(always(Say(404, b"nothing here")))
    assert "or no such path (HTTP 404). Set model" in str(
        failure(ServerEngine(settings(nothing.port), tokenizer), prompts)
    )


CONTEXT_ANSWERS = {
    "vLLM": {
        "error": {"message": "This model's maximum context length is 512 tokens. However, your prompt contains 600"}
    },
    "SGLang": {
        "object": "error",
        "message": "The input (600 tokens) is longer than the model's context length (512 tokens).",
    },
    "llama.cpp": {
        "error": {
            "message": "the request exceeds the available context size (512 tokens), try increasing it",
            "type": "exceed_context_size_error",
        }
    },
}


@pytest.mark.parametrize("said", CONTEXT_ANSWERS.values(), ids=CONTEXT_ANSWERS)
def test_a_context_that_is_too_long(serve, tokenizer, said):
    server = serve(always(Say(400, said)))
    error = failure(ServerEngine(settings(server.port), tokenizer), [[5] * 600])
    assert "a prompt of 600 tokens with max_new_tokens 16 does not fit the model's context of 512 tokens" in str(error)
    assert error.cause is Cause.CONTEXT
    assert not error.concerns_all
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_request_that_is_refused(serve, tokenizer, prompts, status):
    server = serve(always(Say(status, {"detail": "unknown field\n\x1b[31mtop_k" + "x" * 1000})))
    error = failure(ServerEngine(settings(server.port), tokenizer), prompts)
    assert "set extensions to false" in str(error)
    assert "It said: unknown field [31mtop_kxx" in str(error)
    assert len(str(error)) < 800
    assert len(server.requests) == 1


def test_a_redirect_is_named(serve, tokenizer, prompts):
    server = serve(always(Say(307, headers={"Location": "https://elsewhere/v1/completions"})))
    error = failure(ServerEngine(settings(server.port), tokenizer), prompts)
    assert "set url to that one. It said: https://elsewhere/v1/completions" in str(error)


def test_one_failure_ends_the_whole_call(serve, tokenizer):
    """What came before it is kept; what is in flight is cancelled."""

    async def script(request):
        index = request.body["prompt"][0]
        if index == 2:
            await asyncio.sleep(0.2)
            return Say(401, "no")
        if index > 2:
            await asyncio.sleep(60)
        return text_answer()

    server = serve(script)
    results = ServerEngine(settings(server.port), tokenizer).generate([[i] for i in range(9)], GREEDY, seed=0)
    assert sorted((next(results)[0], next(results)[0])) == [0, 1]
    with pytest.raises(ServerError, match="HTTP 401"):
        next(results)
    eventually(lambda: server.left == 6)


# --- the key ---


def test_the_key_is_in_no_message(serve, tokenizer, prompts, monkeypatch, caplog):
    """Whatever the server says, also where it says the key."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    said = [
        Say(status, body)
        for status in (307, 400, 401, 404, 429, 500)
        for body in (KEY, {"error": {"message": f"Bearer {KEY}"}}, "x" * 290 + KEY, {"data": [{"id": KEY}]})
    ]
    said += [Say(body=KEY), Say(body=b"{" + KEY.encode()), text_answer(token_ids=[KEY])]
    texts = []
    for answer in said:
        server = serve(always(answer))
        error = failure(ServerEngine(settings(server.port, attempts=2), tokenizer), prompts)
        assert error.__context__ is None  # the library's errors hold the request
        texts += traceback.format_exception(error)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    engine = ServerEngine(settings(serve(always(text_answer(ending=KEY))).port), tokenizer)
    only(engine, prompts)
    everything = "".join([*texts, caplog.text, repr(vars(engine))])
    assert "***" in everything
    assert KEY[:9] not in everything


@pytest.mark.parametrize("key", ["sk secret", "sk-secret\nX-Evil: 1", "sk-secrét"])
def test_a_key_that_cannot_be_sent(serve, tokenizer, prompts, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server = serve(always(text_answer()))
    error = failure(ServerEngine(settings(server.port), tokenizer), prompts)
    assert "OPENAI_API_KEY holds characters that a key cannot have" in str(error)
    assert "secr" not in "".join(traceback.format_exception(error))
    assert not server.requests


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        (" https://api.example.com/openai/v1 ", "https://api.example.com/openai/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_addresses(url, becomes):
    assert ServerEngineSettings(url=url, model="m").url == becomes


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://a/v1", "http://", "", "http://a:b/v1", f"http://u:{KEY}@h/v1"]
)
def test_bad_addresses(url):
    with pytest.raises(ValidationError, match="url") as caught:
        ServerEngineSettings(url=url, model="m")
    assert KEY not in str(caught.value)


# --- stopping ---


def eventually(condition):
    end = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def our_threads():
    return [t for t in threading.enumerate() if t.name == "satori-server"]


def first_answers_then_hangs(request):
    async def script():
        if request.body["prompt"][0] > 0:
            await asyncio.sleep(60)
        return text_answer()

    return script()


def test_closing_cancels_what_is_in_flight(serve, tokenizer):
    server = serve(first_answers_then_hangs)
    engine = ServerEngine(settings(server.port, concurrency=20), tokenizer)
    results = engine.generate([[i] for i in range(50)], GREEDY, seed=0)
    assert next(results)[0] == 0
    eventually(lambda: server.now == 20)
    assert len(our_threads()) == 1
    results.close()
    assert not our_threads()
    eventually(lambda: server.left == 20)
    assert len(server.requests) == 21


def test_closing_ends_a_wait_for_the_next_attempt(serve, tokenizer):
    async def script(request):
        return text_answer() if request.body["prompt"] == [0] else Say(500)

    server = serve(script)
    engine = ServerEngine(settings(server.port, first_wait=60), tokenizer)
    results = engine.generate([[0], [1]], GREEDY, seed=0)
    next(results)
    eventually(lambda: engine.traffic.retries.total() == 1)
    results.close()
    assert not our_threads()


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where the tests run in the background of a shell, which ignores it there."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


def test_an_interrupt_cancels_what_is_in_flight(serve, tokenizer, interruptible):
    server = serve(first_answers_then_hangs)
    engine = ServerEngine(settings(server.port), tokenizer)

    def interrupt():
        eventually(lambda: server.now == 2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        list(engine.generate([[1], [2]], GREEDY, seed=0))
    helper.join()
    eventually(lambda: not our_threads() and server.left == 2)


def test_an_exception_where_results_are_used(serve, tokenizer):
    server = serve(first_answers_then_hangs)
    engine = ServerEngine(settings(server.port), tokenizer)

    def use():
        for _ in engine.generate([[0], [1]], GREEDY, seed=0):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        use()
    eventually(lambda: not our_threads() and server.left == 1)


# --- conversations ---


def test_conversations(serve):
    """Plain fields only: agents talk to hosted servers too."""
    talks = [[{"role": "system", "content": "Be brief."}, *prompt_messages(f"{i}")] for i in range(3)]

    async def script(request):
        return chat_answer(request.body["messages"][1]["content"][-1], usage=None)

    server = serve(script)
    agent = Server(settings(server.port))
    replies = dict(agent.complete(talks, SAMPLED, seed=1))
    assert [replies[i].text for i in range(3)] == ["0", "1", "2"]
    assert {r.path for r in server.requests} == {"/v1/chat/completions"}
    assert set(server.requests[0].body) == {"model", "messages", "max_tokens", "temperature", "seed"}
    assert sorted(r.body["messages"][1]["content"][-1] for r in server.requests) == ["0", "1", "2"]


def test_a_conversation_that_fails_by_itself_does_not_stop_the_others(serve):
    async def script(request):
        said = request.body["messages"][0]["content"]
        if said == "long":
            return Say(400, CONTEXT_ANSWERS["vLLM"])
        return Say(503) if said == "bad" else chat_answer(None if said == "empty" else said)

    server = serve(script)
    talks = [[{"role": "user", "content": text}] for text in ("long", "good", "bad", "empty")]
    replies = dict(Server(settings(server.port)).complete(talks, GREEDY, seed=0))
    assert [replies[0].cause, replies[2].cause] == [Cause.CONTEXT, Cause.SERVER]
    assert [replies[1].text, replies[3].text] == ["good", ""]


def test_a_refused_key_stops_a_conversation(serve):
    agent = Server(settings(serve(always(Say(401))).port))
    with pytest.raises(ServerError, match="OPENAI_API_KEY"):
        list(agent.complete([prompt_messages("1")] * 3, GREEDY, seed=0))


def test_context_length(serve):
    models = {"data": [{"id": "m", "max_model_len": 512}, {"id": "other"}, "strange"]}
    server = serve(always(models))
    assert Server(settings(server.port)).context_length() == 512
    assert Server(settings(server.port, model="other")).context_length() is None
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/v1/models")
    assert Server(settings(serve(always(Say(404))).port)).context_length() is None
    with pytest.raises(ServerError, match="OPENAI_API_KEY"):
        Server(settings(serve(always(Say(401))).port)).context_length()


def test_half_a_character_in_an_answer(serve, tokenizer, prompts):
    """JSON can say half of a surrogate pair; no tokenizer takes one."""
    body = b'{"choices": [{"text": "4\\ud83d", "finish_reason": "stop"}]}'
    server = serve(always(Say(body=body)))
    assert decode_response(tokenizer, only(ServerEngine(settings(server.port), tokenizer), prompts)) == "4?"


def test_the_settings_explain_themselves():
    assert all(field.description for field in ServerEngineSettings.model_fields.values())
    for form in ApiForm:
        assert f"`{form}`" in ServerEngineSettings.model_fields["api"].description


# --- a response as it comes ---


def events(*chunks, end=b"data: [DONE]\n\n"):
    return Say(body=b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + end)


def test_a_response_is_streamed_with_its_ids_and_without_its_end(serve, tokenizer):
    seven, end = tokenizer.encode("7", add_special_tokens=False)[0], tokenizer.eos_token_id

    async def script(request):
        assert request.body["stream"] is True
        return events(
            {"choices": [{"text": "7", "token_ids": [seven]}]},
            {"choices": [{"text": "", "token_ids": [end]}]},
            {"choices": [], "usage": {}},
        )

    engine = ServerEngine(settings(serve(script).port), tokenizer)
    pieces = list(engine.stream(encode_prompt(tokenizer, "3+4=?"), GREEDY, 0))
    assert [(piece.token_ids, piece.text) for piece in pieces] == [((seven,), "7"), ((), ""), ((), "")]


def test_the_chat_api_streams_text(serve, tokenizer):
    async def script(request):
        return events({"choices": [{"delta": {"role": "assistant"}}]}, {"choices": [{"delta": {"content": "seven"}}]})

    engine = ServerEngine(settings(serve(script).port, api=ApiForm.CHAT), tokenizer)
    pieces = engine.stream(encode_prompt(tokenizer, "3+4=?"), GREEDY, 0)
    assert "".join(piece.text for piece in pieces) == "seven"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (Say(401, {"error": {"message": "no such key"}}), Cause.KEY),
        (events(end=b"data: {half\n\n"), Cause.GARBAGE),
        (events({"choices": 5}), Cause.GARBAGE),
        (HANG_UP, Cause.CUT),
        (events({"choices": [{"text": "hal"}]}, end=b""), Cause.CUT),
        (events({"error": {"message": "CUDA is out of memory"}}, end=b""), Cause.SERVER),
        (Say(body=b"data: {}", headers={"Content-Encoding": "gzip"}), Cause.GARBAGE),
    ],
)
def test_what_goes_wrong_in_a_stream_has_its_cause(serve, tokenizer, said, cause):
    async def script(request):
        return said

    engine = ServerEngine(settings(serve(script).port), tokenizer)
    with pytest.raises(ServerError) as caught:
        list(engine.stream(encode_prompt(tokenizer, "3+4=?"), GREEDY, 0))
    assert caught.value.cause is cause


def test_an_error_within_a_stream_has_the_servers_words_but_not_the_key(serve, tokenizer, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def script(request):
        return events({"error": {"message": f"no GPU for {KEY}"}})

    with pytest.raises(ServerError, match=r"It said: no GPU for \*\*\*$"):
        list(ServerEngine(settings(serve(script).port), tokenizer).stream([5], GREEDY, 0))


def test_a_stream_that_says_its_last_piece_has_ended(serve, tokenizer):
    async def script(request):
        return events({"choices": [{"text": "7", "finish_reason": "stop"}]}, end=b"")

    engine = ServerEngine(settings(serve(script).port), tokenizer)
    assert [piece.text for piece in engine.stream([5], GREEDY, 0)] == ["7"]


def test_a_server_that_stays_silent_in_a_stream_is_not_waited_for(serve, tokenizer):
    async def script(request):
        await asyncio.sleep(60)

    engine = ServerEngine(settings(serve(script).port, timeout=0.3), tokenizer)
    with pytest.raises(ServerError, match=r"no answer within 0.3 s") as caught:
        list(engine.stream([5], GREEDY, 0))
    assert caught.value.cause is Cause.TIMEOUT


@pytest.mark.parametrize("refusal", [Say(400, "content filter"), Say(403, "moderation"), Say(400, "context length 5")])
def test_a_prompt_that_is_refused_for_what_it_says_costs_the_others_nothing(serve, tokenizer, refusal):
    async def script(request):
        return refusal if request.body["prompt"][0] == 1 else text_answer()

    engine = ServerEngine(settings(serve(script).port, concurrency=1), tokenizer)
    with pytest.warns(UserWarning, match=r"prompt 1 has no answer: .*HTTP|does not fit"):
        found = dict(engine.generate([[i] for i in range(4)], GREEDY, seed=0))
    assert list(found) == [0, 2, 3, 1]
    assert found[1] == Completion((), FinishReason.LENGTH)
    with pytest.raises(ServerError):
        list(ServerEngine(settings(serve(script).port), tokenizer).generate([[1]], GREEDY, seed=0))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", f"other://bob:{KEY}@host", f"bob:{KEY}"])
def test_a_proxy_that_cannot_be_used_is_named(tokenizer, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    engine = ServerEngine(ServerEngineSettings(url="http://server.invalid", model="m"), tokenizer)
    with pytest.raises(ServerError, match="ALL_PROXY") as caught:
        list(engine.generate([[5]], GREEDY, seed=0))
    assert KEY not in str(caught.value)


def test_an_address_without_a_scheme_is_not_repeated():
    with pytest.raises(ValidationError) as caught:
        ServerEngineSettings(url=f"{KEY}@host/v1", model="m")
    assert KEY not in caught.value.errors()[0]["msg"]


def test_a_stream_that_is_closed_lets_go_of_the_server(serve, tokenizer):
    async def script(request):
        return Say(body=events({"choices": [{"text": "a"}]}, end=b"").body, missing=1000)

    engine = ServerEngine(settings(serve(script).port), tokenizer)
    pieces = engine.stream(encode_prompt(tokenizer, "1"), GREEDY, 0)
    assert next(pieces).text == "a"
    pieces.close()


# --- what is one prompt's own failure ---


def test_a_refusal_that_comes_before_the_first_answer_costs_the_others_nothing(serve, tokenizer):
    """A content filter is quicker than a model."""

    async def script(request):
        if request.body["prompt"][0] == 1:
            return Say(400, "content filter")
        await asyncio.sleep(0.2)
        return text_answer()

    engine = ServerEngine(settings(serve(script).port), tokenizer)
    with pytest.warns(UserWarning, match="prompt 1 has no answer"):
        found = dict(engine.generate([[i] for i in range(4)], GREEDY, seed=0))
    assert found[1] == Completion((), FinishReason.LENGTH)
    assert len(found) == 4


def test_a_server_that_lists_its_models_and_refuses_every_prompt_has_answered_nothing(serve, tokenizer):
    async def script(request):
        models = {"data": [{"id": "m", "max_model_len": 512}]}
        return models if request.path == "/v1/models" else Say(400, "unknown field")

    engine = ServerEngine(settings(serve(script).port), tokenizer)
    assert engine.context_length() == 512
    with pytest.raises(ServerError, match="unknown field"):
        list(engine.generate([[1], [2]], GREEDY, seed=0))


@pytest.mark.parametrize(("bad", "asked"), [(Say(503, "down"), 2), (Say(400, "no"), 21), (Say(402, "no credit"), 2)])
def test_a_server_that_answers_no_more_ends_the_call(serve, tokenizer, bad, asked):
    async def script(request):
        if request.number >= asked:  # on its way before the call ended
            await asyncio.sleep(60)
        return bad if request.body["prompt"][0] else text_answer()

    server = serve(script)
    engine = ServerEngine(settings(server.port, concurrency=1, attempts=1), tokenizer)
    results = engine.generate([[i] for i in range(30)], GREEDY, seed=0)
    assert next(results)[0] == 0
    with pytest.raises(ServerError, match=f"HTTP {bad.status}"):
        next(results)
    assert asked <= len(server.requests) <= asked + 1
