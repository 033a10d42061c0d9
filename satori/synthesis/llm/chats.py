"""A chat model somewhere: messages in, one text out (the models behind the agents of paper section 4.1).

:class:`ServerChat` asks an OpenAI-compatible server, :class:`EngineChat` a model in this process. What it leaves out:
conversations that go on, answers token by token, tool calls. A model that thinks aloud before it answers must be served
so that its thoughts are not part of the text.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from satori.engines.base import Sampling
from satori.engines.http_client import HttpClient
from satori.engines.server import Server, ServerSettings
from satori.sampling import decode_response
from satori.types import Completion, FinishReason

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class ChatReply:
    """What a model said, and whether it came to its end."""

    text: str
    finished: bool


class Chat(Protocol):
    """A chat model."""

    async def reply(self, messages: Messages, sampling: Sampling, seed: int) -> ChatReply:
        """One answer to a conversation; other seeds give other samples."""
        ...


class ServerChat:
    """A model on a server. Several may share a client: each has at most its own ``concurrency`` in flight."""

    def __init__(self, client: HttpClient, settings: ServerSettings) -> None:
        """Raises ValueError where the client is another server's."""
        if client.settings.url != settings.url:
            raise ValueError(f"the client is connected to {client.settings.url}, not to {settings.url}")
        self.client, self.server = client, Server(settings, client.traffic)
        self._free = asyncio.Semaphore(settings.concurrency)

    async def reply(self, messages: Messages, sampling: Sampling, seed: int) -> ChatReply:
        """See :class:`Chat`. Raises ServerError."""
        async with self._free:
            reply = await self.client.ask(self.server.chat_call(messages, sampling, seed))
        return ChatReply(reply.text, reply.finish_reason is FinishReason.STOP)


class EngineChat:
    """A local model, asked through its tokenizer's own chat template."""

    def __init__(
        self,
        complete: Callable[[Sequence[int], Sampling, int], Awaitable[Completion]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """``complete`` gives one sample after a prompt. Raises ValueError where the tokenizer has no chat template."""
        self.complete, self.tokenizer = complete, tokenizer
        check_chat_template(tokenizer)

    async def reply(self, messages: Messages, sampling: Sampling, seed: int) -> ChatReply:
        """See :class:`Chat`. Raises ValueError where the chat template refuses the messages."""
        prompt = encode_chat(self.tokenizer, messages, add_generation_prompt=True)
        completion = await self.complete(prompt, sampling, seed)
        finished = completion.finish_reason is FinishReason.STOP
        return ChatReply(decode_response(self.tokenizer, completion), finished)


def check_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError where a tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template: an agent needs a chat "
            "model, or a chat_template.jinja beside its tokenizer"
        )


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Messages, add_generation_prompt: bool) -> list[int]:
    """A conversation as the tokenizer's own chat template writes it. Raises ValueError where that refuses it."""
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path or 'this model'} refuses the turns {roles}: {error}. "
            "Where it takes no system turn, leave the part before --- out of the prompt templates."
        ) from error
    return list(tokenizer.encode(str(text), add_special_tokens=False))  # the template has them
