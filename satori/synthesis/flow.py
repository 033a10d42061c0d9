"""Many problems under way at once: in a sliding window, or in waves.

A problem is a coroutine that waits for its agents most of the time. With agents on servers, a window of so many
problems slides over the source: one that ends makes room for the next, so that the servers always have something to
do. With local models alone, problems go in waves, the next when the last has ended: only so are batches, and with them
samples, the same in every run (:mod:`satori.synthesis.batching`).

The source is read one problem at a time, when there is room for it. Whatever ends a flow, nothing is left running.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from satori.synthesis.batching import Batches

T = TypeVar("T")
R = TypeVar("R")


async def together(works: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """The results of coroutines that run side by side, in order. Where one fails, or this is cancelled, all others are
    cancelled and have ended when the error comes out."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _end(tasks)


async def flow(
    source: Iterator[T], work: Callable[[T], Coroutine[Any, Any, R]], in_flight: int
) -> AsyncGenerator[list[R], None]:
    """Keep ``in_flight`` of the source's items in work, and yield results as they come, in any order.

    An error of one ends all; the results that were there with it are yielded first.
    """
    running: set[asyncio.Task[R]] = set()
    try:
        while True:
            for item in islice(source, in_flight - len(running)):
                running.add(asyncio.create_task(work(item)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if finished := [task.result() for task in done if task.exception() is None]:
                yield finished
            for task in done:
                task.result()
    finally:
        await _end(running)


async def waves(
    source: Iterator[T], work: Callable[[T], Coroutine[Any, Any, R]], size: int, batches: Batches, first: int = 0
) -> AsyncGenerator[list[R], None]:
    """Work through a source ``size`` items at a time, and yield the results of each wave, in order.

    ``first`` is the number of the first wave: the waves before it are done, and their items not in the source.
    """
    number = first
    while items := list(islice(source, size)):
        batches.start_wave(number)
        yield await together(work(item) for item in items)
        number += 1


async def _end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
