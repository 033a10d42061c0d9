"""Training that has gone wrong: stop before anything moves, and keep the batch that did it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from satori.run_folder import ArtifactError, write_jsonl

DIVERGED = "diverged.jsonl"


class DivergedError(FloatingPointError):
    """A gradient is not finite; nothing has moved in that optimiser step."""

    def __init__(self, message: str, batch: Sequence[Any]) -> None:
        super().__init__(message)
        self.batch = batch
        """The examples or responses of the step, all ranks'."""


@contextmanager
def keeping_the_batch(stage: str, folder: Path, describe: Callable[[Any], dict[str, object]]) -> Iterator[None]:
    """Write the batch of a DivergedError to the stage's folder, and raise ArtifactError that says what to do."""
    try:
        yield
    except DivergedError as error:
        path = folder / DIVERGED
        write_jsonl(path, [describe(item) for item in error.batch])
        raise ArtifactError(
            f"{stage} stopped: {error}. The batch that it came from is in {path}. The same command goes on from the "
            "last checkpoint and comes to the same place: look at the batch, and begin again with lower learning "
            f"rates and --redo {stage}."
        ) from error
