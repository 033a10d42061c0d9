"""The engine interface: prompts as token ids in, sampled token ids out, as they finish.

Prompts are token ids, not text, so that a restart continues exactly from the ids it stopped at. Every stage that
samples goes through this interface. :class:`satori.engines.torch_engine.TorchEngine` is the embedded implementation,
:class:`satori.engines.vllm_engine.VllmEngine` the one for large models, :class:`satori.engines.server.ServerEngine` the
one for models that run elsewhere; :class:`satori.engines.scripted.ScriptedEngine` serves the tests.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedModel

from satori.types import Completion


class Sampling(BaseModel):
    """How to sample."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    temperature: float = Field(default=1.0, ge=0.0)
    """0 is greedy. Training uses no top-p or top-k: the sampled distribution is the trained one."""
    max_new_tokens: int = Field(default=256, gt=0)
    """A response that reaches this length ends with finish reason `length`; no end token is invented for it."""
    context_length: int | None = Field(default=None, gt=0)
    """Tokens that prompt and response may have together: a response that reaches it ends with `length` too. None: every
    prompt has to leave room for `max_new_tokens`."""

    def room(self, prompt: Sequence[int]) -> int:
        """How many tokens the response to a prompt may have; none are left where this is below 1."""
        left = self.max_new_tokens if self.context_length is None else self.context_length - len(prompt)
        return min(self.max_new_tokens, left)


class Engine(Protocol):
    """Samples completions for prompts."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index of the prompt, completion) as completions finish, each prompt once.

        The same prompts, settings, seed and weights give the same completions. What is random in a response comes from
        the seed and its number: ``first`` for the first prompt, so that a part of many prompts is sampled as in the
        whole.
        """
        ...


@dataclass(frozen=True)
class Piece:
    """A part of a response as it comes: one token or a few, and their text where the engine is told nothing else."""

    token_ids: tuple[int, ...]
    text: str | None = None


class StreamingEngine(Engine, Protocol):
    """An engine that shows a response while it is being written."""

    def stream(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Generator[Piece, None, None]:
        """One response, piece by piece, without the end token. Closing the iterator ends it."""
        ...


class PolicyEngine(Engine, Protocol):
    """An engine that can sample from a model in training."""

    def update_weights(self, model: PreTrainedModel) -> None:
        """Sample with this model's present weights from now on. The model is the one the engine was made for."""
        ...

    def sleep(self) -> None:
        """Give up the memory that is not needed until the next :meth:`update_weights`."""
        ...


class EngineError(ValueError):
    """An engine cannot run here, or not this model; the message says what to do."""


def generate_all(engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> list[Completion]:
    """All completions in the order of their prompts."""
    done = dict(engine.generate(prompts, sampling, seed))
    return [done[i] for i in range(len(prompts))]
