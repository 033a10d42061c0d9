"""Sampling a policy on problems, several responses each, graded: pairs, restarts, distillation and RM@8 start here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from satori import ranks
from satori.coat import encode_prompt
from satori.engines.base import Engine, Sampling
from satori.grading import Grade, grade
from satori.run_folder import read_jsonl, write_jsonl
from satori.scoring import Tokens
from satori.types import Completion, FinishReason, Problem

CHUNK = 16_384
"""Responses that are in memory at a time where many are sampled."""
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
    first: int = 0,
) -> list[Answer]:
    """A graded response to each (prompt, problem), in order; ``first`` is the number of the first among all that are
    asked for with this seed.

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
        for index, completion in engine.generate(prompts, sampling, seed, first + mine.start):
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
    first: int = 0,
) -> list[list[Response]]:
    """``samples`` graded responses for each problem, in order; ``on_done`` is told how many more are done."""
    asked = [
        (tuple(encode_prompt(tokenizer, problem.question)), problem) for problem in problems for _ in range(samples)
    ]
    each = ranks.count()  # the others are about as far
    answers = answer(engine, tokenizer, asked, sampling, seed, lambda index, completion: on_done(each), first)
    ordered = [
        Response(problem, prompt_ids, done.completion, done.text, done.grade)
        for (prompt_ids, problem), done in zip(asked, answers, strict=True)
    ]
    return [ordered[i : i + samples] for i in range(0, len(ordered), samples)]


def sample_records(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    seed: int,
    describe: Callable[[Sequence[Response]], Iterable[dict[str, Any]]],
    folder: Path,
    on_done: Callable[[int], None] = lambda more: None,
) -> Iterator[dict[str, Any]]:
    """What ``describe`` makes of the ``samples`` responses to each problem, in order, read back from ``folder``.

    Sampled and written a chunk of problems at a time, so that neither memory nor what an interruption costs grows with
    their number: the same call goes on with the chunk that is missing, and comes to the same records.
    """
    size, parts = max(1, CHUNK // samples), []
    if ranks.is_first():
        folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(problems), size):
        chunk, part = problems[start : start + size], folder / f"from-{start:09d}.jsonl"
        parts.append(part)
        if ranks.first_does(part.exists):  # what one rank sees on a shared file system another may not see yet
            on_done(len(chunk) * samples)
            continue
        groups = sample_responses(engine, tokenizer, chunk, samples, sampling, seed, on_done, start * samples)
        write_jsonl(part, (record for responses in groups for record in describe(responses)))
    return (record for part in parts for record in read_jsonl(part))
