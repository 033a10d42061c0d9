"""Which agents make the demonstrations (paper section 4.1, appendix C).

The paper has Qwen2.5-Math-7B-Instruct, Llama-3.1-70B-Instruct and Skywork-Reward-Llama-3.1-8B. Each agent can be a
model on an OpenAI-compatible server or in this process; the embedded problems, and others whose sums can be checked,
need no second model.
"""

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from satori.config import Settings
from satori.engines.server import ServerSettings
from satori.run_folder import text_digest
from satori.synthesis.llm.agents import CRITIC_SAMPLING
from satori.synthesis.llm.parsing import LONGEST_REASON
from satori.synthesis.llm.reward import RewardPrompt, RewardServerSettings
from satori.synthesis.llm.steps import SHORTEST_STEP
from satori.synthesis.llm.templates import Templates, load_templates


class GeneratorKind(StrEnum):
    """Who solves the problems."""

    BASE = "base"
    CHAT = "chat"


class CriticKind(StrEnum):
    """Who finds the mistakes."""

    COLUMNS = "columns"
    CLAIMS = "claims"
    CHAT = "chat"


class RewardKind(StrEnum):
    """Who picks the best candidate of a kind."""

    LIKELIHOOD = "likelihood"
    CLASSIFIER = "classifier"
    SERVER = "server"


class ChatPlace(Settings):
    """Where a chat model runs."""

    server: ServerSettings | None = None
    """On an OpenAI-compatible server: `{url: http://localhost:8000/v1, model: NAME}`, and how to reach it."""
    checkpoint: str = ""
    """Without a server: a checkpoint folder or a hub id, run here by the recipe's engine; empty is the base model."""

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.server and self.checkpoint:
            raise ValueError("an agent runs on a server or from a checkpoint, not both")
        if (self.server or self.checkpoint) and getattr(self, "kind", None) != "chat":
            raise ValueError("only an agent of kind chat runs on a server or from a checkpoint: set kind to chat")
        return self


class GeneratorSettings(ChatPlace):
    """The generator."""

    kind: GeneratorKind = GeneratorKind.BASE
    """`base`: the base model itself, in the prompt of training; `chat`: an instruction-tuned model, asked with prompt
    templates."""
    shortest_step: int = Field(default=SHORTEST_STEP, ge=0)
    """Of a chat model's solution: characters that a step has at least; a shorter piece goes to its neighbour."""


class CriticSettings(ChatPlace):
    """The critic."""

    kind: CriticKind = CriticKind.COLUMNS
    """`columns`: redoes the embedded problems' sums column by column; `claims`: works out every sum and product that a
    step states; `chat`: an instruction-tuned model that sees the reference solution."""
    temperature: float = Field(default=CRITIC_SAMPLING.temperature, ge=0)
    """Of a chat model (paper: 0.2)."""
    max_new_tokens: int = Field(default=CRITIC_SAMPLING.max_new_tokens, gt=0)
    """Of a chat model (paper: 256)."""
    attempts: int = Field(default=2, gt=0)
    """How often a chat model is asked, each time with another seed, until its answer is of use."""
    longest_reason: int = Field(default=LONGEST_REASON, gt=0)
    """Characters that a reason, or a direction, has at most; an answer with a longer one is of no use."""


class RewardSettings(Settings):
    """The reward model that picks the best candidates; only the order within a problem counts."""

    kind: RewardKind = RewardKind.LIKELIHOOD
    """`likelihood`: mean log-probability under the base model; `classifier`: a sequence-classification checkpoint, run
    here; `server`: one on a vLLM server."""
    checkpoint: str = ""
    """The classifier: a checkpoint folder or a hub id."""
    prompt: RewardPrompt = RewardPrompt.CHAT
    """How the classifier is shown a solution: `chat`, or `orm` for reward models made here."""
    server: RewardServerSettings | None = None
    """A vLLM server (`vllm serve MODEL --runner pooling`): `{url: http://localhost:8000, model: NAME}`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind is RewardKind.SERVER) != bool(self.server):
            raise ValueError("kind server needs a server, and no other kind has one")
        if (self.kind is RewardKind.CLASSIFIER) != bool(self.checkpoint):
            raise ValueError("kind classifier needs a checkpoint, and no other kind has one")
        if self.kind is not RewardKind.CLASSIFIER and self.prompt is not RewardPrompt.CHAT:
            raise ValueError("only kind classifier has a prompt here; a server's is server.prompt")
        return self


class AgentSettings(Settings):
    """The three agents."""

    generator: GeneratorSettings = GeneratorSettings()
    critic: CriticSettings = CriticSettings()
    reward_model: RewardSettings = RewardSettings()
    prompts: str = ""
    """A folder with prompt templates of your own, any of the six; the others are the package's."""

    def templates(self) -> Templates:
        """The six prompts. Raises TemplateError."""
        return load_templates(Path(self.prompts) if self.prompts else None)

    def models_here(self) -> set[str]:
        """The checkpoints of generator and critic that the recipe's engine runs; the empty name is the base model."""
        generator, critic = self.generator, self.critic
        here = {generator.checkpoint} if generator.server is None else set()
        chats_here = critic.kind is CriticKind.CHAT and critic.server is None
        return here | {critic.checkpoint} if chats_here else here

    def prompt_digests(self) -> dict[str, str]:
        """A digest of each prompt where an agent is a chat model, which is asked with them; else nothing."""
        if self.generator.kind is not GeneratorKind.CHAT and self.critic.kind is not CriticKind.CHAT:
            return {}
        return {prompt.value: text_digest(f"{t.system}\0{t.user}") for prompt, t in self.templates().items()}
