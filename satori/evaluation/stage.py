"""``satori evaluate``: the model of every stage, greedily, on held-out problems and both out-of-domain sets.

One file of responses a model; a file that is there already is not made again, so an interrupted evaluation goes on.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from satori.config import Settings
from satori.engines.base import Sampling
from satori.engines.torch_engine import TorchEngine
from satori.evaluation.analyses import EvaluatedResponse
from satori.models import load_policy, load_tokenizer
from satori.problems.arithmetic import Split, problem_stream
from satori.problems.out_of_domain import harder_problems, reasoning_gym_problems
from satori.run_folder import read_jsonl, write_jsonl
from satori.sampling import Response, sample_responses
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
    """A reasoning-gym task with numbers for answers, of a kind never trained on."""
    max_new_tokens: int = Field(default=2048, gt=0)


def run_stage(context: StageContext) -> str:
    settings = context.recipe.evaluate
    sets = problem_sets(settings)
    problems = [(name, problem) for name, group in sets.items() for problem in group]
    context.task.start(len(MODELS) * len(problems))
    figures = []
    for number, model in enumerate(MODELS):
        path = context.folder / f"{model}.jsonl"
        if not path.exists():
            context.task.note(model)
            write_jsonl(path, [vars(record) for record in evaluate(context, context.artifact(model), problems)])
        context.task.start(len(MODELS) * len(problems), done=(number + 1) * len(problems))
        main = [r for r in read_responses(path) if r.set_name == MAIN_SET]
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


def evaluate(
    context: StageContext, model_path: Path, problems: Sequence[tuple[str, Problem]]
) -> list[EvaluatedResponse]:
    """Greedy responses of one model, graded."""
    tokenizer = load_tokenizer(model_path)
    engine = TorchEngine(load_policy(model_path), tokenizer.eos_token_id, context.recipe.engine.rows)
    sampling = Sampling(temperature=0, max_new_tokens=context.recipe.evaluate.max_new_tokens)
    groups = sample_responses(engine, tokenizer, [p for _, p in problems], 1, sampling, 0, context.task.advance)
    return [record(name, group[0], tokenizer) for (name, _), group in zip(problems, groups, strict=True)]


def record(set_name: str, response: Response, tokenizer: PreTrainedTokenizerBase) -> EvaluatedResponse:
    problem = response.problem
    plain = tokenizer.encode("\n".join(problem.solution), add_special_tokens=False)
    return EvaluatedResponse(
        problem_id=problem.id,
        set_name=set_name,
        level=problem.level,
        question=problem.question,
        gold=problem.answer,
        response=response.text,
        tokens=len(response.completion.token_ids),
        finished=response.finished,
        correct=response.correct,
        answers=response.grade.answers,
        plain_tokens=len(plain) + 1 if problem.solution else 0,
    )


def read_responses(path: Path) -> list[EvaluatedResponse]:
    """The responses of one model, as saved."""
    return [EvaluatedResponse(**{**row, "answers": tuple(row["answers"])}) for row in read_jsonl(path)]
