"""Our update phase beside a bare training loop over the same micro-batches, in response tokens a second.

The bare loop is the leanest that trains on these tokens: transformers' forward pass, the head on the response tokens,
cross-entropy (a squared error for the critic), backward, a step of the same optimiser. It has no ratio, no clipping, no
entropy, no metrics, no gradient norm, and its batches are made before the clock starts.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch.nn import functional

from bench.measuring import Results, interleave, ratios, seconds, spread
from bench.subject import Size, Subject
from bench.training import OurTraining, new_learner, ppo_settings
from satori.precision import autocast
from satori.reinforcement.ppo import Experience, Learner, PPOSettings, prepare, update
from satori.scoring import SequenceBatch, by_length, make_batch, scalar_head

_WANTED = ">= 0.8"


def measure(subject: Subject, size: Size) -> Results:
    """The bare loop's seconds over ours, for the policy alone and for policy and critic."""
    found = Results()
    for estimator, name in (("grpo", "update_vs_bare"), ("gae", "update_with_critic_vs_bare")):
        pair = UpdatePair(subject, size, estimator)  # type: ignore[arg-type]
        took = interleave({"ours": pair.ours, "bare": pair.bare}, size.runs)
        found.ratios[name], found.wanted[name] = ratios(took["bare"], took["ours"]), _WANTED
        found.details[name] = {
            "tokens_per_s": {side: asdict(spread([pair.tokens / s for s in times])) for side, times in took.items()},
            "response_tokens": pair.tokens,
            "micro_batches": sum(map(len, pair.steps)),
            "optimizer_steps": size.optimizer_steps,
        }
    return found


@dataclass(frozen=True)
class _Target:
    """A micro-batch of the bare loop and what its values are trained towards."""

    batch: SequenceBatch
    returns_N: torch.Tensor


class UpdatePair:
    """One batch of experience, and the two loops that train on it."""

    def __init__(self, subject: Subject, size: Size, estimator: Literal["gae", "grpo"]) -> None:
        self.settings, self.temperature = ppo_settings(size, estimator), size.temperature
        self.learner, self.bare_learner = new_learner(subject, self.settings), new_learner(subject, self.settings)
        self.experience = sample_experience(subject, size, estimator, self.learner)
        self.tokens = int(self.experience.mask_BT.sum())
        self.steps = micro_batches(self.experience, self.settings, self.learner.policy.device)

    def ours(self, run: int) -> float:
        return seconds(lambda: update(self.learner, self.experience, self.settings, self.temperature, step=run, seed=0))

    def bare(self, run: int) -> float:
        return seconds(self._bare_steps)

    def _bare_steps(self) -> None:
        for step in self.steps:
            self._bare_step(step)

    def _bare_step(self, step: Sequence[_Target]) -> None:
        learner, tokens = self.bare_learner, sum(len(target.returns_N) for target in step)
        for target in step:
            (self._policy_loss(target.batch) / tokens).backward()
            if self.settings.estimator == "gae":
                (self._value_loss(target) / tokens).backward()
        learner.policy_optimizer.step()
        learner.policy_optimizer.zero_grad(set_to_none=True)
        if self.settings.estimator == "gae":
            learner.critic_optimizer.step()
            learner.critic_optimizer.zero_grad(set_to_none=True)

    def _policy_loss(self, batch: SequenceBatch) -> torch.Tensor:
        policy = self.bare_learner.policy
        with autocast(self.settings.precision, policy.device):
            hidden_BTH = policy.base_model(batch.ids_BT, use_cache=False).last_hidden_state
            logits_NV = policy.get_output_embeddings()(hidden_BTH[batch.rows_N, batch.columns_N]).float()
        return functional.cross_entropy(logits_NV / self.temperature, batch.targets_N, reduction="sum")

    def _value_loss(self, target: _Target) -> torch.Tensor:
        critic, batch = self.bare_learner.critic, target.batch
        with autocast(self.settings.precision, critic.device):
            hidden_BTH = critic.base_model(batch.ids_BT, use_cache=False).last_hidden_state
            values_N = scalar_head(critic)(hidden_BTH[batch.rows_N, batch.columns_N]).float()[:, 0]
        return functional.mse_loss(values_N, target.returns_N, reduction="sum")


def sample_experience(subject: Subject, size: Size, estimator: Literal["gae", "grpo"], learner: Learner) -> Experience:
    """Rollouts of the untrained policy, scored."""
    training = OurTraining(subject, size, estimator)
    rollouts = training.collect(subject.states, seed=0)
    return prepare(learner, rollouts, training.settings, size.temperature)


def micro_batches(experience: Experience, settings: PPOSettings, device: torch.device) -> list[list[_Target]]:
    """The micro-batches of each optimiser step, as ``update`` makes them from the seed 0."""
    count, steps = len(experience.rollouts), []
    order = random.Random(0).sample(range(count), count)
    for start in range(0, count, settings.batch_size):
        indices = order[start : start + settings.batch_size]
        sequences = [experience.rollouts[i].sequence for i in indices]
        step = []
        for micro in by_length([len(p) + len(r) for p, r in sequences], settings.tokens_per_micro_batch):
            rows = [indices[i] for i in micro]
            returns_N = experience.returns_BT[rows][experience.mask_BT[rows].bool()]
            step.append(_Target(make_batch([sequences[i] for i in micro], device), returns_N.to(device)))
        steps.append(step)
    return steps
