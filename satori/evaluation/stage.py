"""``satori evaluate`` in a run folder: the model of every stage, greedily, on held-out problems and both
out-of-domain sets. One file of responses a model; an interrupted evaluation goes on with the responses it lacks.
"""

from itertools import islice

from pydantic import Field

from satori.config import Settings
from satori.engines.base import Sampling
from satori.engines.torch_engine import TorchEngine
from satori.evaluation.runner import respond
from satori.models import load_policy, load_tokenizer
from satori.problems.arithmetic import Split, problem_stream
from satori.problems.out_of_domain import harder_problems, reasoning_gym_problems
from satori.stage import StageContext
from satori.types import Problem

MAIN_SET = "test"
HARDER_SET = "harder"
MODELS = ("base", "format_tuned", "rl_1", "rl_2")


class EvaluateSettings(Settings):
    """Evaluation: greedy, one response a problem, as in the paper."""

    problems: int = Field(default=500, gt=0)
    """Held-out problems of the trained levels."""
    harder_problems: int = Field(default=150, gt=0)
    other_problems: int = Field(default=150, gt=0)
    other_task: str = "number_sequence"
    """A reasoning-gym task of a kind never trained on."""
    max_new_tokens: int = Field(default=2048, gt=0)


def run_stage(context: StageContext) -> str:
    settings = context.recipe.evaluate
    problems = [(name, problem) for name, group in problem_sets(settings).items() for problem in group]
    sampling = Sampling(temperature=0, max_new_tokens=settings.max_new_tokens)
    context.task.start(len(MODELS) * len(problems))
    figures = []
    for model in MODELS:
        tokenizer = load_tokenizer(context.artifact(model))
        engine = TorchEngine(load_policy(context.artifact(model)), tokenizer.eos_token_id, context.recipe.engine.rows)
        path = context.folder / f"{model}.jsonl"
        responses = respond(engine, tokenizer, problems, 1, sampling, context.seed, path, on_done=context.task.advance)
        main = [r for r in responses if r.set_name == MAIN_SET]
        figures.append(f"{model} {sum(r.correct for r in main) / len(main):.1%}")
        context.task.note(figures[-1])
    return ", ".join(figures)


def problem_sets(settings: EvaluateSettings) -> dict[str, list[Problem]]:
    """The held-out problems and both out-of-domain sets, the same for every seed of a recipe."""
    return {
        MAIN_SET: list(islice(problem_stream(Split.TEST, 0), settings.problems)),
        HARDER_SET: harder_problems(settings.harder_problems),
        settings.other_task: reasoning_gym_problems(settings.other_task, settings.other_problems),
    }
