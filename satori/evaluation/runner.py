"""A model over sets of problems: every response graded and saved as it is finished, so that nothing is done twice.

Responses are appended to a JSON-lines file; after an interruption the same call goes on with those that are missing,
and the finished file is put in the order of the problems, so it does not show where it was interrupted. Greedy
responses depend on their prompt alone. Sampled ones depend on the chunk that they are drawn in: a chunk that misses
one is drawn again as a whole, and what was saved of it stays.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from satori import ranks
from satori.coat import encode_prompt
from satori.config import derive_seed
from satori.engines.base import Engine, Sampling
from satori.evaluation.records import EvaluatedResponse, from_row, to_row
from satori.grading import grade, grade_all
from satori.run_folder import ArtifactError, append_jsonl, drop_cut_line, read_jsonl, write_jsonl
from satori.sampling import decode_response
from satori.types import Completion, FinishReason, Problem

_CHUNK = 2048
_GRADING_THREADS = 4

Key = tuple[str, str, int]
"""Set, problem id, sample."""


@dataclass(frozen=True)
class Asked:
    """One response that is wanted."""

    set_name: str
    problem: Problem
    sample: int

    @property
    def key(self) -> Key:
        return self.set_name, self.problem.id, self.sample


def respond(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[tuple[str, Problem]],
    samples: int,
    sampling: Sampling,
    seed: int,
    path: Path,
    on_done: Callable[[int], None] = lambda newly: None,
) -> list[EvaluatedResponse]:
    """``samples`` responses to each (set name, problem), graded, in order; ``path`` holds what is done so far.

    ``on_done`` is told how many more are done, of several ranks by this one; first, how many were saved before. A
    prompt that leaves no room for a response is not asked: it gets an empty unfinished one. Raises ArtifactError for a
    broken file.
    """
    wanted = [Asked(name, problem, sample) for name, problem in problems for sample in range(samples)]
    saved = ranks.first_does(lambda: {record_key(record): record for record in recover_all(path)})
    before, own = set(saved), path if ranks.is_first() else path.with_suffix(f".{ranks.index()}.part")
    if strange := sorted(saved.keys() - {asked.key for asked in wanted}):
        raise ArtifactError(f"{path} has a response to {strange[0]}, which is not asked for; use another folder")
    on_done(len(saved))
    graded: list[Future[EvaluatedResponse]] = []
    with ThreadPoolExecutor(_GRADING_THREADS) as threads:
        try:
            for asked, completion in _completions(engine, tokenizer, wanted, set(saved), sampling, seed):
                graded.append(threads.submit(evaluate, tokenizer, asked, completion))
                graded = _save_finished(graded, own, saved, on_done, wait=False)
        finally:  # also when interrupted: what is generated is kept
            _save_finished(graded, own, saved, on_done, wait=True)
    saved |= {record_key(record): record for record in ranks.gather([r for k, r in saved.items() if k not in before])}
    ordered = [saved[asked.key] for asked in wanted]
    write_jsonl(path, map(to_row, ordered))
    own.unlink() if own != path and own.exists() else None
    return ordered


def _completions(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    wanted: Sequence[Asked],
    saved: set[Key],
    sampling: Sampling,
    seed: int,
) -> Iterator[tuple[Asked, Completion]]:
    """This rank's completions of what is not saved yet, as they finish."""
    greedy = sampling.temperature == 0
    size = len(wanted) if greedy else _CHUNK
    for number, start in enumerate(range(0, len(wanted), max(1, size))):
        chunk = wanted[start : start + size]
        if all(asked.key in saved for asked in chunk):
            continue
        chunk = [asked for asked in chunk if not greedy or asked.key not in saved]
        prompts = [encode_prompt(tokenizer, asked.problem.question) for asked in chunk]
        fitting = [i for i, prompt in enumerate(prompts) if sampling.room(prompt) > 0]
        for i in sorted(set(range(len(chunk))) - set(fitting)):
            if chunk[i].key not in saved:
                yield chunk[i], Completion((), FinishReason.LENGTH)
        mine = ranks.share(len(fitting))
        shared = [fitting[i] for i in mine]
        for i, completion in engine.generate(
            [prompts[i] for i in shared], sampling, derive_seed(seed, "responses", number), mine.start
        ):
            if chunk[shared[i]].key not in saved:
                yield chunk[shared[i]], completion


def _save_finished(
    graded: list[Future[EvaluatedResponse]],
    path: Path,
    saved: dict[Key, EvaluatedResponse],
    on_done: Callable[[int], None],
    wait: bool,
) -> list[Future[EvaluatedResponse]]:
    """Append what is graded to the file; returns what is not."""
    left = []
    for future in graded:
        if wait or future.done():
            record = future.result()
            with ranks.alone():  # each rank has a file of its own
                append_jsonl(path, to_row(record))
            saved[record_key(record)] = record
            on_done(1)
        else:
            left.append(future)
    return left


def evaluate(tokenizer: PreTrainedTokenizerBase, asked: Asked, completion: Completion) -> EvaluatedResponse:
    """The record of one completion."""
    problem, text = asked.problem, decode_response(tokenizer, completion)
    result = grade(text, problem.answer, problem.form)
    plain = tokenizer.encode("\n".join(problem.solution), add_special_tokens=False)
    return EvaluatedResponse(
        problem_id=problem.id,
        set_name=asked.set_name,
        level=problem.level,
        question=problem.question,
        gold=problem.answer,
        form=problem.form,
        sample=asked.sample,
        response=text,
        tokens=len(completion.token_ids),
        finished=completion.finish_reason is FinishReason.STOP,
        status=result.status,
        answers=result.answers,
        found=result.found,
        plain_tokens=len(plain) + 1 if problem.solution else 0,
    )


def record_key(record: EvaluatedResponse) -> Key:
    return record.set_name, record.problem_id, record.sample


def read_responses(path: Path) -> list[EvaluatedResponse]:
    """The responses of a file. Raises ArtifactError naming the file, line and key of what cannot be read."""
    records = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            records.append(from_row(row))
        except ValueError as error:
            raise ArtifactError(f"{path}, line {number}: {error}") from error
    return records


def recover(path: Path) -> list[EvaluatedResponse]:
    """The responses of a file that may not exist, and whose last line may have been cut off: that line is dropped."""
    if not path.exists():
        return []
    drop_cut_line(path)
    return read_responses(path)


def recover_all(path: Path) -> list[EvaluatedResponse]:
    """The responses of a file, and those that other ranks of an interrupted run left beside it."""
    parts = sorted(path.parent.glob(f"{path.stem}.*.part"))
    records = [record for part in (path, *parts) for record in recover(part)]
    if parts:
        write_jsonl(path, map(to_row, records))
        for part in parts:
            part.unlink()
    return records


def regrade(records: Sequence[EvaluatedResponse]) -> list[EvaluatedResponse]:
    """The same responses graded again; the model is not needed."""
    results = grade_all((record.response, record.gold, record.form) for record in records)
    return [
        replace(record, status=result.status, answers=result.answers, found=result.found)
        for record, result in zip(records, results, strict=True)
    ]
