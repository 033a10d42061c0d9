"""Several processes, one program: what ranks share, and what only the first of them does.

`torchrun` or `accelerate launch` starts the ranks, torch.distributed connects them; with one process everything here
is a plain call. All ranks go through the same stages in step. Each takes its share of what is sampled, graded and
computed, and gets everybody's results; the first alone writes the run folder, which all of them can read.

A rank that dies takes the others with it (its launcher sees to that and names it). A rank that hangs lets the next
thing that all do together fail after a time limit; the others then find out who is silent and say so. While the first
works alone, its progress is the sign that it does.

What it leaves out: launching, rendezvous, restarts on other nodes, transport. These are the launcher's and torch's.
"""

import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 15.0
"""How long ranks wait for a sign of life from each other once something that they do together has failed."""
_BEAT = "satori/beat"
_BEAT_SECONDS = 1.0
"""The least time between two signs of life, which may be asked for thousands of times a second."""
_alone: list[None] = []
"""As many as there are open :func:`alone`: of the process, so that its threads are alone too."""


@dataclass
class _Patience:
    """How long ranks wait for each other, and when this one last gave a sign of life."""

    limit_s: float = math.inf
    last_beat: float = -math.inf


_patience = _Patience()


class RankError(RuntimeError):
    """A rank hangs or is gone; the message names it."""


class ElsewhereError(RuntimeError):
    """The first rank failed in something that only it does, and says itself what happened."""


@contextmanager
def joined(timeout_s: float) -> Iterator[None]:
    """Connect to the other ranks that the launcher started, for as long as the context lasts.

    Collective operations fail after ``timeout_s`` without an answer, and :func:`first_does` as long after the first
    rank's last progress. Raises RankError naming the ranks that hang.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(seconds=timeout_s)
    )
    # Else, where a launcher asks for FSDP, transformers loads zeros on every rank but the first of a node: accelerate
    # would fill them in. We shard what was loaded.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    _patience.limit_s = timeout_s
    _store().set(f"satori/who/{index()}", f"rank {index()} ({socket.gethostname()}, process {os.getpid()})")
    try:
        yield
    except RuntimeError as error:
        if not is_collective_failure(error):
            raise
        raise RankError(_accuse(error, timeout_s)) from error
    dist.barrier()
    dist.destroy_process_group()


def count() -> int:
    """How many ranks there are; 1 within :func:`alone`."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def are_others_waiting() -> bool:
    """Whether this is :func:`alone` in a program of several ranks."""
    return dist.is_initialized() and dist.get_world_size() > count()


def index() -> int:
    """This rank's number, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def is_first() -> bool:
    return index() == 0


@contextmanager
def alone() -> Iterator[None]:
    """Do something as if there were no other ranks."""
    _alone.append(None)
    try:
        yield
    finally:
        _alone.pop()


def share(items: int) -> range:
    """The part of so many items that is this rank's: neighbours, as many as anybody's or one more."""
    ranks, rank = count(), index()
    return range(items * rank // ranks, items * (rank + 1) // ranks)


def gather(mine: Sequence[T]) -> list[T]:
    """Everybody's items, those of the first rank first, on every rank."""
    if count() == 1:
        return list(mine)
    parts: list[Any] = [None] * count()
    dist.all_gather_object(parts, list(mine))
    return [item for part in parts for item in part]


def total(numbers: dict[str, float]) -> dict[str, float]:
    """The sums of everybody's numbers, on every rank."""
    if count() == 1:
        return numbers
    parts = gather([numbers])
    return {name: sum(part[name] for part in parts) for name in numbers}


def meet(place: str) -> None:
    """Wait until every rank is here; ``place`` is what to say about a rank that never comes."""
    if count() > 1:
        _store().set(f"satori/at/{index()}", place)
        dist.barrier()


def first_does(work: Callable[[], T]) -> T:
    """What ``work`` returns, done by the first rank alone; the others wait as long as it gives signs of life.

    Raises there what ``work`` raised, and ElsewhereError on the others; RankError where the signs stay away.
    """
    if count() == 1:
        return work()
    store = _store()
    key = f"satori/first/{store.add(f'satori/turn/{index()}', 1)}"  # all ranks count the same turns
    result: list[Any] = [None]
    if is_first():
        try:
            with alone():
                result[0] = work()
        except BaseException:
            store.set(key, "failed")
            raise
        store.set(key, "done")
    else:
        _wait_for_the_first(store, key)
        if store.get(key) == b"failed":
            time.sleep(_ANSWER_SECONDS)  # the launcher ends all as soon as one ends: let the first say what happened
            raise ElsewhereError("the first rank failed")
    dist.broadcast_object_list(result)
    return result[0]


def sign_of_life() -> None:
    """Tell the ranks that wait for this one that its work goes on: a step of progress was made."""
    now = time.monotonic()
    if dist.is_initialized() and dist.get_rank() == 0 and now - _patience.last_beat > _BEAT_SECONDS:
        _patience.last_beat = now
        _store().add(_BEAT, 1)


def is_collective_failure(error: BaseException) -> bool:
    """Whether it was the connection to the other ranks that failed, and not this rank's own work."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _store() -> Any:
    """The key-value store that the launcher keeps; it answers also when ranks are gone."""
    return dist.distributed_c10d._get_default_store()


def _wait_for_the_first(store: Any, key: str) -> None:
    """Return once the first rank has set the key. Raises RankError where it makes no progress within the limit."""
    last, since = store.add(_BEAT, 0), time.monotonic()
    while not store.check([key]):
        time.sleep(_POLL_SECONDS)
        if (beat := store.add(_BEAT, 0)) != last:
            last, since = beat, time.monotonic()
        if time.monotonic() - since > _patience.limit_s:
            raise RankError(
                f"{_describe(0)} works alone and hangs or is gone: no progress {_within(_patience.limit_s)}"
            )


def _accuse(error: RuntimeError, timeout_s: float) -> str:
    """Ask the others for a sign of life; returns who gave none."""
    store, me = _store(), dist.get_rank()
    store.set(f"satori/alive/{me}", "yes")
    silent = [rank for rank in range(dist.get_world_size()) if rank != me]
    until = time.monotonic() + _ANSWER_SECONDS
    while silent and time.monotonic() < until:
        silent = [rank for rank in silent if not store.check([f"satori/alive/{rank}"])]
        time.sleep(_POLL_SECONDS)
    if not silent:
        return f"the ranks lost each other though all of them answer: {error}"
    named = ", ".join(_describe(rank) for rank in silent)
    return f"{named} hangs or is gone: no answer to the other ranks {_within(timeout_s)}"


def _within(limit_s: float) -> str:
    return f"within the limit of {limit_s:g} s (rank_timeout_s). The same command goes on from the last checkpoint."


def _describe(rank: int) -> str:
    store = _store()
    who = store.get(f"satori/who/{rank}").decode() if store.check([f"satori/who/{rank}"]) else f"rank {rank}"
    place = f", last seen at {store.get(key).decode()!r}" if store.check([key := f"satori/at/{rank}"]) else ""
    return who + place
