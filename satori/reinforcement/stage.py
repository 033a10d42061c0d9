"""``satori restarts`` and ``satori rl``: building the restart buffers, and training the policy from them.

Reinforcement learning saves a checkpoint every few steps (models, optimisers, step), written aside and renamed; an
interrupted run goes on from it and gives the same numbers as one that was not interrupted.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedTokenizerBase

from satori import ranks
from satori.authors.rl_data import ReleasedStates, initial_states_of, read_states, write_rows
from satori.coat import MetaAction, encode_prompt, meta_action_ids
from satori.config import derive_seed
from satori.divergence import keeping_the_batch
from satori.engines.base import PolicyEngine, Sampling
from satori.lora import LoraSettings, add_adapters
from satori.models import load_policy, load_reward_model, load_tokenizer, save
from satori.optimizers import make_optimizer
from satori.precision import in_bfloat16
from satori.problems.arithmetic import Split
from satori.reinforcement.ppo import Learner, PPOSettings, RolloutTokens, train
from satori.reinforcement.restart_buffer import RestartSettings, RestartState, Start, Trajectory, restart_states
from satori.reinforcement.rollouts import InitialState, Rollout, StartWeights, collect, draw_states, summarize
from satori.run_folder import CHECKPOINTS, ArtifactError, append_jsonl, forget_after, read_jsonl, write_jsonl
from satori.sampling import Response, sample_responses
from satori.sharding import before_sharding, load_state, save_state, shard
from satori.stage import StageContext
from satori.types import Problem, Variant

RELEASED = "released.jsonl"


class RestartStageSettings(RestartSettings):
    """The restart buffers (paper section 4.2, Algorithm 1)."""

    problems: int = Field(default=300_000, gt=0)
    """Training problems; the same ones are the plain starts of reinforcement learning. Where it comes back to each of a
    few many times, it learns their answers by heart."""
    max_new_tokens: int = Field(default=2048, gt=0)
    max_prompt_tokens: int = Field(default=2048, gt=0)
    """Of a prompt and its restart prefix together; longer ones are left out."""
    released: ReleasedStates | None = None
    """Take problems and restarts from the authors' data set (or a file in its format) instead of building them; `{}`
    streams it from the hub."""


class RLSettings(PPOSettings):
    """One round of reinforcement learning."""

    steps: int = Field(default=300, gt=0)
    """Iterations of rollout and update."""
    rollouts_per_step: int = Field(default=1024, gt=0)
    """Paper: 1024."""
    samples_per_prompt: int = Field(default=1, gt=0)
    """Responses from each initial state (paper: 1 in round 1, 8 in round 2)."""
    temperature: float = Field(default=0.6, gt=0)
    """Paper: 0.6 in round 1, 1.2 in round 2."""
    max_new_tokens: int = Field(default=2048, gt=0)
    reflection_bonus: float = Field(default=0.5, ge=0)
    """beta (paper: 0.5)."""
    use_reward_model: bool = True
    """Off: no preference bonus (paper table 8). The critic starts from the reward model all the same."""
    starts: StartWeights = StartWeights()
    """Proportions of plain, positive and negative starts; 1, 0, 0 turns restart and explore off (paper table 7)."""
    lora: LoraSettings = LoraSettings()
    """Adapters of policy and critic; the critic's head is trained as it is."""
    validation_problems: int = Field(default=100, ge=0)
    validate_every: int = Field(default=10, gt=0)
    checkpoint_every: int = Field(default=10, gt=0)
    logged_rollouts: int = Field(default=8, ge=0)
    """Sampled trajectories written to samples.jsonl, and sent to the trackers, each step."""

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        samples = self.samples_per_prompt
        if self.estimator != "gae" and (samples < 2 or self.rollouts_per_step % samples):
            raise ValueError(
                f"estimator {self.estimator} compares the samples of an initial state: samples_per_prompt is {samples} "
                f"and rollouts_per_step {self.rollouts_per_step}, expected at least 2 and a multiple of it"
            )
        return self


def training_problems(context: StageContext) -> list[Problem]:
    """The problems of both rounds; the restart buffers are built from the same ones."""
    seed = derive_seed(context.recipe.seed, "rl problems")
    return context.draw_problems(Split.TRAIN, seed, context.recipe.restarts.problems)


# --- satori restarts --------------------------------------------------------------------------------------------


def run_restarts(context: StageContext) -> str:
    """Both buffers, offline, from the format-tuned model. The variant without meta-actions has none."""
    settings, path = context.recipe.restarts, context.folder / "buffer.jsonl"
    if context.recipe.variant is Variant.COT:
        write_jsonl(path, [])
        return "none: this variant does not reflect"
    tokenizer = load_tokenizer(context.artifact("format_tuned"))
    if settings.released is not None:
        longest = settings.released.longest or settings.max_prompt_tokens
        fitting = settings.released.model_copy(update={"longest": longest})
        return ranks.first_does(lambda: take_released(context, fitting, tokenizer))
    problems, action_ids = training_problems(context), meta_action_ids(tokenizer)

    def states(responses: Sequence[Response]) -> list[dict[str, Any]]:
        rng = random.Random(derive_seed(context.seed, "truncate", responses[0].problem.id))
        found = restart_states_of(responses, settings, action_ids, tokenizer.eos_token_id, rng)
        return [vars(state) | {"prefix": tokenizer.decode(list(state.prefix_ids))} for state in found]

    records = context.sample_records("format_tuned", problems, settings, context.seed, states)
    write_jsonl(path, records)
    kinds = Counter(record["start"] for record in read_jsonl(path))
    positive, negative = kinds[Start.POSITIVE], kinds[Start.NEGATIVE]
    return f"{positive} positive and {negative} negative states from {len(problems)} problems"


def restart_states_of(
    responses: Sequence[Response],
    settings: RestartStageSettings,
    action_ids: dict[MetaAction, int],
    eos_token_id: int,
    rng: random.Random,
) -> list[RestartState]:
    """The states from the responses to one problem, those whose prompt and prefix together are short enough."""
    trajectories = [Trajectory(response.completion, response.correct) for response in responses]
    problem_id, most = responses[0].problem.id, settings.max_prompt_tokens - len(responses[0].prompt_ids)
    states = restart_states(problem_id, trajectories, settings.max_dropped, action_ids, eos_token_id, rng)
    return [state for state in states if len(state.prefix_ids) <= most]


def take_released(context: StageContext, settings: ReleasedStates, tokenizer: PreTrainedTokenizerBase) -> str:
    """The authors' states, checked, in their own format; the buffers are in the same file as the plain problems.
    Raises ArtifactError where there are none."""
    stream = read_states(settings, tokenizer)
    write_rows(context.folder / RELEASED, stream)
    if not stream.counts.used:
        raise ArtifactError(f"{settings.where} has no initial state: {stream.counts}")
    context.task.say(f"{settings.where}: {stream.counts}")
    return stream.counts.lines()[0]


# --- satori rl --------------------------------------------------------------------------------------------------


def run_round_1(context: StageContext) -> str:
    return run_rl(context, context.recipe.rl, "format_tuned")


def run_round_2(context: StageContext) -> str:
    return run_rl(context, context.recipe.rl_2, "distilled")


def run_rl(context: StageContext, settings: RLSettings, source: str) -> str:
    """One round: from the policy of an earlier stage and the reward model to a better policy."""
    learner, first = load_learner(context, settings, context.artifact(source))
    tokenizer = load_tokenizer(context.artifact(source))
    with (
        context.engine(source, learner.policy) as engine,
        keeping_the_batch(context.stage, context.folder, lambda row: describe_tokens(row, tokenizer)),
    ):
        return train_round(context, settings, learner, first, engine, tokenizer)


def train_round(
    context: StageContext,
    settings: RLSettings,
    learner: Learner,
    first: int,
    engine: PolicyEngine,
    tokenizer: PreTrainedTokenizerBase,
) -> str:
    """The loop of a round, from step ``first`` on, with metrics, samples, validation and checkpoints."""
    reward_model = None
    if settings.use_reward_model:
        reward_model = load_reward_model(context.artifact("reward_model"), before_sharding())
        reward_model.requires_grad_(False)  # autocast would keep a copy of every weight that is trained
        reward_model = shard(reward_model, in_bfloat16(settings.precision))
    sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
    states = initial_states(context)
    validation = context.draw_problems(Split.VALIDATION, 0, settings.validation_problems)
    greedy = Sampling(temperature=0, max_new_tokens=settings.max_new_tokens)
    metrics_file, samples_file = context.folder / "metrics.jsonl", context.folder / "samples.jsonl"
    forget_after(metrics_file, first)
    forget_after(samples_file, first)

    def draw(step: int) -> Sequence[InitialState]:
        seed = derive_seed(context.seed, "start", step)
        return draw_states(states, settings.starts, settings.rollouts_per_step, settings.samples_per_prompt, seed)

    def roll_out(chosen: Sequence[InitialState], seed: int) -> Sequence[Rollout]:
        bonus, budget = settings.reflection_bonus, settings.tokens_per_micro_batch
        engine.update_weights(learner.policy)
        return collect(
            engine, tokenizer, reward_model, chosen, sampling, bonus, seed, budget, precision=settings.precision
        )

    context.task.start(settings.steps, done=first)
    started = time.monotonic()
    steps = range(first, settings.steps)
    for step, rollouts, health in train(
        learner, draw, roll_out, settings, settings.temperature, steps, settings.steps, context.seed
    ):
        metrics = {"step": step, **summarize(rollouts), **health, "seconds": time.monotonic() - started}
        if validation and (step % settings.validate_every == 0 or step == settings.steps - 1):
            engine.update_weights(learner.policy)
            answered = [group[0] for group in sample_responses(engine, tokenizer, validation, 1, greedy, 0)]
            metrics["validation_accuracy"] = sum(r.correct for r in answered) / len(answered)
            metrics["validation_length"] = sum(len(r.completion.token_ids) for r in answered) / len(answered)
            context.task.note(f"validation accuracy {metrics['validation_accuracy']:.0%}")
        append_jsonl(metrics_file, metrics)
        context.trackers.log(metrics)
        samples = [describe(rollout, tokenizer) for rollout in rollouts[: settings.logged_rollouts]]
        for sample in samples:
            append_jsonl(samples_file, {"step": step, **sample})
        context.trackers.log_samples(step, samples)
        if (step + 1) % settings.checkpoint_every == 0 and step + 1 < settings.steps:
            save_checkpoint(context.folder, learner, step + 1)
        context.task.advance()
        started = time.monotonic()
    save(learner.policy, tokenizer, context.folder)
    return f"{settings.steps} steps, validation accuracy {metrics.get('validation_accuracy', float('nan')):.1%}"


def initial_states(context: StageContext) -> Mapping[Start, Sequence[InitialState]]:
    """Problems and both restart buffers as initial states. Raises ArtifactError where the buffers are of other problems
    than the recipe's sources have now."""
    tokenizer = load_tokenizer(context.artifact("format_tuned"))
    if (released := context.recipe.restarts.released) is not None and context.recipe.variant is Variant.COAT:
        here = released.model_copy(update={"path": str(context.artifact("restarts") / RELEASED), "limit": 0})
        return initial_states_of(read_states(here, tokenizer), here, tokenizer)
    plain = {
        p.id: InitialState(p, Start.PROBLEM, tuple(encode_prompt(tokenizer, p.question)))
        for p in training_problems(context)
    }
    states: dict[Start, list[InitialState]] = {start: [] for start in Start}
    states[Start.PROBLEM] = list(plain.values())
    buffer = context.artifact("restarts") / "buffer.jsonl"
    for record in read_jsonl(buffer):
        if (origin := plain.get(record["problem_id"])) is None:
            raise ArtifactError(
                f"{buffer}: no training problem is {record['problem_id']!r} now: the source of the problems has "
                "changed. Begin again: satori run with --redo restarts."
            )
        start, prefix = Start(record["start"]), tuple(record["prefix_ids"])
        states[start].append(InitialState(origin.problem, start, origin.prompt_ids, prefix))
    return states


def describe(rollout: Rollout, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """A sampled trajectory as it is logged, with its reward in parts."""
    return {
        "problem_id": rollout.initial.problem.id,
        "question": rollout.initial.problem.question,
        "answer": rollout.initial.problem.answer,
        "start": rollout.initial.start.value,
        "prefix": tokenizer.decode(list(rollout.initial.prefix_ids)),
        "response": rollout.response,
        "outcome": rollout.outcome.value,
        "finish_reason": rollout.completion.finish_reason.value,
        "reward": vars(rollout.reward) | {"total": rollout.reward.total},
    }


def describe_tokens(row: RolloutTokens, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """A trajectory with its ids and the numbers of each sampled token."""
    context_ids, token_ids = row.rollout.sequence
    numbers = {name: value for name, value in vars(row).items() if name != "rollout"}
    return {**describe(row.rollout, tokenizer), "context_ids": context_ids, "token_ids": token_ids, **numbers}


def load_learner(context: StageContext, settings: RLSettings, policy_path: Path) -> tuple[Learner, int]:
    """Models and optimisers at the start of training, or as the last checkpoint left them; and the next step."""
    whole = ranks.first_does(lambda: sorted((context.folder / CHECKPOINTS).glob("step-??????")))
    half = in_bfloat16(settings.precision)
    policy = load_policy(policy_path, before_sharding())
    policy = shard(add_adapters(policy, settings.lora, derive_seed(context.seed, "policy's adapters")), half)
    critic = add_adapters(
        load_reward_model(context.artifact("reward_model"), before_sharding()),
        settings.lora,
        derive_seed(context.seed, "critic's adapters"),
        trained=["score"],
    )
    critic = shard(critic, half)
    learner = Learner(
        policy,
        critic,
        make_optimizer(policy, settings.optimizer, settings.actor_lr),
        make_optimizer(critic, settings.optimizer, settings.critic_lr),
    )
    if not whole:
        return learner, 0
    load_state(whole[-1], learner.parts())
    return learner, int(whole[-1].name.removeprefix("step-"))


def save_checkpoint(folder: Path, learner: Learner, step: int) -> None:
    """Write a checkpoint aside, rename it, and only then delete the one before: there is always a whole one.

    Each rank writes its part. Raises ArtifactError where it cannot be written, as on a full disk.
    """
    checkpoints = folder / CHECKPOINTS
    aside = checkpoints / "writing"
    ranks.first_does(lambda: shutil.rmtree(aside, ignore_errors=True))
    try:
        save_state(aside, learner.parts())
    except (OSError, CheckpointException) as error:
        free = shutil.disk_usage(folder).free
        ranks.first_does(lambda: shutil.rmtree(aside, ignore_errors=True))
        raise ArtifactError(
            f"the checkpoint of step {step} cannot be written to {checkpoints}, where {free / 1e6:.0f} MB are free: "
            f"{error}. The one before stays; make room, and the same command goes on from it."
        ) from error
    ranks.first_does(lambda: _put_in_place(checkpoints, step))


def _put_in_place(checkpoints: Path, step: int) -> None:
    (checkpoints / "writing").rename(checkpoints / f"step-{step:06d}")
    for older in sorted(checkpoints.glob("step-??????"))[:-1]:
        shutil.rmtree(older)
