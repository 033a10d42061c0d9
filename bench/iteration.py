"""Where the time of one PPO iteration goes, phase by phase: the public functions of each phase, timed from outside.

An iteration here has everything that a run's has: sampling, grading, a reward model, a critic. ``busy cores`` is
processor time of this process over wall time; grading's worker processes are not in it. What goes on in a thread
beside a phase (grading beside generation, values beside log-probabilities) is told apart.
"""

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from bench.measuring import Results, settle
from bench.subject import Size, Subject
from bench.training import OurTraining

PHASES = {
    "generation": ("satori.reinforcement.rollouts:answer",),
    "grading": ("satori.sampling:decode_response", "satori.sampling:grade"),
    "scoring": ("satori.reinforcement.rollouts:reward_logits",),
    "log-probabilities": ("satori.reinforcement.ppo:token_logprobs",),
    "values": ("satori.reinforcement.ppo:response_values",),
    "update": ("satori.reinforcement.ppo:update",),
    "sync": ("satori.engines.torch_engine:TorchEngine.update_weights", "satori.engines.torch_engine:TorchEngine.sleep"),
}
"""The functions of each phase, by the names that their callers know them by."""
REST = "idle and the rest"


def measure(subject: Subject, size: Size) -> Results:
    """Mean seconds, share and busy cores of each phase over the runs, after one iteration to warm up."""
    training = OurTraining(subject, size, "gae")
    training.reward_model = subject.critic()
    training.iterate()
    clock = PhaseClock()
    with clock.watching(PHASES):
        for _ in range(size.runs):
            with clock.phase(REST):
                training.iterate()
    total = sum(clock.wall.values())
    phases = {
        name: {
            "seconds": clock.wall.get(name, 0.0) / size.runs,
            "share": clock.wall.get(name, 0.0) / total,
            "beside_seconds": clock.beside.get(name, 0.0) / size.runs,
            "busy_cores": clock.processor.get(name, 0.0) / max(clock.wall.get(name, 0.0), 1e-9),
        }
        for name in (*PHASES, REST)
    }
    return Results(phases=phases)


class PhaseClock:
    """Wall and processor seconds by phase. A phase inside another one stops the outer one's clock."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self.beside: dict[str, float] = {}
        """Seconds in other threads than the main one."""
        self._lock = threading.Lock()
        self._open: list[str] = []
        self._since = (0.0, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        """Give the time since the last change to the phase that was open."""
        settle()
        now = time.perf_counter(), time.process_time()
        if self._open:
            name = self._open[-1]
            self.wall[name] = self.wall.get(name, 0.0) + now[0] - self._since[0]
            self.processor[name] = self.processor.get(name, 0.0) + now[1] - self._since[1]
        self._since = now

    @contextmanager
    def watching(self, phases: dict[str, tuple[str, ...]]) -> Iterator[None]:
        """Time these functions wherever their callers look them up. Raises AttributeError for one that is gone."""
        with ExitStack() as stack:
            for phase, places in phases.items():
                for place in places:
                    owner, name = _find(place)
                    stack.enter_context(mock.patch.object(owner, name, self._timed(getattr(owner, name), phase)))
            yield

    def _timed(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                with self.phase(phase):
                    return function(*args, **kwargs)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.beside[phase] = self.beside.get(phase, 0.0) + time.perf_counter() - started

        return timed


def _find(place: str) -> tuple[Any, str]:
    """``module:name`` or ``module:Class.name`` as its owner and its name there."""
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name
