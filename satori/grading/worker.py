"""A grading worker: one process that does the symbolic work and may be killed at any moment.

Jobs come as JSON lines on standard input, verdicts go as JSON lines to standard output. The kernel ends the process
when a job overruns its deadline (an alarm without a handler, which no computation can hold up), and it ends itself when
the parent is gone.
"""

import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from satori.grading.equivalence import UnreadableGoldError, equivalent
from satori.grading.forms import AnswerForm, AnswerKind
from satori.grading.symbolic import symbolic_atoms

_MEMORY_BYTES = 3 << 30
_LOOK_EVERY = 1.0
"""Seconds between looks at whether the parent still lives."""


def main(deadline: float) -> None:
    """Serve jobs until standard input ends or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    memory = _MEMORY_BYTES if most == resource.RLIM_INFINITY else min(most, _MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    jobs, verdicts = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)
    os.dup2(2, 1)  # whatever a library prints stays out of the verdicts
    parent = os.getppid()
    _say(verdicts, {"ready": True})
    waiting = b""
    while True:
        while b"\n" not in waiting:
            if select.select([jobs], [], [], _LOOK_EVERY)[0]:
                if not (chunk := jobs.read(1 << 16)):
                    return
                waiting += chunk
            elif os.getppid() != parent:
                return
        line, _, waiting = waiting.partition(b"\n")
        signal.setitimer(signal.ITIMER_REAL, deadline)
        verdict = work(json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(verdicts, verdict)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """The verdict on one job. A job too large for the memory ends the process."""
    form = AnswerForm.from_dict(job["form"])
    try:
        if form.kind is AnswerKind.TASK:
            return {"equal": _task_score(job["answer"], form) >= 1}
        return {"equal": bool(equivalent(job["answer"], job["gold"], form, symbolic_atoms))}
    except UnreadableGoldError:
        return {"unparseable": True}
    except MemoryError:
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - whatever a library raises on a strange answer, the answer is not equal
        return {"equal": False, "error": f"{type(error).__name__}: {error}"[:200]}


def _task_score(answer: str, form: AnswerForm) -> float:
    import reasoning_gym

    score: Callable[..., float] = reasoning_gym.get_score_answer_fn(form.task)
    return float(score(answer, json.loads(form.entry)))


def _say(verdicts: int, message: dict[str, Any]) -> None:
    os.write(verdicts, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    if sys.argv[2:] == ["reasoning-gym"]:
        import reasoning_gym  # noqa: F401 - before the first deadline runs
    main(float(sys.argv[1]))
