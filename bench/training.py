"""One iteration of training, ours beside TRL's: sampling, reward, log-probabilities, update.

Both train the same model on the same prompts with the same number and length of samples, temperature, optimiser,
optimiser steps and loss (one epoch, clipped, no KL, token mean), and the same trivial reward. Ours reads and grades
every response besides, as it does in a run. TRL's own loop is timed: ``GRPOTrainer.train`` runs from beginning to end,
and between two of its iterations, in a callback, our iterations have their turn.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from bench.measuring import Results, ratios, seconds, settle, spread
from bench.subject import Size, Subject
from satori.coat import render_prompt
from satori.engines.base import PolicyEngine, Sampling
from satori.engines.torch_engine import TorchEngine
from satori.optimizers import make_optimizer
from satori.precision import in_bfloat16
from satori.reinforcement.ppo import Learner, PPOSettings, train
from satori.reinforcement.rewards import RewardBreakdown
from satori.reinforcement.rollouts import InitialState, Rollout, collect

LEARNING_RATE = 1e-6  # so small that the lengths of responses stay as they are
TRL_BATCH = 16  # of 8, 16, 32 and 64 none was faster on two cores


def measure(subject: Subject, size: Size, trl_batch: int = TRL_BATCH) -> Results:
    """TRL's seconds over ours, for GRPO and for PPO with its critic."""
    ours = {"grpo": OurTraining(subject, size, "grpo"), "ppo": OurTraining(subject, size, "gae")}
    theirs = TrlTraining(subject, size, trl_batch)
    took: dict[str, list[float]] = {name: [] for name in ("trl", *ours)}

    def our_turn(trl_seconds: float) -> None:
        took["trl"].append(trl_seconds)
        for name in ours if len(took["trl"]) % 2 else reversed(ours):
            took[name].append(seconds(ours[name].iterate))

    theirs.run(size.runs + 1, our_turn)
    warm = {name: times[1:] for name, times in took.items()}
    sides: dict[str, OurTraining | TrlTraining] = {**ours, "trl": theirs}
    lengths = {name: statistics.mean(side.mean_lengths[1:]) for name, side in sides.items()}
    return Results(
        ratios={f"{name}_vs_trl_grpo": ratios(warm["trl"], warm[name]) for name in ours},
        wanted={"grpo_vs_trl_grpo": ">= 2", "ppo_vs_trl_grpo": ">= 1"},
        details={
            "training": {
                **subject.describe(),
                "size": asdict(size),
                "trl_batch": trl_batch,
                "seconds": {name: asdict(spread(times)) for name, times in warm.items()},
                "mean_response_tokens": {name: round(length, 1) for name, length in lengths.items()},
                "precision": "bfloat16" if in_bfloat16("auto") else "float32",
            }
        },
    )


def trivial_reward(text: str) -> float:
    """The share of letters: different from response to response, and computed in no time."""
    return sum(map(str.isalpha, text)) / max(1, len(text))


# --- ours ----------------------------------------------------------------------------------------------------------


class OurTraining:
    """The loop of ``satori.reinforcement.ppo.train``, an iteration at a time."""

    def __init__(self, subject: Subject, size: Size, estimator: Literal["gae", "grpo"]) -> None:
        self.subject, self.settings = subject, ppo_settings(size, estimator)
        self.sampling = Sampling(temperature=size.temperature, max_new_tokens=size.limit)
        self.learner = new_learner(subject, self.settings)
        self.engine: PolicyEngine = TorchEngine(self.learner.policy, subject.tokenizer.eos_token_id, size.samples)
        self.reward_model: PreTrainedModel | None = None
        self.mean_lengths: list[float] = []
        steps = range(10**6)
        self._steps = train(
            self.learner, self.draw, self.collect, self.settings, size.temperature, steps, len(steps), seed=0
        )

    def iterate(self) -> None:
        """Sample, score, update, once."""
        _, rollouts, _ = next(self._steps)
        self.mean_lengths.append(statistics.mean(len(r.completion.token_ids) for r in rollouts))

    def draw(self, step: int) -> Sequence[InitialState]:
        return self.subject.states

    def collect(self, states: Sequence[InitialState], seed: int) -> list[Rollout]:
        """What a run does, and then the reward that TRL gives too."""
        self.engine.update_weights(self.learner.policy)
        budget = self.settings.tokens_per_micro_batch
        rollouts = collect(
            self.engine, self.subject.tokenizer, self.reward_model, states, self.sampling, 0.0, seed, budget
        )
        return [replace(r, reward=RewardBreakdown(trivial_reward(r.response), 0.0, 0.0)) for r in rollouts]


def ppo_settings(size: Size, estimator: Literal["gae", "grpo"]) -> PPOSettings:
    return PPOSettings(
        estimator=estimator,
        batch_size=size.samples // size.optimizer_steps,
        actor_lr=LEARNING_RATE,
        critic_lr=LEARNING_RATE,
        lr_decay="constant",
        tokens_per_micro_batch=size.micro_batch,
    )


def new_learner(subject: Subject, settings: PPOSettings) -> Learner:
    policy, critic = subject.policy(), subject.critic()
    return Learner(
        policy,
        critic,
        make_optimizer(policy, settings.optimizer, settings.actor_lr),
        make_optimizer(critic, settings.optimizer, settings.critic_lr),
    )


# --- TRL -----------------------------------------------------------------------------------------------------------


class TrlTraining:
    """TRL's GRPO on the same task, told to do nothing that does not belong to an iteration."""

    def __init__(self, subject: Subject, size: Size, batch: int) -> None:
        self.subject, self.size = subject, size
        self.batch = min(batch, size.samples // size.optimizer_steps)
        self.mean_lengths: list[float] = []

    def run(self, iterations: int, between: Callable[[float], None]) -> None:
        """Train; after each iteration ``between`` is told its seconds, and the clock stands still meanwhile."""
        disable_progress_bar()
        prompts = [render_prompt(self.subject.tokenizer, s.problem.question) for s in self.subject.states]
        dataset = Dataset.from_dict({"prompt": prompts[:: self.size.group]})
        with tempfile.TemporaryDirectory() as folder:
            trainer = GRPOTrainer(
                self.subject.policy().train(),
                self._reward,
                args=GRPOConfig(output_dir=folder, **self.arguments(iterations)),
                train_dataset=dataset,
                processing_class=self.subject.tokenizer,
                callbacks=[_Turns(self.size.optimizer_steps, between)],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    def arguments(self, iterations: int) -> dict[str, Any]:
        """Our settings in TRL's words. What it turns on by default to save memory is off."""
        size = self.size
        return {
            "per_device_train_batch_size": self.batch,
            "gradient_accumulation_steps": size.samples // size.optimizer_steps // self.batch,
            "generation_batch_size": size.samples,
            "num_generations": size.group,
            "max_completion_length": size.limit,
            "max_steps": iterations * size.optimizer_steps,
            "temperature": size.temperature,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "beta": 0.0,
            "num_iterations": 1,
            "epsilon": 0.2,
            "loss_type": "dapo",
            "max_grad_norm": 1.0,
            "optim": "adamw_torch_fused",
            "bf16": in_bfloat16("auto"),
            "gradient_checkpointing": False,
            "shuffle_dataset": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": "none",
            "seed": 0,
        }

    def _reward(
        self, completions: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float | None]:
        self.mean_lengths.append(statistics.mean(map(len, completion_ids)))
        return [trivial_reward(text) for text in completions]


class _Turns(TrainerCallback):
    """Times iterations from the end of one turn of ours to the last optimiser step before the next."""

    def __init__(self, steps: int, between: Callable[[float], None]) -> None:
        self.steps, self.between, self.since = steps, between, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps == 0:
            settle()
            self.between(time.perf_counter() - self.since)
            self.since = time.perf_counter()
