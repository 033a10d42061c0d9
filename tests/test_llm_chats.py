"""Chats over a server and over a local engine (satori.synthesis.llm.chats)."""

import asyncio
import copy

import pytest
from scripted_server import Say, ScriptedServer, always, chat_answer, in_turn

from satori.coat import CHATML_TEMPLATE
from satori.engines.base import Sampling
from satori.engines.http_client import HttpClient, Traffic
from satori.engines.server import ServerSettings
from satori.engines.server_errors import Cause, ServerError
from satori.synthesis.llm.chats import ChatReply, EngineChat, ServerChat
from satori.types import Completion, FinishReason

SAMPLED = Sampling(temperature=0.7, max_new_tokens=16)
GREEDY = Sampling(temperature=0, max_new_tokens=16)
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def serve():
    servers = []

    def start(script):
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def settings(server, **changed):
    return ServerSettings(
        **{"url": f"http://127.0.0.1:{server.port}", "model": "m", "first_wait": 0.01, "attempts": 3, **changed}
    )


def ask(found, *requests):
    """The replies of one chat to requests made at a time."""

    async def work():
        async with HttpClient(found, Traffic()) as client:
            chat = ServerChat(client, found)
            return await asyncio.gather(*(chat.reply(*request) for request in requests)), client.traffic

    return asyncio.run(work())


def test_a_server_is_asked_the_messages_with_the_sampling_and_the_seed(serve):
    server = serve(always(chat_answer("fine")))
    [reply], traffic = ask(settings(server, extra_fields={"top_p": 0.9}), (HELLO, SAMPLED, 7))
    assert reply == ChatReply("fine", finished=True)
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.body == {
        "model": "m",
        "messages": HELLO,
        "max_tokens": 16,
        "temperature": 0.7,
        "seed": 7,
        "top_p": 0.9,
    }
    assert traffic.answered == 1 and traffic.endings == {"stop": 1}


def test_greedy_requests_carry_no_seed(serve):
    server = serve(always(chat_answer("fine")))
    ask(settings(server), (HELLO, GREEDY, 7))
    assert "seed" not in server.requests[0].body


@pytest.mark.parametrize(("ending", "finished"), [("stop", True), ("length", False), ("content_filter", False)])
def test_a_reply_is_finished_where_the_model_stopped_by_itself(serve, ending, finished):
    [reply], _ = ask(settings(serve(always(chat_answer("fine", ending)))), (HELLO, SAMPLED, 1))
    assert reply.finished is finished


def test_no_more_requests_are_in_flight_than_the_settings_allow(serve):
    async def script(request):
        await asyncio.sleep(0.02)
        return chat_answer("fine")

    server = serve(script)
    replies, _ = ask(settings(server, concurrency=3), *((HELLO, SAMPLED, i) for i in range(12)))
    assert len(replies) == 12 and server.peak == 3


def test_chats_of_several_models_share_a_client(serve):
    async def script(request):
        return chat_answer(request.body["model"])

    first = settings(serve(script))
    second = first.model_copy(update={"model": "n"})

    async def work():
        async with HttpClient(first, Traffic()) as client:
            return [await ServerChat(client, found).reply(HELLO, SAMPLED, 0) for found in (first, second)]

    assert [reply.text for reply in asyncio.run(work())] == ["m", "n"]


def test_a_client_of_another_server_is_refused():
    found = ServerSettings(url="http://127.0.0.1:1", model="m")
    with pytest.raises(ValueError, match=r"connected to http://127.0.0.1:1/v1, not to http://127.0.0.1:2/v1"):
        ServerChat(HttpClient(found, Traffic()), ServerSettings(url="http://127.0.0.1:2", model="m"))


def test_a_passing_failure_is_tried_again_and_another_raised(serve):
    server = serve(in_turn(Say(503), chat_answer("fine")))
    [reply], traffic = ask(settings(server), (HELLO, SAMPLED, 1))
    assert reply.text == "fine" and traffic.retries == {Cause.SERVER: 1}
    with pytest.raises(ServerError, match="refuses access"):
        ask(settings(serve(always(Say(401)))), (HELLO, SAMPLED, 1))


# --- a local engine ---


class ScriptedComplete:
    """Says a text after every prompt, and keeps the prompts."""

    def __init__(self, tokenizer, text, reason=FinishReason.STOP):
        ids = tokenizer.encode(text, add_special_tokens=False)
        self.ids = (*ids, tokenizer.eos_token_id) if reason is FinishReason.STOP else tuple(ids)
        self.reason, self.asked = reason, []

    async def __call__(self, prompt, sampling, seed):
        self.asked.append((list(prompt), sampling, seed))
        return Completion(self.ids, self.reason)


def test_a_local_model_is_asked_in_its_own_chat_template(tokenizer):
    complete = ScriptedComplete(tokenizer, "fine <|reflect|>")
    turns = [{"role": "system", "content": "be kind"}, *HELLO]
    reply = asyncio.run(EngineChat(complete, tokenizer).reply(turns, SAMPLED, 7))
    assert reply == ChatReply("fine <|reflect|>", finished=True)  # a meta-action stays, for the flow to refuse
    prompt, sampling, seed = complete.asked[0]
    assert tokenizer.decode(prompt) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (sampling, seed) == (SAMPLED, 7)


def test_a_local_response_that_was_cut_off_is_not_finished(tokenizer):
    complete = ScriptedComplete(tokenizer, "half", FinishReason.LENGTH)
    assert asyncio.run(EngineChat(complete, tokenizer).reply(HELLO, SAMPLED, 7)) == ChatReply("half", finished=False)


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(ValueError, match="has no chat template: an agent needs a chat model"):
        EngineChat(ScriptedComplete(tokenizer, ""), bare)


def test_a_chat_template_that_takes_no_system_turn_says_so(tokenizer):
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML_TEMPLATE
    )
    chat = EngineChat(ScriptedComplete(tokenizer, "fine"), strict)
    assert asyncio.run(chat.reply(HELLO, SAMPLED, 1)).text == "fine"
    with pytest.raises(ValueError, match=r"refuses the turns system, user: no system here\. Where it takes no system"):
        asyncio.run(chat.reply([{"role": "system", "content": "x"}, *HELLO], SAMPLED, 1))
