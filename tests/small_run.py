"""The whole method at a size that takes seconds, for every test that needs a run folder."""

from pathlib import Path

import torch

from satori.cli import main

SMALL = {
    "threads": 1,
    "synthesis.demonstrations": 60,
    "synthesis.problems_per_chunk": 20,
    "tune.epochs": 1,
    "reward_model.problems": 40,
    "reward_model.validation_problems": 4,
    "reward_model.test_problems": 4,
    "reward_model.samples": 4,
    "reward_model.temperature": 1,
    "reward_model.epochs": 1,
    "reward_model.max_new_tokens": 60,
    "restarts.problems": 10,
    "restarts.max_new_tokens": 60,
    "rl.steps": 2,
    "rl.rollouts_per_step": 8,
    "rl.batch_size": 4,
    "rl.max_new_tokens": 60,
    "rl.validation_problems": 2,
    "rl.checkpoint_every": 1,
    "distill.problems": 100,
    "distill.epochs": 1,
    "distill.max_new_tokens": 60,
    "rl_2.steps": 1,
    "evaluate.problems": 10,
    "evaluate.harder_problems": 2,
    "evaluate.other_problems": 2,
    "evaluate.max_new_tokens": 60,
}


def arguments(out: Path, **changes: object) -> list[str]:
    """Of the command line; changed settings have two underscores for a dot."""
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return ["run", "tiny", "--out", str(out), *(part for k, v in settings.items() for part in (f"--{k}", str(v)))]


def run(words: list[str]) -> None:
    """The command line in a process of its own (the fixture ``processes``)."""
    torch.set_num_threads(1)
    raise SystemExit(main(words))
