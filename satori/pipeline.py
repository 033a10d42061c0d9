"""The stages in order, and how they run over a run folder."""

import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from satori import base_model, distillation, format_tuning, ranks, reward_model
from satori.config import derive_seed
from satori.engines.http_client import ConnectionSettings
from satori.engines.opening import require_engine
from satori.evaluation import stage as evaluation
from satori.progress import Display
from satori.recipe import Recipe, dump_recipe
from satori.reinforcement import stage as reinforcement
from satori.report import stage as report
from satori.run_folder import ArtifactError, RunFolder, fingerprint, write_text
from satori.stage import Stage, StageContext
from satori.synthesis import stage as synthesis
from satori.tracking import TrackedStage, Trackers, require_installed
from satori.types import Variant


def _always(recipe: Recipe) -> bool:
    return True


STAGES: tuple[Stage, ...] = (
    Stage(
        "base",
        "pretrain",
        (),
        ("model", "problems", "pretrain"),
        base_model.run_stage,
        "the base model",
        on_all_ranks=True,
    ),
    Stage(
        "synthesis",
        "synthesize",
        ("base",),
        ("seed", "variant", "problems", "synthesis"),
        synthesis.run_stage,
        "COAT demonstrations from generator, critic and reward model",
        contents=lambda recipe: {"prompts": recipe.synthesis.prompt_digests()},
        samples=lambda recipe: recipe.synthesis.released is None and bool(recipe.synthesis.models_here()),
    ),
    Stage(
        "format_tuned",
        "tune",
        ("base", "synthesis"),
        ("seed", "tune"),
        format_tuning.run_stage,
        "format tuning: the base model learns the meta-actions",
        on_all_ranks=True,
    ),
    Stage(
        "reward_model",
        "reward-model",
        ("format_tuned",),
        ("seed", "problems", "reward_model"),
        reward_model.run_stage,
        "preference pairs and the outcome reward model",
        samples=_always,
        on_all_ranks=True,
    ),
    Stage(
        "restarts",
        "restarts",
        ("format_tuned",),
        ("seed", "variant", "problems", "restarts"),
        reinforcement.run_restarts,
        "the restart buffers of Algorithm 1",
        samples=lambda recipe: recipe.restarts.released is None and recipe.variant is Variant.COAT,
        on_all_ranks=True,
    ),
    Stage(
        "rl_1",
        "rl",
        ("format_tuned", "reward_model", "restarts"),
        ("seed", "problems", "restarts", "rl"),
        reinforcement.run_round_1,
        "PPO with restart and explore",
        samples=_always,
        on_all_ranks=True,
    ),
    Stage(
        "distilled",
        "distill",
        ("base", "rl_1"),
        ("seed", "problems", "distill"),
        distillation.run_stage,
        "the policy's hardest correct trajectories back into the base model",
        samples=_always,
        on_all_ranks=True,
    ),
    Stage(
        "rl_2",
        "rl",
        ("distilled", "format_tuned", "reward_model", "restarts"),
        ("seed", "problems", "restarts", "rl_2"),
        reinforcement.run_round_2,
        "PPO, round 2: no restarts, more samples",
        samples=_always,
        on_all_ranks=True,
    ),
    Stage(
        "evaluation",
        "evaluate",
        evaluation.MODELS,
        ("problems", "evaluate"),
        evaluation.run_stage,
        "every model on held-out and out-of-domain problems",
        samples=_always,
        on_all_ranks=True,
    ),
    Stage(
        "report",
        "report",
        ("synthesis", "reward_model", "rl_1", "rl_2", "evaluation"),
        ("description", "variant"),
        report.run_stage,
        "summary.json, report.md and report.html",
    ),
)


def run(recipe: Recipe, out: Path, stages: Sequence[Stage], redo: Sequence[str], display: Display) -> None:
    """Run stages in order over a run folder, skipping those that are done.

    ``redo`` names stages to make again; what was made from them is made again too. Raises ArtifactError where an
    artifact is missing or belongs to another configuration, or where another process works in the folder,
    TrackingError where a tracker is not installed, and EngineError where the engine of a stage is not; nothing is
    removed then.
    """
    require_installed(recipe.tracking)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    folder, again = RunFolder(out), _with_followers(redo, stages)
    with ranks.joined(recipe.rank_timeout_s), folder.held() if ranks.is_first() else nullcontext():
        ranks.first_does(lambda: _make_way(folder, recipe, stages, again))
        for stage in stages:
            _run_stage(recipe, folder, stage, display)


def _run_stage(recipe: Recipe, folder: RunFolder, stage: Stage, display: Display) -> None:
    settings = stage_settings(recipe, stage)
    task = display.task(stage.name)

    def prepare() -> tuple[dict[str, str], Path] | None:
        """What the stage is made from, and the folder to work in; None where it is done."""
        inputs = folder.input_fingerprints(stage.name, stage.inputs)
        if folder.is_complete(stage.name, settings, inputs):
            return None
        write_text(folder.root / "recipe.yaml", dump_recipe(recipe))
        return inputs, folder.open_partial(stage.name, settings, inputs)

    prepared = ranks.first_does(prepare)
    if prepared is None:
        task.finish("done before")
        return
    inputs, partial = prepared
    started, seed = time.monotonic(), derive_seed(recipe.seed, stage.name)
    set_seed(seed)
    tracked = TrackedStage(recipe.tracking, folder.root, stage.name, partial, settings)
    with Trackers(tracked, task.warn) if ranks.is_first() else Trackers() as trackers:
        context = StageContext(stage.name, recipe, partial, folder, seed, task, trackers)
        outcome = stage.run(context) if stage.on_all_ranks else ranks.first_does(lambda: stage.run(context))
    ranks.meet(f"the end of {stage.name}")
    ranks.first_does(lambda: folder.commit(stage.name, settings, inputs, time.monotonic() - started))
    task.finish(outcome)


def stage_settings(recipe: Recipe, stage: Stage) -> dict[str, object]:
    """The part of a recipe that shapes a stage's artifact. Neither engine nor trackers are part of it, nor how a
    server is reached: a run goes on with another engine, and when the server has moved."""
    values = recipe.model_dump(mode="json")
    sections = {section: _without_connections(values[section]) for section in stage.sections}
    return sections | {name: content for name, content in stage.contents(recipe).items() if content}


def _without_connections(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_connections(item) for item in value]
    if not isinstance(value, dict):
        return value
    dropped = ConnectionSettings.model_fields.keys() if "url" in value else ()
    return {key: _without_connections(item) for key, item in value.items() if key not in dropped}


def _make_way(folder: RunFolder, recipe: Recipe, stages: Sequence[Stage], again: Sequence[str]) -> None:
    """Remove the stages to make again. Raises ArtifactError, before anything is removed, where the command would be
    refused later: what stays of its stages, finished or not, or an artifact that they are made from is of another
    configuration, or one is missing. Raises EngineError where what a stage still to run samples with is not
    installed."""
    made: dict[str, str] = {}
    for stage in stages:
        before = folder.input_fingerprints(stage.name, [name for name in stage.inputs if name not in made])
        _refuse_other_sources(folder, recipe, stage, made)
        settings, inputs = stage_settings(recipe, stage), {name: (made | before)[name] for name in stage.inputs}
        asked_again = stage.name in again
        if asked_again or not folder.is_complete(stage.name, settings, inputs):
            if stage.samples(recipe):
                require_engine(recipe.engine)
            if not asked_again:
                folder.is_begun(stage.name, settings, inputs)
        made[stage.name] = fingerprint(settings, inputs)
    for name in again:
        folder.remove(name)


def _refuse_other_sources(folder: RunFolder, recipe: Recipe, stage: Stage, checked: Collection[str]) -> None:
    """Raise ArtifactError where an artifact that a stage is made from, directly or through others, belongs to another
    configuration: a stage run by itself must not mix two."""
    for source in (other for other in STAGES if other.name in stage.inputs and other.name not in checked):
        if manifest := folder.manifest(source.name):
            folder.is_complete(source.name, stage_settings(recipe, source), manifest["inputs"])
        _refuse_other_sources(folder, recipe, source, checked)


def _with_followers(names: Sequence[str], stages: Sequence[Stage]) -> list[str]:
    """The stages named, and all that read them directly or through others. Raises ArtifactError where one that is named
    is not among the command's."""
    made = [stage.name for stage in stages]
    for name in names:
        if name not in made:
            raise ArtifactError(f"--redo: this command makes no artifact {name!r}; it makes {', '.join(made)}")
    chosen = set(names)
    for stage in STAGES:
        if chosen & set(stage.inputs):
            chosen.add(stage.name)
    return [stage.name for stage in STAGES if stage.name in chosen]
