"""What a stage is: a name, the settings that shape its artifact, the stages it reads, and a function that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from satori.progress import Task
from satori.run_folder import RunFolder

if TYPE_CHECKING:
    from satori.recipe import Recipe


@dataclass(frozen=True)
class StageContext:
    """What a stage function gets: its recipe, its working folder, the artifacts of earlier stages, a progress line."""

    stage: str
    recipe: "Recipe"
    folder: Path
    """Where to write; renamed to the stage's artifact when the function returns. May hold what an interrupted run of
    the same configuration left."""
    run: RunFolder
    seed: int
    """Derived from the recipe's seed and the stage's name."""
    task: Task

    def artifact(self, stage: str) -> Path:
        """The folder of an earlier stage's artifact."""
        return self.run.path(stage)


@dataclass(frozen=True)
class Stage:
    """One step from nothing to a report."""

    name: str
    """Also the artifact's folder in the run folder."""
    command: str
    """The subcommand that runs it."""
    inputs: tuple[str, ...]
    """Stages whose artifacts it reads."""
    sections: tuple[str, ...]
    """Recipe sections that shape its artifact."""
    run: Callable[[StageContext], str]
    """Does the work; returns the line to show when done."""
    help: str
