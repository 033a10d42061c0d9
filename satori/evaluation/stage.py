"""``satori evaluate`` in a run folder: the model of every stage, greedily, on held-out problems, out-of-domain sets
and benchmarks. One file of responses a model; an interrupted evaluation goes on with the responses it lacks.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from pydantic import Field, field_validator

from satori.benchmarks.registry import ReasoningGymSet, parse_benchmarks
from satori.config import Settings
from satori.engines.base import Sampling
from satori.engines.opening import context_limit
from satori.evaluation.runner import respond
from satori.models import load_tokenizer
from satori.problems.arithmetic import TEST_DRAW, Split
from satori.problems.out_of_domain import harder_problems
from satori.run_folder import ArtifactError
from satori.stage import StageContext
from satori.types import Problem

MAIN_SET = "test"
HARDER_SET = "harder"
MODELS = ("base", "format_tuned", "rl_1", "rl_2")


class EvaluateSettings(Settings):
    """Evaluation: greedy, one response a problem, as in the paper."""

    problems: int = Field(default=500, gt=0)
    """Held-out problems of the trained levels."""
    harder_problems: int = Field(default=150, ge=0)
    """With more operands than any trained level; only where the embedded problems are trained on."""
    other_problems: int = Field(default=150, ge=0)
    other_task: str = "number_sequence"
    """A reasoning-gym task of a kind never trained on."""
    benchmarks: tuple[str, ...] = ()
    """Benchmarks to evaluate on besides, named as for `satori evaluate --benchmarks`."""
    data: str = ""
    """A folder of benchmark files; without one they come from the hub."""
    max_new_tokens: int = Field(default=2048, gt=0)

    @field_validator("other_task")
    @classmethod
    def _check_task(cls, task: str) -> str:
        ReasoningGymSet(task, size=1).load()
        return task

    @field_validator("benchmarks")
    @classmethod
    def _check_benchmarks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            parse_benchmarks(names)
        return names


def run_stage(context: StageContext) -> str:
    settings = context.recipe.evaluate
    with closing(context.problems(Split.TEST, TEST_DRAW)) as held_out:
        sets = problem_sets(settings, held_out, not context.recipe.problems.sources)
    problems = [(name, problem) for name, group in sets.items() for problem in group]
    context.task.start(len(MODELS) * len(problems))
    figures = []
    for model in MODELS:
        tokenizer = load_tokenizer(context.artifact(model))
        length = context_limit(context.recipe.engine, context.artifact(model))
        sampling = Sampling(temperature=0, max_new_tokens=settings.max_new_tokens, context_length=length)
        path = context.folder / f"{model}.jsonl"
        with context.engine(model) as engine:
            responses = respond(engine, tokenizer, problems, 1, sampling, context.seed, path, context.task.advance)
        if unanswered := sum(r.unanswered for r in responses):
            context.task.warn(
                f"{model}: {unanswered} of {len(responses)} prompts leave no room for a response in its context of "
                f"{length} tokens: not asked, counted as wrong"
            )
        main = [r for r in responses if r.set_name == MAIN_SET]
        figures.append(f"{model} {sum(r.correct for r in main) / len(main):.1%}")
        context.task.note(figures[-1])
    return ", ".join(figures)


def problem_sets(settings: EvaluateSettings, held_out: Iterator[Problem], embedded: bool) -> dict[str, list[Problem]]:
    """The first of the held-out problems, the out-of-domain sets and the benchmarks, the same for every seed of a
    recipe; ``embedded`` says whether they are the embedded family's. Raises ArtifactError where nothing is held out,
    BenchmarkError where a set cannot be made."""
    sets = {MAIN_SET: list(islice(held_out, settings.problems))}
    if not sets[MAIN_SET]:
        raise ArtifactError("the recipe's problems have none for test: one in twenty is, chosen by its question")
    if embedded and settings.harder_problems:
        sets[HARDER_SET] = harder_problems(settings.harder_problems)
    if settings.other_problems:
        sets[settings.other_task] = list(ReasoningGymSet(settings.other_task, settings.other_problems).load().problems)
    data = Path(settings.data) if settings.data else None
    chosen = parse_benchmarks(settings.benchmarks) if settings.benchmarks else []
    return sets | {one.name: list(one.load(data).problems) for one in chosen}
