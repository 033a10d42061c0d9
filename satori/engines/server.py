"""Sampling from an OpenAI-compatible HTTP server: vLLM, SGLang, llama.cpp, hosted ones.

:class:`Server` takes conversations and gives texts, for agents. :class:`ServerEngine` is an
:class:`~satori.engines.base.Engine` on top of it: it takes prompts as token ids and gives token ids. Three forms of the
API (:class:`ApiForm`); how much of a prompt and of a response survives the way is different in each:

* prompts: ids arrive as they are; text is split into tokens again by the server; of a chat prompt only the user turn
  arrives, and the server lays its own template around it;
* responses: vLLM and SGLang return the sampled ids, llama.cpp returns them beside log-probabilities. Ids that are not
  known to be the sampled ones, after a prompt known to be the one asked for, come as :class:`InexactCompletion`.

Log-probabilities are the server's. At temperature 1 all mean the same; at others SGLang's are those of the sampling
temperature, vLLM's and llama.cpp's those of temperature 1 (unless vLLM was started with ``--logprobs-mode
processed_logprobs``). llama.cpp leaves special tokens, and so the meta-actions, out of its text unless it was started
with ``--special``.

What it leaves out: tool calls, weights of a model in training (the server has its own).
"""

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from typing import Any

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from satori.coat import PROMPT_INSTRUCTION, encode_prompt
from satori.config import derive_seed
from satori.engines.base import EngineError, Piece, Sampling
from satori.engines.http_client import Call, ConnectionSettings, Traffic, answers, streamed
from satori.engines.server_errors import PASSING, Cause, ServerError
from satori.engines.server_replies import Reply, read_models, read_piece, read_reply
from satori.types import Completion, FinishReason

Conversation = Sequence[Mapping[str, str]]
"""Messages with role and content, as :func:`satori.coat.prompt_messages` makes them."""

_HOPELESS = 20
"""Prompts that a server may refuse in a row, or as many as are in flight if that is more, before the key or the form of
the requests is held to be wrong."""


class ApiForm(StrEnum):
    """How an engine puts its prompts."""

    COMPLETION_IDS = "completion-ids"
    COMPLETION_TEXT = "completion-text"
    CHAT = "chat"


class ServerSettings(ConnectionSettings):
    """A model on a server, and how to ask it."""

    model: str = Field(min_length=1)
    """The model's name on the server."""
    extra_fields: dict[str, Any] = Field(default={})
    """Fields added to every request, over those that would be sent; null leaves a field out."""


class ServerEngineSettings(ServerSettings):
    """A model on a server as an engine."""

    api: ApiForm = ApiForm.COMPLETION_IDS
    """`completion-ids` (vLLM, SGLang, llama.cpp), `completion-text`, or `chat` where a server has nothing else."""
    extensions: bool = True
    """Send what vLLM, SGLang and llama.cpp know beyond OpenAI's own API: token ids are asked for, special tokens kept,
    and the server's own top-k, min-p and repetition penalty switched off. Hosted servers may refuse it."""
    logprobs: bool = True
    """Ask for the log-probabilities of the sampled tokens; training needs them, evaluation does not. Only sent together
    with extensions: without the ids they belong to they say nothing."""


class InexactCompletion(Completion):
    """A completion whose ids are not known to be the sampled ones: its text was split into tokens again, the end token
    was not among the ids that the server gave, or the server saw another prompt. Good for evaluation. Training must
    refuse it: these ids may have another probability than what was sampled, and there are no log-probabilities."""


class Server:
    """A model on a server: conversations in, texts out, through the chat API.

    ``traffic`` counts requests, retries by cause, and tokens, over all calls.
    """

    def __init__(self, settings: ServerSettings, traffic: Traffic | None = None) -> None:
        """``traffic`` is what to count into, where others count as well."""
        self.settings = settings
        self.traffic = traffic or Traffic()

    def complete(
        self, conversations: Sequence[Conversation], sampling: Sampling, seed: int
    ) -> Iterator[tuple[int, Reply | ServerError]]:
        """Yield (index of the conversation, reply) as they come, each once.

        A request that failed by itself (given up after its last attempt, too long) comes as its error in place of a
        reply; an error that concerns all requests is raised. Beyond temperature and length the server's own sampling
        settings hold.
        """
        calls = [
            self.chat_call(conversation, sampling, _request_seed(seed, index))
            for index, conversation in enumerate(conversations)
        ]
        with closing(answers(self.settings, self.traffic, calls)) as replies:
            for index, reply in replies:
                if isinstance(reply, ServerError) and reply.concerns_all:
                    raise reply
                yield index, reply

    def context_length(self) -> int | None:
        """The model's context where the server tells it. Raises ServerError where there is no server, or the key is
        refused: a good first call."""
        call = Call("/models", None, read_models)
        with closing(answers(self.settings, self.traffic, [call])) as replies:
            _, models = next(replies)
        if isinstance(models, ServerError):
            if models.cause in (Cause.NOT_FOUND, Cause.REFUSED):  # not every server has a list
                return None
            raise models
        return models.get(self.settings.model)

    def chat_call(self, conversation: Conversation, sampling: Sampling, seed: int) -> Call[Reply]:
        """One request of the chat API, for who asks by themselves (:class:`satori.engines.http_client.HttpClient`)."""
        return self._call("/chat/completions", self._body(sampling, seed, messages=list(map(dict, conversation))))

    def _body(self, sampling: Sampling, seed: int, **asked: object) -> dict[str, Any]:
        """What every request says."""
        drawn = {"seed": seed} if sampling.temperature > 0 else {}
        fixed = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        return {"model": self.settings.model, **asked, **fixed, **drawn}

    def _call(self, path: str, body: Mapping[str, Any], prompt_tokens: int | None = None) -> Call[Reply]:
        filled = {**body, **self.settings.extra_fields}
        sent = {name: value for name, value in filled.items() if value is not None}
        return Call(path, sent, self._read, prompt_tokens)

    def _read(self, found: Any) -> Reply:
        reply = read_reply(found)
        with self.traffic.lock:
            self.traffic.endings[reply.ending] += 1
        return reply


class ServerEngine(Server):
    """Samples completions of token ids from a server.

    A response ends with the end token, or with one of ``also_stop`` where a model has several. A finish reason other
    than `stop` and `length` (a content filter, a tool call) becomes LENGTH: the response did not come to its end; the
    counter ``traffic.endings`` tells them apart. As far as the server computes the same in every batch, the same
    prompts, settings and seed give the same completions.
    """

    settings: ServerEngineSettings

    def __init__(
        self, settings: ServerEngineSettings, tokenizer: PreTrainedTokenizerBase, also_stop: Sequence[int] = ()
    ) -> None:
        super().__init__(settings)
        if not isinstance(tokenizer.eos_token_id, int):
            raise EngineError(f"the tokenizer's end token is {tokenizer.eos_token_id!r}: expected the id of one")
        self.tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_token_id
        self.stop_ids = tuple(dict.fromkeys((self.eos_token_id, *also_stop)))

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> Iterator[tuple[int, Completion]]:
        """See :class:`satori.engines.base.Engine`. Raises ServerError, and EngineError for a prompt that is empty or,
        in the chat form, not one user turn. A prompt that the server refuses for its own sake (too long, filtered)
        while it answers others gets an empty unfinished completion, after all others, and a warning."""
        refused: dict[int, ServerError] = {}
        in_a_row, limit = 0, max(_HOPELESS, self.settings.concurrency)
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise EngineError(f"prompt {index} is empty")
        with closing(answers(self.settings, self.traffic, self._calls(prompts, sampling, seed, first))) as replies:
            for index, reply in replies:
                if not isinstance(reply, ServerError):
                    in_a_row = 0
                    yield index, self._completion(prompts[index], reply)
                    continue
                in_a_row += reply.cause is not Cause.CONTEXT
                if reply.concerns_all or reply.cause in PASSING or in_a_row == limit:
                    raise reply
                refused[index] = reply
        if refused and not self.traffic.endings:  # a list of models is no answer
            raise next(iter(refused.values()))
        for index, error in refused.items():
            warnings.warn(f"prompt {index} has no answer: {error}", stacklevel=2)
            yield index, Completion((), FinishReason.LENGTH)

    def stream(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Generator[Piece, None, None]:
        """See :class:`satori.engines.base.StreamingEngine`: pieces of text, with their ids where the server tells them.
        Raises what ``generate`` does."""
        [call] = self._calls([prompt], sampling, seed)
        asked = Call(call.path, call.body, read_piece, call.prompt_tokens)
        with closing(streamed(self.settings, self.traffic, asked)) as pieces:
            for piece in pieces:
                yield Piece(tuple(i for i in piece.token_ids if i not in self.stop_ids), piece.text)

    def _calls(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> list[Call[Reply]]:
        api = self.settings.api
        turn = UserTurn(self.tokenizer) if api is ApiForm.CHAT else None
        path = "/chat/completions" if turn else "/completions"
        calls = []
        for index, prompt in enumerate(prompts):
            asked: dict[str, object]
            if turn:
                asked = {"messages": [{"role": "user", "content": turn.content(prompt, index)}]}
            elif api is ApiForm.COMPLETION_TEXT:
                asked = {"prompt": decode(self.tokenizer, prompt)}
            else:
                asked = {"prompt": list(prompt)}
            fitting = sampling.model_copy(update={"max_new_tokens": sampling.room(prompt)})
            body = self._body(fitting, _request_seed(seed, first + index), **asked, **self._exactly())
            calls.append(self._call(path, body, len(prompt)))
        return calls

    def _exactly(self) -> dict[str, object]:
        """The fields that make a server sample from the model's own distribution and return what it sampled."""
        if not self.settings.extensions:
            return {"top_p": 1.0}
        chat = self.settings.api is ApiForm.CHAT
        # llama.cpp returns ids only beside at least one alternative, and OpenAI's chat counts those apart.
        logprobs: dict[str, object] = {"logprobs": True, "top_logprobs": 1} if chat else {"logprobs": 1}
        return {
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(self.stop_ids),
            "skip_special_tokens": False,  # the meta-actions are special tokens
            "spaces_between_special_tokens": False,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,  # the same from a vLLM before 0.10.2, as names in the log-probabilities
            **({"add_special_tokens": False} if self.settings.api is ApiForm.COMPLETION_TEXT else {}),
            **(logprobs if self.settings.logprobs else {}),
        }

    def _completion(self, prompt: Sequence[int], reply: Reply) -> Completion:
        ids, reason = reply.token_ids, reply.finish_reason
        stopped = reason is FinishReason.STOP
        if ids is None:
            ids = tuple(self.tokenizer.encode(reply.text, add_special_tokens=False))
            whole = not stopped or (bool(ids) and ids[-1] in self.stop_ids)
            return InexactCompletion(ids if whole else (*ids, self.eos_token_id), reason)
        if stopped and not self._ends(ids, reply.text):
            return InexactCompletion((*ids, self.eos_token_id), reason)
        if reply.prompt_ids is None:
            same_prompt = self.settings.api is ApiForm.COMPLETION_IDS
        else:
            same_prompt = reply.prompt_ids == tuple(prompt)
        if not same_prompt:
            return InexactCompletion(ids, reason)
        return Completion(ids, reason, reply.logprobs if len(reply.logprobs) == len(ids) else ())

    def _ends(self, ids: tuple[int, ...], text: str) -> bool:
        """Whether the last id is an end token: one we know, or one that the server stopped at and left out of its
        text."""
        if not ids:
            return False
        return ids[-1] in self.stop_ids or not text.endswith(decode(self.tokenizer, ids[-1:]))


class UserTurn:
    """Finds the one user turn of a prompt, whatever the tokenizer's template: what stands between the beginning and the
    end that every prompt of :func:`satori.coat.encode_prompt` has."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        example = PROMPT_INSTRUCTION + "0"
        self.before, found, self.after = decode(tokenizer, encode_prompt(tokenizer, "0")).partition(example)
        if not found:
            raise EngineError(
                "this tokenizer changes the text of its prompts: set api to completion-ids or completion-text"
            )

    def content(self, prompt: Sequence[int], index: int) -> str:
        """The user turn of a prompt's ids. Raises EngineError where the prompt is something else."""
        text = decode(self.tokenizer, prompt)
        inside = text.removeprefix(self.before).removesuffix(self.after)
        if len(inside) != len(text) - len(self.before) - len(self.after):
            raise EngineError(
                f"prompt {index} is not one user turn that is waiting for its answer; the chat API takes nothing else "
                "(restarts go on within an answer): set api to completion-ids or completion-text. "
                f"It ends {text[-60:]!r}"
            )
        return inside


def _request_seed(seed: int, index: int) -> int:
    """Each request has a seed of its own: samples of one prompt are to be different."""
    return derive_seed(seed, "request", index)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, special tokens kept and nothing tidied."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
