"""Local models for agents that ask for one answer at a time: requests are gathered and answered in large batches.

A batch starts when nothing else in the process can go on without an answer: then every problem under way waits, and
the batch is as large as it can be. One batch runs at a time, in a thread of its own.

What a local model samples depends on the whole batch. Batches are therefore determined: which requests are in one does
not depend on the clock, they stand in an order of their own, and a batch's seed is derived from the run's seed, the
wave of problems and the number of the batch in it. The same problems in the same waves get the same answers.

What it leaves out: answers as they finish (the problem would go on while others still wait, and what it asks next
would come too late for their batch, or not, as the clock has it).
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from satori.config import derive_seed
from satori.engines.base import Engine, EngineError, Sampling
from satori.types import Completion

T = TypeVar("T")
R = TypeVar("R")

_QUIET_TURNS = 50
"""So many turns of the event loop without a new request, and nobody is going to ask. Any task that can go on does so
every turn, and the way from an answer through nested tasks to the next question is a few turns long. Were it longer,
batches would be smaller, but still the same in every run: without the clock and other threads turns are determined."""


class PromptTooLongError(EngineError):
    """A prompt that does not fit the model's context together with the tokens asked for."""


class GivenUpError(RuntimeError):
    """The run ends early: nobody waits for the batch any more."""


@dataclass(frozen=True)
class _Request:
    group: str
    place: tuple[Any, ...]
    item: Any
    run: Callable[[list[Any], int], list[Any]]
    answer: "asyncio.Future[Any]"


class Batches:
    """What local models are asked, batch by batch. Inside ``async with``."""

    def __init__(self, seed: int) -> None:
        self._seed, self._wave, self._number = seed, 0, 0
        self._waiting: list[_Request] = []
        self._arrivals = 0
        self._driver: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._out = 0
        self._nobody_out = asyncio.Event()
        self._nobody_out.set()

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="satori-batches")
        return self

    async def __aexit__(self, *error: object) -> None:
        """Ends after the batch that is running, which is cut short where it can be."""
        self._stopping.set()
        if self._driver is not None:
            await asyncio.wait({self._driver})
        self._thread.shutdown()

    def start_wave(self, number: int) -> None:
        """From here on the batches of another wave of problems; the last has ended."""
        assert not self._waiting, "problems of the last wave still wait"
        self._wave, self._number = number, 0

    async def ask(self, group: str, place: tuple[Any, ...], item: T, run: Callable[[list[T], int], Sequence[R]]) -> R:
        """The answer to an item, from one call ``run(items, seed)`` for all of the group that wait.

        ``place`` decides the item's place in its batch: different items must have different ones.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(group, place, item, run, future))  # type: ignore[arg-type]
        self._arrivals += 1
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
            self._driver.add_done_callback(self._pass_on_failure)
        return await future

    async def while_out(self, work: Awaitable[R]) -> R:
        """Wait for work in another thread: until it has come back no batch starts, however long the clock says."""
        self._out += 1
        self._nobody_out.clear()
        try:
            return await work
        finally:
            self._out -= 1
            if not self._out:
                self._nobody_out.set()

    def check_going_on(self) -> None:
        """Raise GivenUpError where the run ends early: for long work in the batches' thread."""
        if self._stopping.is_set():
            raise GivenUpError

    async def _drive(self) -> None:
        while self._waiting and not self._stopping.is_set():
            await self._until_quiet()
            if batch := self._take():
                seed = derive_seed(self._seed, "batch", self._wave, self._number)
                self._number += 1
                await self._answer(batch, seed)

    async def _until_quiet(self) -> None:
        quiet = 0
        while quiet < _QUIET_TURNS:
            await self._nobody_out.wait()
            before = self._arrivals
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._arrivals == before and not self._out else 0

    def _take(self) -> list[_Request]:
        """The largest group, in order. Those who asked and have been cancelled since are forgotten."""
        groups: dict[str, list[_Request]] = {}
        for request in self._waiting:
            if not request.answer.done():
                groups.setdefault(request.group, []).append(request)
        largest = max(sorted(groups), key=lambda name: len(groups[name]), default="")
        batch = groups.pop(largest, [])
        self._waiting = [request for group in groups.values() for request in group]
        return sorted(batch, key=lambda request: request.place)

    async def _answer(self, batch: list[_Request], seed: int) -> None:
        items = [request.item for request in batch]
        job = asyncio.get_running_loop().run_in_executor(self._thread, batch[0].run, items, seed)
        await asyncio.wait({job})
        error = job.exception()
        answers = [] if error else job.result()
        assert error or len(answers) == len(batch), f"{len(answers)} answers to {len(batch)} requests"
        for index, request in enumerate(batch):
            if request.answer.done():
                continue
            if error:
                request.answer.set_exception(error)
            else:
                request.answer.set_result(answers[index])

    def _pass_on_failure(self, driver: "asyncio.Task[None]") -> None:
        """Where the driver itself fails, nobody may wait for ever."""
        if not driver.cancelled() and (error := driver.exception()):
            for request in self._waiting:
                if not request.answer.done():
                    request.answer.set_exception(error)


class Batcher:
    """A local engine that is asked for one completion at a time."""

    def __init__(self, batches: Batches, engine: Engine, context_length: int | None = None, name: str = "") -> None:
        """``name`` tells engines apart where several answer: each has batches of its own."""
        self.batches, self.engine, self.context_length, self.name = batches, engine, context_length, name
        self.output_tokens = 0

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling, seed: int) -> Completion:
        """One sample. Requests for the same prompt with different seeds are different samples; what is sampled depends
        on the batch. Raises PromptTooLongError."""
        if self.context_length is not None and len(prompt_ids) + sampling.max_new_tokens > self.context_length:
            raise PromptTooLongError(
                f"a prompt of {len(prompt_ids)} tokens with max_new_tokens {sampling.max_new_tokens} does not fit the "
                f"model's context of {self.context_length}"
            )
        prompt = tuple(prompt_ids)
        completion = await self.batches.ask(
            f"{self.name} {sampling!r}",
            (prompt, seed),
            prompt,
            lambda prompts, seed: self._run(prompts, sampling, seed),
        )
        self.output_tokens += len(completion.token_ids)
        return completion

    def _run(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> list[Completion]:
        done: dict[int, Completion] = {}
        # A generator, so that what it holds is given back at once where the run is given up.
        with closing(iter(self.engine.generate(prompts, sampling, seed))) as completions:  # type: ignore[type-var]
            for index, completion in completions:
                self.batches.check_going_on()
                done[index] = completion
        return [done[i] for i in range(len(prompts))]
