"""PPO with restart and explore (paper section 4.2, D.3): the loop.

The policy starts from the format-tuned model, the critic from the outcome reward model. Everything random in a step
is drawn from a seed made of the run's seed and the step's number, so a resumed run repeats the uninterrupted one.
With several ranks each computes its share of every optimiser step; batches, whitening and token means are those of all
together, so the result is that of one rank up to rounding. What it leaves out: a reference model (the paper's KL
coefficient is 0).

Legend of shape suffixes: B responses, T response tokens, N response tokens of a batch one after another.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from satori import ranks
from satori.config import Settings, derive_seed
from satori.divergence import DivergedError
from satori.engines.base import EngineError
from satori.optimizers import OptimizerKind
from satori.precision import Precision, autocast
from satori.recompute import Recompute, recomputing
from satori.reinforcement.advantages import gae, grpo, rloo, whiten
from satori.reinforcement.losses import importance_weights, k3, policy_loss, value_loss
from satori.reinforcement.rollouts import InitialState, Rollout
from satori.scoring import make_batch, my_batches, policy_logprobs, response_values, token_logprobs, token_values
from satori.sharding import clip_gradients
from satori.side_by_side import both


class PPOSettings(Settings):
    """The optimisation of policy and critic."""

    estimator: Literal["gae", "grpo", "rloo"] = "gae"
    """How advantages are made. GRPO and RLOO compare the samples of one initial state and use no critic."""
    actor_lr: float = Field(default=2e-7, gt=0)
    """Paper: 2e-7 for 7B."""
    critic_lr: float = Field(default=5e-6, gt=0)
    """Paper: 5e-6 for 7B."""
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    precision: Precision = "auto"
    """`float32`, `bfloat16` (autocast), or `auto`: bfloat16 on a GPU that has it."""
    recompute_activations: Recompute = "auto"
    """Compute activations again in the backward pass instead of keeping them: far less memory, about a third more time;
    `auto`: on a GPU."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Paper's script: 0.95. 1 gives every token the same credit for the final reward."""
    clip: float = Field(default=0.2, gt=0)
    """The policy's ratio is clipped to 1 +- this."""
    value_clip: float = Field(default=0.2, gt=0)
    epochs: int = Field(default=1, gt=0)
    batch_size: int = Field(default=128, gt=0)
    """Responses in an optimiser step (paper: 128)."""
    critic_warmup_steps: int = Field(default=0, ge=0)
    """Iterations in which the critic learns alone, and the policy stands still; none where there is no critic. A reward
    model knows finished responses only: what a half-finished one is worth the critic has to learn."""
    lr_warmup_steps: int = Field(default=0, ge=0)
    """Iterations over which both learning rates rise; Adam's first steps are its wildest."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    lr_decay: Literal["cosine", "constant"] = "cosine"
    old_logprobs: Literal["trainer", "engine"] = "trainer"
    """Whose log-probabilities of the samples the ratios start from: computed again by the trainer, or those that the
    engine sampled with, which saves a forward pass. The embedded sampler's are the trainer's up to rounding."""
    importance_cap: float = Field(default=0.0, ge=0)
    """Weigh each token's loss by how much likelier the trainer found it than the engine that sampled it, at most this
    much (2 is usual): truncated importance sampling, for engines that compute otherwise than the trainer. 0: off."""
    tokens_per_micro_batch: int = Field(default=8192, gt=0)
    """Padded tokens computed at a time; changes memory and speed, not the result."""

    @model_validator(mode="after")
    def _weights_compare_two(self) -> Self:
        if self.importance_cap and self.old_logprobs == "engine":
            raise ValueError("importance_cap compares the engine with the trainer: it needs old_logprobs: trainer")
        return self


@dataclass
class Learner:
    """What training changes: two models and their optimisers."""

    policy: PreTrainedModel
    critic: PreTrainedModel
    policy_optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer

    def parts(self) -> dict[str, tuple[PreTrainedModel, torch.optim.Optimizer]]:
        """What a checkpoint holds."""
        return {"policy": (self.policy, self.policy_optimizer), "critic": (self.critic, self.critic_optimizer)}


@dataclass(frozen=True)
class Experience:
    """A batch of scored rollouts, ready for optimisation. All tensors (B, T), zero where the mask is."""

    rollouts: Sequence[Rollout]
    mask_BT: torch.Tensor
    old_logprobs_BT: torch.Tensor
    old_values_BT: torch.Tensor
    advantages_BT: torch.Tensor
    returns_BT: torch.Tensor
    weights_BT: torch.Tensor
    """Importance weights of the tokens: 1 where they are switched off."""
    mismatch: Mapping[str, float]
    """How far the engine's log-probabilities are from the trainer's; empty where these are not both known."""

    def tokens_of(self, index: int) -> "RolloutTokens":
        """One rollout with what its tokens are trained on."""
        chosen_T = self.mask_BT[index].bool()
        parts = (self.old_logprobs_BT, self.old_values_BT, self.advantages_BT, self.returns_BT)
        return RolloutTokens(self.rollouts[index], *(part_BT[index][chosen_T].tolist() for part_BT in parts))


@dataclass(frozen=True)
class RolloutTokens:
    """A rollout and, for each of its sampled tokens, the numbers that went into the losses."""

    rollout: Rollout
    logprobs: list[float]
    values: list[float]
    advantages: list[float]
    returns: list[float]


def train(
    learner: Learner,
    draw: Callable[[int], Sequence[InitialState]],
    collect: Callable[[Sequence[InitialState], int], Sequence[Rollout]],
    settings: PPOSettings,
    temperature: float,
    steps: range,
    total_steps: int,
    seed: int,
) -> Iterator[tuple[int, Sequence[Rollout], dict[str, float]]]:
    """Algorithm 1's policy optimisation. Yields (step, rollouts, metrics) after each step.

    ``draw`` gives a step's initial states: problems, and states from both restart buffers. ``collect`` samples a
    response from each with the current policy, grades it and gives it its reward.
    """
    for step in steps:
        set_learning_rates(learner, settings, step, total_steps)
        rollouts = collect(draw(step), derive_seed(seed, "sample", step))
        experience = prepare(learner, rollouts, settings, temperature)
        metrics = update(learner, experience, settings, temperature, step, derive_seed(seed, "shuffle", step))
        yield step, rollouts, metrics


def set_learning_rates(learner: Learner, settings: PPOSettings, step: int, total_steps: int) -> None:
    """The schedule is a function of the step alone: up, then down to the end; the policy at 0 while it waits."""
    decay = cosine_decay(step / total_steps) if settings.lr_decay == "cosine" else 1.0
    decay *= min(1.0, (step + 1) / (settings.lr_warmup_steps + 1))
    for group in learner.policy_optimizer.param_groups:
        group["lr"] = 0.0 if policy_waits(settings, step) else settings.actor_lr * decay
    for group in learner.critic_optimizer.param_groups:
        group["lr"] = settings.critic_lr * decay


def policy_waits(settings: PPOSettings, step: int) -> bool:
    """Whether the critic learns alone in a step."""
    return settings.estimator == "gae" and step < settings.critic_warmup_steps


def cosine_decay(progress: float) -> float:
    """From 1 to a tenth over progress 0 to 1."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0)))


def prepare(learner: Learner, rollouts: Sequence[Rollout], settings: PPOSettings, temperature: float) -> Experience:
    """Log-probabilities of the sampling policy, values, advantages and returns.

    Raises EngineError where the settings need the engine's log-probabilities and it gave none.
    """
    sequences = [r.sequence for r in rollouts]
    budget, device = settings.tokens_per_micro_batch, learner.policy.device

    def logprobs() -> list[torch.Tensor]:
        with autocast(settings.precision, device):
            return token_logprobs(learner.policy, sequences, temperature, budget)

    def values() -> list[torch.Tensor]:
        with autocast(settings.precision, device):
            return response_values(learner.critic, sequences, budget)

    sampled, critic = engine_logprobs(rollouts), settings.estimator == "gae"
    if sampled is None and (settings.importance_cap or settings.old_logprobs == "engine"):
        setting = "importance_cap" if settings.importance_cap else "old_logprobs: engine"
        raise EngineError(f"{setting} needs an engine that gives the log-probabilities of what it sampled")
    if sampled is not None and settings.old_logprobs == "engine":
        old_logprobs, old_values = sampled, values() if critic else []
    else:
        old_logprobs, old_values = both(logprobs, values, device) if critic else (logprobs(), [])
    mask_BT = _pad([torch.ones_like(row) for row in old_logprobs])
    rewards_B = torch.tensor([r.reward.total for r in rollouts])
    if settings.estimator == "gae":
        values_BT = _pad(old_values)
        advantages_BT, returns_BT = gae(rewards_B, values_BT, mask_BT, settings.gamma, settings.gae_lambda)
        advantages_BT = whiten(advantages_BT, mask_BT)
    else:
        states = {r.initial: i for i, r in enumerate(rollouts)}
        groups_B = torch.tensor([states[r.initial] for r in rollouts])
        estimate = grpo if settings.estimator == "grpo" else rloo
        advantages_BT = estimate(rewards_B, groups_B)[:, None] * mask_BT
        values_BT = returns_BT = torch.zeros_like(mask_BT)
    weights_BT, mismatch = torch.ones_like(mask_BT), dict[str, float]()
    if sampled is not None and settings.old_logprobs == "trainer":
        weights_BT, mismatch = compare_with_engine(sampled, old_logprobs, settings.importance_cap)
    return Experience(rollouts, mask_BT, _pad(old_logprobs), values_BT, advantages_BT, returns_BT, weights_BT, mismatch)


def engine_logprobs(rollouts: Sequence[Rollout]) -> list[torch.Tensor] | None:
    """The log-probabilities that the responses were sampled with, one (tokens,) tensor each; None where the engine gave
    none."""
    completions = [rollout.completion for rollout in rollouts]
    if any(len(c.logprobs) != len(c.token_ids) for c in completions):
        return None
    return [torch.tensor(c.logprobs) for c in completions]


def compare_with_engine(
    sampled: Sequence[torch.Tensor], old_logprobs: Sequence[torch.Tensor], cap: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Importance weights (B, T), 1 where ``cap`` is 0; and the mismatch between engine and trainer: mean absolute
    difference of the tokens' log-probabilities, and KL(engine || trainer)."""
    log_ratio_N = torch.cat(list(old_logprobs)) - torch.cat(list(sampled))
    mismatch = {"engine_mismatch": float(log_ratio_N.abs().mean()), "engine_kl": float(k3(log_ratio_N).mean())}
    if not cap:
        return _pad([torch.ones_like(row) for row in old_logprobs]), mismatch
    weights = [importance_weights(row, engine, cap) for row, engine in zip(old_logprobs, sampled, strict=True)]
    return _pad(weights), mismatch | {"importance_weight": float(torch.cat(weights).mean())}


def update(
    learner: Learner, experience: Experience, settings: PPOSettings, temperature: float, step: int, seed: int
) -> dict[str, float]:
    """Optimise policy and critic on a batch of experience; returns the metrics of PPO's health, of those models that
    learn in this step.

    Raises DivergedError, with the batch, where a gradient is not finite.
    """
    rng, count = random.Random(seed), len(experience.rollouts)
    has_critic, policy_learns = settings.estimator == "gae", not policy_waits(settings, step)
    sums: dict[str, float] = {}
    norms: list[dict[str, float]] = []
    tokens_seen, mismatch = 0.0, dict(experience.mismatch)
    for _ in range(settings.epochs):
        order = rng.sample(range(count), count)
        for start in range(0, count, settings.batch_size):
            indices = order[start : start + settings.batch_size]
            tokens = float(experience.mask_BT[indices].sum())
            more = _accumulate(learner, experience, indices, settings, temperature, tokens, policy_learns)
            if settings.old_logprobs == "engine" and policy_learns and not norms:
                # Nothing has moved yet: the trainer against the engine.
                mismatch["engine_kl"] = ranks.total({"kl": more["kl"]})["kl"] / tokens
            sums = {name: sums.get(name, 0.0) + value for name, value in more.items()}
            try:
                norms.append(_optimizer_step(learner, settings, policy_learns, has_critic))
            except FloatingPointError as error:
                raise DivergedError(f"step {step}: {error}", [experience.tokens_of(i) for i in indices]) from error
            tokens_seen += tokens
    metrics = {name: value / tokens_seen for name, value in ranks.total(sums).items()}
    metrics |= {f"{name}_grad_norm": fmean(norm[name] for norm in norms) for name in norms[0]}
    if has_critic:
        metrics["explained_variance"] = explained_variance(experience)
    return metrics | mismatch


def _accumulate(
    learner: Learner,
    experience: Experience,
    indices: Sequence[int],
    settings: PPOSettings,
    temperature: float,
    tokens: float,
    policy_learns: bool,
) -> dict[str, float]:
    """Gradients of one optimiser step, micro-batch by micro-batch; returns this rank's sums over tokens."""
    device = learner.policy.device
    sequences = [experience.rollouts[i].sequence for i in indices]
    batches = []
    for micro in my_batches(sequences, settings.tokens_per_micro_batch):
        old = sampled_tokens(experience, [indices[i] for i in micro], device)
        batches.append((make_batch([sequences[i] for i in micro], device), old))

    def policy() -> dict[str, float]:
        sums = dict.fromkeys(("policy_loss", "kl", "clip_fraction", "entropy"), 0.0)
        for batch, old in batches:
            with autocast(settings.precision, device), recomputing(learner.policy, settings.recompute_activations):
                logprobs_N, entropy_N = policy_logprobs(learner.policy, batch, temperature)
            weights_N = old.weights_N if settings.importance_cap else None
            loss, clipped, kl = policy_loss(logprobs_N, old.logprobs_N, old.advantages_N, settings.clip, weights_N)
            (loss / tokens).backward()
            figures = (loss.detach(), kl, clipped, entropy_N.detach().sum())
            sums = {name: total + float(more) for (name, total), more in zip(sums.items(), figures, strict=True)}
        return sums

    def critic() -> dict[str, float]:
        total = 0.0
        for batch, old in batches:
            with autocast(settings.precision, device), recomputing(learner.critic, settings.recompute_activations):
                values_N = token_values(learner.critic, batch)
            error = value_loss(values_N, old.values_N, old.returns_N, settings.value_clip)
            (error / tokens).backward()
            total += float(error.detach())
        return {"value_loss": total}

    if settings.estimator != "gae":
        return policy()
    if not policy_learns:
        return critic()
    of_policy, of_critic = both(policy, critic, device)
    return of_policy | of_critic


@dataclass(frozen=True)
class SampledTokens:
    """What is known of some responses' tokens before they are trained on, token after token, each (N,)."""

    logprobs_N: torch.Tensor
    values_N: torch.Tensor
    advantages_N: torch.Tensor
    returns_N: torch.Tensor
    weights_N: torch.Tensor


def sampled_tokens(experience: Experience, rows: Sequence[int], device: torch.device) -> SampledTokens:
    """The tokens of some responses."""
    chosen_BT = experience.mask_BT[rows].bool()
    parts = (
        experience.old_logprobs_BT,
        experience.old_values_BT,
        experience.advantages_BT,
        experience.returns_BT,
        experience.weights_BT,
    )
    return SampledTokens(*(part_BT[rows][chosen_BT].to(device) for part_BT in parts))


def _optimizer_step(learner: Learner, settings: PPOSettings, policy: bool, critic: bool) -> dict[str, float]:
    """Clip and apply the gradients of the models that learn; returns their norms before clipping, by name.

    Raises FloatingPointError before anything has moved where a norm is not finite.
    """
    learning = [name for name, learns in (("policy", policy), ("critic", critic)) if learns]
    norms = {}
    for name in learning:
        norms[name] = clip_gradients(learner.parts()[name][0], settings.max_grad_norm)
        if not math.isfinite(norms[name]):
            raise FloatingPointError(f"the gradient norm of the {name} is {norms[name]}")
    for name in learning:
        optimizer = learner.parts()[name][1]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norms


def explained_variance(experience: Experience) -> float:
    """Share of the returns' variance that the critic's values explain; 1 is perfect, 0 no better than the mean."""
    chosen = experience.mask_BT.bool()
    returns_N, values_N = experience.returns_BT[chosen], experience.old_values_BT[chosen]
    variance = returns_N.var()
    return float(1 - (returns_N - values_N).var() / variance) if variance > 1e-8 else 0.0


def _pad(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(list(rows), batch_first=True)
