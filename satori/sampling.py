"""Sampling a policy on problems, several responses each, graded: pairs, restarts, distillation and RM@8 start here."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from satori import ranks
from satori.coat import encode_prompt
from satori.engines.base import Engine, Sampling
from satori.grading import Grade, grade
from satori.scoring import Tokens
from satori.types import Completion, FinishReason, Problem

_GRADING_THREADS = 4


@dataclass(frozen=True)
class Answer:
    """One sampled response to a prompt, graded."""

    completion: Completion
    text: str
    grade: Grade


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


def answer(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[tuple[Tokens, Problem]],
    sampling: Sampling,
    seed: int,
    on_done: Callable[[int, Completion], None] = lambda index, completion: None,
) -> list[Answer]:
    """A graded response to each (prompt, problem), in order.

    Finished responses are graded while others are being generated. Of several ranks each samples and grades its share
    and gets all; ``on_done`` is told of this rank's as they finish.
    """
    mine = ranks.share(len(requests))
    prompts = [requests[i][0] for i in mine]
    waiting: dict[int, Future[Answer]] = {}

    def judge(completion: Completion, problem: Problem) -> Answer:
        text = decode_response(tokenizer, completion)
        return Answer(completion, text, grade(text, problem.answer, problem.form))

    with ThreadPoolExecutor(_GRADING_THREADS) as threads:
        for index, completion in engine.generate(prompts, sampling, seed, mine.start):
            waiting[index] = threads.submit(judge, completion, requests[mine[index]][1])
            on_done(mine[index], completion)
    return ranks.gather([waiting[i].result() for i in range(len(prompts))])


def sample_responses(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    seed: int,
    on_done: Callable[[int], None] = lambda more: None,
) -> list[list[Response]]:
    """``samples`` graded responses for each problem, in order; ``on_done`` is told how many more are done."""
    asked = [
        (tuple(encode_prompt(tokenizer, problem.question)), problem) for problem in problems for _ in range(samples)
    ]
    each = ranks.count()  # the others are about as far
    answers = answer(engine, tokenizer, asked, sampling, seed, lambda index, completion: on_done(each))
    ordered = [
        Response(problem, prompt_ids, done.completion, done.text, done.grade)
        for (prompt_ids, problem), done in zip(asked, answers, strict=True)
    ]
    return [ordered[i : i + samples] for i in range(0, len(ordered), samples)]
