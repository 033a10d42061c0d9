"""Worker processes for the symbolic work: a hard deadline per job, nothing delayed by a neighbour, nothing left behind.

Workers are started as fresh processes, never forked, so the pool works from any thread and beside CUDA. A worker that
overruns or dies is killed and replaced; the caller gets None for its job. After a fork the child makes its own pool.
"""

import atexit
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from satori.grading.forms import AnswerForm, AnswerKind

_GRACE = 0.25
"""Seconds that a worker has for being stopped by its own alarm, before the pool kills it."""
_START_SECONDS = 120.0


class WorkerError(RuntimeError):
    """A worker process cannot be started."""


class _Worker:
    """One process, used by one thread at a time."""

    def __init__(self, deadline: float, library: str) -> None:
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._deadline = deadline
        self._process = subprocess.Popen(
            [sys.executable, "-m", "satori.grading.worker", str(deadline), library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""},
        )
        self._rest = b""
        self.ready = False

    def ask(self, job: dict[str, object]) -> dict[str, object] | None:
        """The verdict on a job, or None where the process overran or died; it is unusable then."""
        if not self.ready:
            self.wait_until_ready()
        try:
            self._send(json.dumps(job).encode() + b"\n")
        except OSError:
            return None
        return self._read(time.monotonic() + self._deadline + _GRACE)

    def wait_until_ready(self) -> None:
        if self._read(time.monotonic() + _START_SECONDS) is None:
            self.kill()
            raise WorkerError(f"a grading worker did not start: exit status {self._process.returncode}")
        self.ready = True

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def forget(self) -> None:
        """Let go of the pipes of a process that belongs to the parent of this one."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.returncode = 0

    def _send(self, data: bytes) -> None:
        assert self._process.stdin
        view = memoryview(data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def _read(self, until: float) -> dict[str, object] | None:
        assert self._process.stdout
        descriptor = self._process.stdout.fileno()
        poller = select.poll()  # select() itself fails on descriptors above 1023
        poller.register(descriptor, select.POLLIN)
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                return None
            if not (chunk := os.read(descriptor, 1 << 16)):
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        verdict: dict[str, object] = json.loads(line)
        return verdict


class WorkerPool:
    """At most ``size`` workers of each library, started as they are needed."""

    def __init__(self, size: int, deadline: float) -> None:
        self.size = size
        self.deadline = deadline
        self._pid = os.getpid()
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._places = {library: queue.LifoQueue[_Worker | None]() for library in ("math-verify", "reasoning-gym")}
        for places in self._places.values():
            for _ in range(size):
                places.put(None)

    def ask(self, answer: str, gold: str, form: AnswerForm) -> dict[str, object] | None:
        """The verdict of a worker, or None where it overran the deadline or died. Blocks; call it from any thread.

        Raises WorkerError where no worker can be started.
        """
        library = "reasoning-gym" if form.kind is AnswerKind.TASK else "math-verify"
        places = self._places[library]
        worker = places.get()
        verdict = None
        try:
            if worker is None or not worker.is_alive():
                self._drop(worker)
                worker = self._start(library)
            verdict = worker.ask({"answer": answer, "gold": gold, "form": form.to_dict()})
        finally:
            if verdict is None:
                self._drop(worker)
                worker = None
            places.put(worker)
        return verdict

    def _start(self, library: str) -> _Worker:
        worker = _Worker(self.deadline, library)
        with self._lock:
            self._all.add(worker)
        return worker

    def _drop(self, worker: _Worker | None) -> None:
        if worker is not None:
            worker.kill()
            with self._lock:
                self._all.discard(worker)

    def close(self) -> None:
        """Kill every worker. In a forked child only its copies of the pipes are closed."""
        with self._lock:
            for worker in self._all:
                if os.getpid() == self._pid:
                    worker.kill()
                else:
                    worker.forget()
            self._all.clear()


_pools: dict[float, WorkerPool] = {}
_pools_lock = threading.Lock()


def pool(deadline: float) -> WorkerPool:
    """This process's pool for a deadline in seconds."""
    with _pools_lock:
        if deadline not in _pools:
            _pools[deadline] = WorkerPool(os.cpu_count() or 1, deadline)
        return _pools[deadline]


def close_pools() -> None:
    """Kill all workers of this process; the next symbolic job starts new ones."""
    for old in _pools.values():
        old.close()
    _pools.clear()


def _in_child() -> None:
    global _pools_lock
    _pools_lock = threading.Lock()
    for old in _pools.values():
        old._lock = threading.Lock()
    close_pools()


atexit.register(close_pools)
os.register_at_fork(after_in_child=_in_child)
