"""The engine interface: prompts as token ids in, sampled token ids out, as they finish.

Prompts are token ids, not text, so that a restart continues exactly from the ids it stopped at. Every stage that
samples goes through this interface; the embedded implementation is :class:`satori.engines.torch_engine.TorchEngine`,
and :class:`satori.engines.scripted.ScriptedEngine` serves the tests.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from satori.types import Completion


class Sampling(BaseModel):
    """How to sample."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    temperature: float = Field(default=1.0, ge=0.0)
    """0 is greedy. Training uses no top-p or top-k: the sampled distribution is the trained one."""
    max_new_tokens: int = Field(default=256, gt=0)
    """A response that reaches this length ends with finish reason `length`; no end token is invented for it."""


class Engine(Protocol):
    """Samples completions for prompts."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index of the prompt, completion) as completions finish, each prompt once.

        The same prompts, settings, seed and weights give the same completions.
        """
        ...


def generate_all(engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> list[Completion]:
    """All completions in the order of their prompts."""
    done = dict(engine.generate(prompts, sampling, seed))
    return [done[i] for i in range(len(prompts))]
