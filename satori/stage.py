"""What a stage is: a name, the settings that shape its artifact, the stages it reads, and a function that runs it."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.benchmarks.rows import UnusableRow
from satori.coat import encode_prompt
from satori.engines.base import PolicyEngine, Sampling
from satori.engines.opening import open_engine
from satori.models import load_tokenizer
from satori.problems.arithmetic import Split
from satori.problems.recipe_problems import problem_stream
from satori.progress import Task
from satori.run_folder import CHECKPOINTS, RunFolder
from satori.sampling import Response, sample_records, sample_responses
from satori.tracking import Trackers
from satori.types import Problem

if TYPE_CHECKING:
    from satori.recipe import Recipe


class SampleSettings(Protocol):
    """How a stage samples a model: part of the stage's settings."""

    samples: int
    temperature: float
    max_new_tokens: int


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
    trackers: Trackers = field(default_factory=Trackers)
    """What is logged goes to them beside the JSON lines."""

    def artifact(self, stage: str) -> Path:
        """The folder of an earlier stage's artifact."""
        return self.run.path(stage)

    def problems(self, split: Split, seed: int) -> Generator[Problem, None, None]:
        """The recipe's problems of a split, one at a time; of real sources those that are short enough. Close it where
        enough are drawn: what became of the rows of real sources is shown then."""
        settings = self.recipe.problems
        if not settings.sources:
            return problem_stream(settings, split, seed)
        tokenizer, longest = load_tokenizer(self.artifact("base")), settings.max_prompt_tokens

        def check(problem: Problem) -> None:
            if len(encode_prompt(tokenizer, problem.question)) > longest:
                raise UnusableRow(f"prompt of more than {longest} tokens")

        return problem_stream(settings, split, seed, check, self.task.say)

    def draw_problems(self, split: Split, seed: int, count: int) -> list[Problem]:
        """The first of these problems, or all where there are fewer."""
        with closing(self.problems(split, seed)) as stream:
            return list(islice(stream, count))

    def engine(self, stage: str, model: PreTrainedModel | None = None) -> AbstractContextManager[PolicyEngine]:
        """The recipe's engine for the model of an earlier stage, or for that model while it is trained on."""
        return open_engine(self.recipe.engine, self.artifact(stage), model)

    def sample(
        self, stage: str, problems: Sequence[Problem], settings: SampleSettings, seed: int
    ) -> list[list[Response]]:
        """Graded responses of an earlier stage's model, ``settings.samples`` to each problem, in memory."""
        tokenizer, sampling = self._before_sampling(stage, problems, settings)
        with self.engine(stage) as engine:
            return sample_responses(engine, tokenizer, problems, settings.samples, sampling, seed, self.task.advance)

    def sample_records(
        self,
        stage: str,
        problems: Sequence[Problem],
        settings: SampleSettings,
        seed: int,
        describe: Callable[[Sequence[Response]], Iterable[dict[str, Any]]],
    ) -> Iterator[dict[str, Any]]:
        """What ``describe`` makes of the responses to each problem; see :func:`satori.sampling.sample_records`."""
        tokenizer, sampling = self._before_sampling(stage, problems, settings)
        parts = self.folder / CHECKPOINTS / "sampled"
        with self.engine(stage) as engine:
            return sample_records(
                engine, tokenizer, problems, settings.samples, sampling, seed, describe, parts, self.task.advance
            )

    def _before_sampling(
        self, stage: str, problems: Sequence[Problem], settings: SampleSettings
    ) -> tuple[PreTrainedTokenizerBase, Sampling]:
        self.task.start(len(problems) * settings.samples)
        self.task.note(f"sampling {stage}")
        sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
        return load_tokenizer(self.artifact(stage)), sampling


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
    samples: Callable[["Recipe"], bool] = lambda recipe: False
    """Whether it opens the recipe's engine."""
    on_all_ranks: bool = False
    """Whether all ranks run it together; otherwise the first does and the others wait."""
    contents: Callable[["Recipe"], Mapping[str, object]] = lambda recipe: {}
    """What else shapes it: the contents of files that its settings name."""
