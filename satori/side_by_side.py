"""Two pieces of work side by side on a CPU, each on half of the threads.

Small matrices gain little from a second thread (LOG.md), but two models that have nothing to do with each other can
compute at the same time, and so can two batches. On a GPU, and with several ranks, one comes after the other: a GPU is
busy with one already, and ranks that talk to each other must do so in one order.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from satori import ranks

A = TypeVar("A")
B = TypeVar("B")


def can_be_split(device: torch.device) -> bool:
    """Whether two pieces of work for this device would share its threads."""
    return device.type == "cpu" and ranks.count() == 1 and torch.get_num_threads() > 1


def both(one: Callable[[], A], other: Callable[[], B], device: torch.device) -> tuple[A, B]:
    """The results of two independent pieces of work for a device, both under the caller's autocast."""
    if not can_be_split(device):
        return one(), other()
    with half_the_threads(), ThreadPoolExecutor(1) as thread:
        future = thread.submit(_under_this_autocast(other, device.type))
        return one(), future.result()


def _under_this_autocast(work: Callable[[], B], device_type: str) -> Callable[[], B]:
    """Work for another thread, which would begin without autocast."""
    dtype, enabled = torch.get_autocast_dtype(device_type), torch.is_autocast_enabled(device_type)

    def run() -> B:
        with torch.autocast(device_type, dtype=dtype, enabled=enabled):
            return work()

    return run


@contextmanager
def half_the_threads() -> Iterator[None]:
    """PyTorch computes with half of its threads, in this thread and in those that start within."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
