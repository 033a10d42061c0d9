"""Reward models behind the third agent (paper section 4.1: Skywork-Reward-Llama-3.1-8B-v0.2): a sequence classifier
with one label scores a question with its solution, in this process or on a server.

Scores are raw logits. Their order is all that counts, and a sigmoid of them would round good solutions to the same 1.
What it leaves out: generative judges, and rewards of single steps.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.coat import encode_prompt
from satori.engines.http_client import Call, ConnectionSettings, HttpClient
from satori.engines.server_errors import Cause, ServerError
from satori.models import config_context_length
from satori.scoring import PromptResponse, reward_logits
from satori.synthesis.agents import PartialSolution
from satori.synthesis.batching import Batches
from satori.synthesis.llm.chats import check_chat_template, encode_chat

DOES_NOT_FIT = -math.inf
"""The score of a solution that is longer than the model's context: it is taken where there is no other."""
_LARGEST = 1e30  # beyond what any model's head gives


class RewardPrompt(StrEnum):
    """How a reward model is shown a question and a solution."""

    CHAT = "chat"
    """As a user and an assistant turn, in its own chat template: what published reward models were trained on."""
    ORM = "orm"
    """As this package's own outcome reward models were: the COAT prompt, the response, the end token."""


class ClassifierReward:
    """A local sequence classifier, asked in batches.

    A solution that does not fit the model's context scores :data:`DOES_NOT_FIT`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batches: Batches,
        form: RewardPrompt = RewardPrompt.CHAT,
    ) -> None:
        """Raises ValueError where the model is no reward model, or the tokenizer cannot write the form."""
        if model.config.num_labels != 1:
            raise ValueError(f"the classifier has {model.config.num_labels} labels: a reward model has one")
        _check_form(tokenizer, form)
        self.model, self.tokenizer, self.batches, self.form = model, tokenizer, batches, form
        self.context_length = config_context_length(model.config)

    async def score(self, solution: PartialSolution) -> float:
        """See :class:`satori.synthesis.agents.RewardModel`."""
        sequence = tuple(encode_solution(self.tokenizer, solution, self.form)), ()
        if self.context_length is not None and len(sequence[0]) > self.context_length:
            return DOES_NOT_FIT
        return await self.batches.ask("reward", sequence, sequence, self._score)

    def _score(self, sequences: Sequence[PromptResponse], seed: int) -> list[float]:
        return reward_logits(self.model, sequences)


class RewardServerSettings(ConnectionSettings):
    """A reward model on a vLLM server (``vllm serve … --runner pooling``)."""

    model: str = Field(min_length=1)
    """The model's name on the server."""
    prompt: RewardPrompt = RewardPrompt.CHAT
    """`chat` (the server's own template for the model) or `orm` (this package's own reward models)."""
    tokenizer: str = ""
    """The model's, for the form `orm`: a checkpoint folder or hub id."""
    extra_fields: dict[str, Any] = Field(default={})
    """Fields added to every request, over those that would be sent; null leaves a field out."""

    @field_validator("url")
    @classmethod
    def _without_version(cls, value: str) -> str:
        """vLLM's /classify stands beside its /v1, not in it."""
        return value.removesuffix("/v1")

    @model_validator(mode="after")
    def _check_tokenizer(self) -> Self:
        if (self.prompt is RewardPrompt.ORM) != bool(self.tokenizer):
            raise ValueError("the prompt form orm needs a tokenizer, and no other form has one")
        return self


class ServerReward:
    """A sequence classifier on a vLLM server, asked over /classify.

    The server is asked to leave out the activation that would saturate (``use_activation``). One that does not know
    the name, an older vLLM, gives sigmoids: their order is the same until they round to 1. A solution that does not fit
    the model's context scores :data:`DOES_NOT_FIT`.
    """

    def __init__(
        self, client: HttpClient, settings: RewardServerSettings, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """``tokenizer`` is the model's, needed for the form `orm` alone. Raises ValueError where it is missing, and
        where the client is another server's."""
        if client.settings.url != settings.url:
            raise ValueError(f"the client is connected to {client.settings.url}, not to {settings.url}")
        if settings.prompt is RewardPrompt.ORM:
            if tokenizer is None:
                raise ValueError("the prompt form orm needs the reward model's tokenizer")
            _check_form(tokenizer, settings.prompt)
        self.client, self.settings, self.tokenizer = client, settings, tokenizer
        self._free = asyncio.Semaphore(settings.concurrency)

    async def score(self, solution: PartialSolution) -> float:
        """See :class:`satori.synthesis.agents.RewardModel`. Raises ServerError."""
        asked: dict[str, Any]
        if self.settings.prompt is RewardPrompt.CHAT or self.tokenizer is None:
            asked = {"messages": conversation(solution)}
        else:
            asked = {"input": encode_solution(self.tokenizer, solution, self.settings.prompt)}
        filled = {"model": self.settings.model, **asked, "use_activation": False, **self.settings.extra_fields}
        body = {name: value for name, value in filled.items() if value is not None}
        async with self._free:
            try:
                return await self.client.ask(Call("/classify", body, read_score))
            except ServerError as error:
                if error.cause is not Cause.CONTEXT:
                    raise
                return DOES_NOT_FIT


def conversation(solution: PartialSolution) -> list[dict[str, str]]:
    """A question and its solution as the two turns of a chat."""
    return [
        {"role": "user", "content": solution.problem.question},
        {"role": "assistant", "content": "\n".join(solution.steps)},
    ]


def encode_solution(tokenizer: PreTrainedTokenizerBase, solution: PartialSolution, form: RewardPrompt) -> list[int]:
    """A question and its solution as the token ids that a reward model scores at the last of them."""
    if form is RewardPrompt.CHAT:
        return encode_chat(tokenizer, conversation(solution), add_generation_prompt=False)
    prompt = encode_prompt(tokenizer, solution.problem.question)
    response = tokenizer.encode("\n".join(solution.steps), add_special_tokens=False)
    end: Any = tokenizer.eos_token_id
    return [*prompt, *response, end]


def read_score(found: Any) -> float:
    """The one number of a /classify answer. Raises ValueError where there is none."""
    rows = found.get("data") if isinstance(found, Mapping) else None
    if not isinstance(rows, list) or len(rows) != 1 or not isinstance(rows[0], dict):
        raise ValueError("not one classification")
    values = rows[0].get("probs")
    if not isinstance(values, list) or not values:
        raise ValueError("no probs in its classification")
    if len(values) > 1:
        raise ValueError(f"a classifier of {len(values)} labels: a reward model has one")
    value = values[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise ValueError(f"a score that is no finite number: {value!r:.40}")
    return float(value)


def _check_form(tokenizer: PreTrainedTokenizerBase, form: RewardPrompt) -> None:
    if form is RewardPrompt.CHAT:
        check_chat_template(tokenizer)
    elif not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(f"the tokenizer's end token is {tokenizer.eos_token_id!r}: expected the id of one")
