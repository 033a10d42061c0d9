"""What the benches of training train: a small random model whose responses end at random moments, or a real one.

A random model has no reason to stop. Here it is given one: coordinate 0 of the residual stream is made a constant
that no layer touches, and the end token's row of the head reads it, which is a bias of that token's logit written into
ordinary weights. So TRL, transformers and we sample responses of the same mixed lengths from the same checkpoint.
"""

import copy
import statistics
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from satori.coat import encode_prompt
from satori.models import device, load_any_policy
from satori.problems.arithmetic import Split, problem_stream
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rollouts import InitialState
from satori.tiny_model import build_tokenizer

_CONSTANT = 0.02  # as large as the other coordinates of a fresh embedding


@dataclass(frozen=True)
class Size:
    """How much is trained on in one iteration, and how often that is measured."""

    samples: int = 256
    group: int = 8
    """Samples of one prompt."""
    limit: int = 128
    """Most tokens of a response."""
    mean_length: int = 76
    """Wanted mean length of a response; of the random model only."""
    temperature: float = 1.0
    optimizer_steps: int = 8
    """Optimiser steps in an iteration. The paper takes 8: 1024 rollouts in batches of 128."""
    micro_batch: int = 1024
    """Most padded tokens that we train on at a time, as in the tiny recipe: what two cores keep in their caches. A GPU
    wants more."""
    runs: int = 5

    def __post_init__(self) -> None:
        if self.samples % self.group or self.samples % self.optimizer_steps:
            raise ValueError(
                f"{self.samples} samples do not make whole groups of {self.group} and {self.optimizer_steps} batches"
            )


@dataclass(frozen=True)
class Subject:
    """Models, tokenizer and initial states. The models are templates: every contender trains copies."""

    tokenizer: PreTrainedTokenizerBase
    template: PreTrainedModel
    critic_template: PreTrainedModel
    states: tuple[InitialState, ...]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.template.parameters())

    def policy(self) -> PreTrainedModel:
        return copy.deepcopy(self.template)

    def critic(self) -> PreTrainedModel:
        return copy.deepcopy(self.critic_template)

    def describe(self) -> dict[str, Any]:
        return {
            "model": self.template.config.name_or_path or "random Qwen2",
            "parameters": self.parameters,
            "vocabulary": self.template.config.vocab_size,
            "mean_prompt_tokens": round(statistics.mean(len(s.prompt_ids) for s in self.states), 1),
        }


def random_subject(size: Size) -> Subject:
    """A Qwen2 of 1.05 million parameters that reads bytes: 4 layers, hidden 128, MLP 512."""
    tokenizer = build_tokenizer()
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    policy = Qwen2ForCausalLM(Qwen2Config(**config)).eval().to(device())
    critic = Qwen2ForSequenceClassification(Qwen2Config(**(config | {"num_labels": 1}))).eval().to(device())
    states = initial_states(tokenizer, size)
    chance = chance_of_end(size.mean_length, size.limit)
    end_at_random(policy, tokenizer.eos_token_id, chance, size.temperature, [s.prompt_ids for s in states])
    return Subject(tokenizer, policy, critic, states)


def real_subject(checkpoint: str | Path, size: Size) -> Subject:
    """A checkpoint folder, weights in float32; the critic is its network with a new scalar head."""
    policy, tokenizer = load_any_policy(str(checkpoint), dtype="float32")
    critic = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=1, dtype="float32", attention_dropout=0.0
    )
    return Subject(tokenizer, policy, critic.eval().to(device()), initial_states(tokenizer, size))


def initial_states(tokenizer: PreTrainedTokenizerBase, size: Size) -> tuple[InitialState, ...]:
    """The same problems in every iteration, the samples of each standing together."""
    problems = islice(problem_stream(Split.TRAIN, 0), size.samples // size.group)
    states = [InitialState(p, Start.PROBLEM, tuple(encode_prompt(tokenizer, p.question))) for p in problems]
    return tuple(state for state in states for _ in range(size.group))


def chance_of_end(mean: float, limit: int) -> float:
    """The chance to end at each token that gives responses of this mean length, none longer than the limit.

    Raises ValueError where no chance does: the mean has to be between 1 and the limit.
    """
    if not 1 < mean < limit:
        raise ValueError(f"responses of at most {limit} tokens cannot have the mean length {mean}")
    low, high = 1e-9, 1.0
    for _ in range(60):
        chance = (low + high) / 2
        found = (1 - (1 - chance) ** limit) / chance
        low, high = (chance, high) if found > mean else (low, chance)
    return chance


@torch.no_grad()
def end_at_random(
    model: Qwen2ForCausalLM, end: int, chance: float, temperature: float, prompts: list[tuple[int, ...]]
) -> None:
    """Make the end token as likely as ``chance`` after every token, on average over random continuations."""
    model.model.embed_tokens.weight[:, 0] = _CONSTANT
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.down_proj.weight[0] = 0
    head = model.lm_head.weight
    head[:, 0] = 0
    words = torch.randint(0, head.shape[0], (16, 96), device=head.device)
    start = torch.tensor([prompts[0]] * len(words), device=head.device)
    hidden_NH = model.model(torch.cat([start, words], 1)).last_hidden_state[:, start.shape[1] :].flatten(0, 1)
    low, high = -1000.0, 1000.0
    for _ in range(60):
        head[end, 0] = (low + high) / 2
        found = float((model.lm_head(hidden_NH) / temperature).softmax(-1)[:, end].mean())
        low, high = ((low + high) / 2, high) if found < chance else (low, (low + high) / 2)
