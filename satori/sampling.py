"""Sampling a policy on problems, several responses each, graded: pairs, restarts, distillation and RM@8 start here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from satori.coat import encode_prompt
from satori.engines.base import Engine, Sampling
from satori.grading import Grade, grade_all
from satori.types import Completion, FinishReason, Problem


@dataclass(frozen=True)
class Response:
    """One sampled response to a problem."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    completion: Completion
    text: str
    grade: Grade

    @property
    def finished(self) -> bool:
        return self.completion.finish_reason is FinishReason.STOP

    @property
    def correct(self) -> bool:
        """Right and finished: a truncated response never gave its final answer."""
        return self.finished and self.grade.correct


def decode_response(tokenizer: PreTrainedTokenizerBase, completion: Completion) -> str:
    """The response's text, meta-actions kept, the end token left out."""
    ids = completion.token_ids[:-1] if completion.finish_reason is FinishReason.STOP else completion.token_ids
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def sample_responses(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    seed: int,
    on_done: Callable[[], None] = lambda: None,
) -> list[list[Response]]:
    """``samples`` graded responses for each problem, in order; ``on_done`` is called after each response."""
    prompts = [tuple(encode_prompt(tokenizer, problem.question)) for problem in problems for _ in range(samples)]
    found: dict[int, Completion] = {}
    for index, completion in engine.generate(prompts, sampling, seed):
        found[index] = completion
        on_done()
    asked = [problem for problem in problems for _ in range(samples)]
    texts = [decode_response(tokenizer, found[i]) for i in range(len(prompts))]
    grades = grade_all((text, problem.answer, problem.form) for text, problem in zip(texts, asked, strict=True))
    ordered = [Response(asked[i], prompts[i], found[i], texts[i], grades[i]) for i in range(len(prompts))]
    return [ordered[i : i + samples] for i in range(0, len(ordered), samples)]
