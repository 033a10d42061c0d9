"""``satori reward-model``: the outcome reward model (paper section 4.2, D.3).

The format-tuned model answers training problems several times; correct and incorrect responses to one problem make
preference pairs; a scalar head on the tuned model learns them with TRL's reward trainer, Bradley-Terry with a margin:
L = -log sigma(r(y+) - r(y-) - tau). Of the epochs' checkpoints the one with the best RM@k on validation problems is
kept: sample k responses, let the model pick one, count correct picks. RM@k on test problems is reported.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from satori import ranks
from satori.config import derive_seed
from satori.lora import add_adapters
from satori.models import load_any_reward_model, load_reward_model, load_tokenizer, save
from satori.problems.arithmetic import TEST_DRAW, Split
from satori.run_folder import CHECKPOINTS, ArtifactError, read_jsonl, write_jsonl, write_text
from satori.sampling import Response
from satori.scoring import check_padding, reward_logits
from satori.stage import StageContext
from satori.training import (
    OptimizerSettings,
    OwnTrainer,
    ReportCallback,
    checkpoints,
    load_trained,
    run_trainer,
    short_enough,
    trainer_arguments,
)
from satori.types import Problem


class RewardModelSettings(OptimizerSettings):
    """Preference pairs and the reward model. Paper: learning rate 2e-6, batch 128, 2 epochs."""

    learning_rate: float = 2e-6
    epochs: float = 2
    margin: float = Field(default=2.0, ge=0)
    """tau (paper: 2)."""
    problems: int = Field(default=550_000, gt=0)
    """Training problems to sample (paper: 550k)."""
    samples: int = Field(default=8, gt=1)
    """Responses per problem, in training and in RM@k (paper: 8)."""
    pairs_per_problem: int = Field(default=1, gt=0)
    """At most so many pairs of a correct and an incorrect response per problem, no response used twice."""
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=2048, gt=0)
    validation_problems: int = Field(default=500, gt=0)
    test_problems: int = Field(default=500, gt=0)
    checkpoint: str = ""
    """Take this reward model (a checkpoint folder or a hub id, such as Satori-reasoning/Satori-RM-7B), training none;
    RM@k is measured all the same."""


class _Training(OwnTrainer, RewardTrainer):
    """TRL's."""


@dataclass(frozen=True)
class PreferencePair:
    """A correct and an incorrect response to one problem, as token ids with the end token."""

    problem_id: str
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]


def run_stage(context: StageContext) -> str:
    return take_checkpoint(context) if context.recipe.reward_model.checkpoint else train(context)


def take_checkpoint(context: StageContext) -> str:
    """A reward model that was trained elsewhere, measured on test problems. Raises ArtifactError where it reads other
    tokens than the policy."""
    name, tuned = context.recipe.reward_model.checkpoint, context.artifact("format_tuned")
    model, theirs = load_any_reward_model(name, context.recipe.model.dtype)
    tokenizer = load_tokenizer(tuned)
    if theirs.get_vocab() != tokenizer.get_vocab():
        raise ArtifactError(f"{name} and the format-tuned model have different vocabularies: it cannot read responses")
    save(model, tokenizer, context.folder)
    return f"took {name}; {measure(context, model)}"


def train(context: StageContext) -> str:
    """Preference pairs, training, and the checkpoint with the best RM@k."""
    settings, tuned = context.recipe.reward_model, context.artifact("format_tuned")
    tokenizer = load_tokenizer(tuned)
    check_padding(tokenizer)
    for split in (Split.VALIDATION, Split.TEST):
        held_out(context, split)  # now rather than after hours
    pairs_file = context.folder / "pairs.jsonl"
    if not ranks.first_does(pairs_file.exists):
        write_jsonl(pairs_file, sample_pairs(context))
    rows: list[dict[str, Any]] = [
        {
            "chosen_ids": [*pair["prompt_ids"], *pair["chosen_ids"]],
            "rejected_ids": [*pair["prompt_ids"], *pair["rejected_ids"]],
            "margin": settings.margin,
        }
        for pair in read_jsonl(pairs_file)
    ]
    if not rows:
        raise ArtifactError(f"{pairs_file}: no problem had both correct and incorrect responses, nothing to learn from")
    rows = short_enough(rows, pair_length, settings, context.task)
    fit(context, rows, tokenizer)
    best = best_checkpoint(context)
    save(best, tokenizer, context.folder)
    outcome = measure(context, best)
    return f"{len(rows)} pairs; {outcome}"


def fit(context: StageContext, rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> None:
    """Train on pairs. Model and optimiser are gone afterwards: an engine needs the memory."""
    settings = context.recipe.reward_model
    arguments = trainer_arguments(context.folder / CHECKPOINTS, settings, context.seed, len(rows))
    arguments |= {"save_total_limit": None}  # the best is chosen in the end
    trainer = _Training(
        settings,
        [pair_length(row) for row in rows],
        model=new_reward_model(context),
        args=RewardConfig(**arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[ReportCallback(context.task, context.folder / "metrics.jsonl", context.trackers)],
    )
    run_trainer(trainer, tokenizer, context.folder)


def pair_length(row: dict[str, Any]) -> int:
    """Tokens of the longer of the two responses, with the prompt."""
    return max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def new_reward_model(context: StageContext) -> PreTrainedModel:
    """The format-tuned model with a new head, and with adapters where they are asked for."""
    model = load_reward_model(context.artifact("format_tuned"))
    return add_adapters(model, context.recipe.reward_model.lora, context.seed, trained=["score"])


def measure(context: StageContext, reward_model: PreTrainedModel) -> str:
    """RM@k on test problems, written down; returns the line to show."""
    settings = context.recipe.reward_model
    found = rm_at_k(reward_model, sample_held_out(context, Split.TEST))
    write_text(context.folder / "rm_at_k.json", json.dumps(found, indent=2) + "\n")
    return (
        f"RM@{settings.samples} {found['reward_model']:.1%} against {found['first_sample']:.1%} for the first sample, "
        f"{found['oracle']:.1%} for the best"
    )


def sample_pairs(context: StageContext) -> Iterator[dict[str, Any]]:
    """Preference pairs from the format-tuned model."""
    settings = context.recipe.reward_model
    problems = context.draw_problems(Split.TRAIN, derive_seed(context.seed, "problems"), settings.problems)

    def pairs(responses: Sequence[Response]) -> list[dict[str, Any]]:
        rng = random.Random(derive_seed(context.seed, "pairs", responses[0].problem.id))
        return [vars(pair) for pair in make_pairs(responses, settings.pairs_per_problem, rng)]

    seed = derive_seed(context.seed, "pairs")
    return context.sample_records("format_tuned", problems, settings, seed, pairs)


def make_pairs(responses: Sequence[Response], most: int, rng: random.Random) -> list[PreferencePair]:
    """Pairs of distinct correct and incorrect responses to one problem, drawn at random."""
    correct = list({r.completion.token_ids: r for r in responses if r.correct}.values())
    incorrect = list({r.completion.token_ids: r for r in responses if not r.correct}.values())
    count = min(most, len(correct), len(incorrect))
    return [
        PreferencePair(good.problem.id, good.prompt_ids, good.completion.token_ids, bad.completion.token_ids)
        for good, bad in zip(rng.sample(correct, count), rng.sample(incorrect, count), strict=True)
    ]


def held_out(context: StageContext, split: Split) -> list[Problem]:
    """The problems of a split that the reward model is judged on. Raises ArtifactError where there are none."""
    settings = context.recipe.reward_model
    seed, count = (TEST_DRAW, settings.test_problems) if split is Split.TEST else (0, settings.validation_problems)
    problems = context.draw_problems(split, seed, count)
    if not problems:
        raise ArtifactError(
            f"the recipe's problems have none for {split}: one in twenty is, chosen by its question; give more problems"
        )
    return problems


def sample_held_out(context: StageContext, split: Split) -> list[list[Response]]:
    """Responses of the format-tuned model that the reward model is judged on."""
    seed = derive_seed(context.seed, split.value)
    return context.sample("format_tuned", held_out(context, split), context.recipe.reward_model, seed)


def best_checkpoint(context: StageContext) -> PreTrainedModel:
    """The reward model of the checkpoint with the best RM@k on validation problems."""
    groups = sample_held_out(context, Split.VALIDATION)
    model = new_reward_model(context).eval()
    scores: dict[Path, float] = {}
    for path in checkpoints(context.folder / CHECKPOINTS):
        load_trained(path, model)
        scores[path] = rm_at_k(model, groups)["reward_model"]
    load_trained(max(scores, key=lambda path: scores[path]), model)
    return model


def rm_at_k(reward_model: PreTrainedModel, groups: Sequence[Sequence[Response]]) -> dict[str, float]:
    """Share of problems whose first sample, highest-scored sample, and any sample is correct."""
    flat = [(r.prompt_ids, r.completion.token_ids) for responses in groups for r in responses]
    scores = iter(reward_logits(reward_model, flat))
    first = picked = some = 0
    for responses in groups:
        ranked = [(next(scores), r.correct) for r in responses]
        first += ranked[0][1]
        picked += max(ranked, key=lambda pair: pair[0])[1]
        some += any(correct for _, correct in ranked)
    count = len(groups)
    return {"first_sample": first / count, "reward_model": picked / count, "oracle": some / count}
