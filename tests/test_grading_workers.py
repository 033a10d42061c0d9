"""Hostile answers and the worker processes (satori.grading.pool): deadlines, deaths, threads, forks, nothing left."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from satori.grading import AnswerForm, AnswerKind, Status, close_pools, grade, grade_all
from satori.grading.pool import WorkerPool, pool

LATEX = AnswerForm(AnswerKind.LATEX)
KINDS = (
    AnswerForm(),
    LATEX,
    AnswerForm(AnswerKind.LATEX, multiple=True),
    AnswerForm(AnswerKind.CHOICE),
    AnswerForm(AnswerKind.LABEL, labels=("True", "False")),
    AnswerForm(AnswerKind.LITERAL),
    AnswerForm(AnswerKind.CELL),
)
GOLDS = {AnswerKind.CHOICE: "C", AnswerKind.LABEL: "True", AnswerKind.LITERAL: "'3'"}
SLOW = r"\boxed{x \leq (a+b+c+d)^{60}}"
"""Nothing refuses this before the symbolic comparison, which does not come back."""
SLOW_GOLD = r"x \leq (a+b)^{60}"
HOSTILE = {
    "tower of powers": r"\boxed{9^{9^{9^{9}}}}",
    "tower without braces": r"\boxed{9^9^9^9}",
    "powers of powers": r"\boxed{(((9^{9999})^{9999})^{9999})^{9999}}",
    "factorials": r"\boxed{3!!!!!!!!}",
    "large factorial": r"\boxed{(10^{10})!}",
    "large binomial": r"\boxed{\binom{10^{12}}{5^{17}}}",
    "endless sum": r"\boxed{\sum_{n=1}^{10^{100}} n^{n}}",
    "expansion": r"\boxed{(a+b+c+d+f)^{99999}}",
    "expansion of a relation": r"\boxed{x \leq (a+b)^{15}(c+d+f)^{15}(g+h+k)^{15}}",
    "a million nested braces": "\\boxed{" + "{" * 1_000_000 + "3" + "}" * 1_000_000 + "}",
    "a million open braces": "\\boxed{3}" + "{" * 1_000_000 + "\\boxed{4}",
    "a million brackets": "\\boxed{" + "(" * 1_000_000,
    "deep brackets": "\\boxed{" + "(" * 900 + "3" + ")" * 900 + "}",
    "deep fractions": "\\boxed{" + r"\frac{1}{" * 190 + "3" + "}" * 190 + "}",
    "a megabyte of digits": "\\boxed{" + "3" * 1_000_000 + "}",
    "digits after an answer": "\\boxed{4}" + "3" * 1_000_000,
    "null bytes": "\\boxed{3\0}",
    "lone surrogate": "\\boxed{3\ud800}",
    "right-to-left": "\\boxed{\u202e3}",
    "full-width digit": "\\boxed{３}",
    "arabic digit": "\\boxed{٣}",
    "never closed": "\\boxed{3",
    "thousands of boxes": "\\boxed{3}" * 20_000 + "\\boxed{4}",
    "thousands of open boxes": "\\boxed{" * 100_000 + "3",
    "every candidate": "\\boxed{1, 2, 3, 4, 5, 6, 7, 8, 9, A, B, C, True, False}",
    "every candidate in words": "\\boxed{1 or 2 or 3}",
    "gold in a longer number": "\\boxed{1333}",
    "redefined command": r"\def\frac#1#2{3}\boxed{\frac{1}{2}}",
    "redefined in the box": r"\boxed{\renewcommand{\pi}{3}\pi}",
    "let": r"\boxed{\let\pi=3 \pi}",
    "input": r"\boxed{\input{/etc/passwd}}",
    "code": "\\boxed{__import__('os').system('echo 3')}",
    "whitespace": "\\boxed{" + " " * 1_000_000 + "}",
    "answer is, for ever": "the answer is " * 70_000,
    "hashes": "#### " * 200_000,
    "backslashes": "\\boxed{" + "\\" * 100_000 + "}",
    "carets": "\\boxed{3" + "^" * 1500 + "}",
    "minus signs": "\\boxed{" + "-" * 1501 + "3}",
    "commas": "\\boxed{" + "3," * 900 + "}",
    "empty box": r"\boxed{}",
    "empty": "",
}


@pytest.fixture(scope="module")
def started_workers():
    """A worker takes a second or three to start on a busy machine; that is not the answer's time."""
    grade("\\boxed{x \\leq a}", "a \\geq x", LATEX)


@pytest.mark.usefixtures("started_workers")
@pytest.mark.parametrize("form", KINDS, ids=lambda form: f"{form.kind}{'*' * form.multiple}")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_not_right_and_take_no_time(name, form):
    result = grade(HOSTILE[name], GOLDS.get(form.kind, "3"), form)
    assert result.status in (Status.WRONG, Status.NO_ANSWER)
    assert result.seconds < 2.5


def test_a_slow_answer_times_out_and_does_not_delay_the_others():
    start = time.monotonic()
    grade("\\boxed{x \\leq a}", "a \\geq x", LATEX, deadline=1.0)  # starts a worker
    started = time.monotonic() - start
    responses = [(SLOW, SLOW_GOLD, LATEX)] + [(f"\\boxed{{x \\leq {n}}}", f"{n} \\geq x", LATEX) for n in range(12)]
    start = time.monotonic()
    grades = grade_all(responses, deadline=1.0)
    assert [g.status for g in grades] == [Status.TIMED_OUT] + [Status.CORRECT] * 12
    assert grades[0].seconds < 2.0 + started
    assert time.monotonic() - start < 3.0 + 2 * started


def test_a_worker_that_dies_is_replaced():
    workers = WorkerPool(1, deadline=1.0)
    try:
        assert workers.ask("x + 1", "1 + x", LATEX) == {"equal": True}
        [worker] = workers._all
        worker._process.send_signal(signal.SIGKILL)
        worker._process.wait()
        assert workers.ask("x + 2", "2 + x", LATEX) == {"equal": True}
        assert workers.ask("x \\leq (a+b+c+d)^{60}", SLOW_GOLD, LATEX) is None
        assert workers.ask("x + 3", "3 + x", LATEX) == {"equal": True}
        assert len(workers._all) == 1
    finally:
        workers.close()


def test_grading_works_from_many_threads():
    found = {}

    def work(n):
        found[n] = grade(f"\\boxed{{x^{{2}} - {n * n}}}", f"(x - {n})(x + {n})", LATEX).status

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(1, 9), Status.CORRECT)


def test_a_forked_child_has_workers_of_its_own():
    assert grade("\\boxed{x+41}", "41+x", LATEX).correct
    child = os.fork()
    if child == 0:
        right = grade("\\boxed{x+42}", "42+x", LATEX).correct
        close_pools()
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert grade("\\boxed{x+43}", "43+x", LATEX).correct


def test_identical_pairs_are_graded_once(monkeypatch):
    asked = []
    real = WorkerPool.ask
    monkeypatch.setattr(WorkerPool, "ask", lambda self, *pair: asked.append(pair) or real(self, *pair))
    grades = grade_all([("\\boxed{(x+77)^2}", "x^2+154x+5929", LATEX)] * 50)
    again = grade("\\boxed{(x+77)^2}", "x^2+154x+5929", LATEX)
    assert all(g.correct for g in [*grades, again])
    assert len(asked) == 1


SCRIPT = """
    import sys, threading, time
    from satori.grading import AnswerForm, AnswerKind, grade
    from satori.grading.pool import pool
    LATEX = AnswerForm(AnswerKind.LATEX)
    grade("\\\\boxed{x+1}", "1+x", LATEX, deadline=2.0)
    slow = r"\\boxed{x \\leq (a+b+c+d)^{60}}", r"x \\leq (a+b)^{60}", LATEX, 2.0
    threading.Thread(target=grade, args=slow, daemon=True).start()
    time.sleep(0.3)
    print(*(w._process.pid for w in pool(2.0)._all), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("ending", ["kill -9", "exit"])
def test_no_process_is_left_behind(ending):
    """Busy workers and idle ones end with their parent, however it ends."""
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin and parent.stdout
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers and all(Path(f"/proc/{pid}").exists() for pid in workers)
    if ending == "exit":
        parent.stdin.write("\n")
        parent.stdin.close()
    else:
        parent.kill()
    parent.wait()
    until = time.monotonic() + 6
    while any(_runs(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in workers if _runs(pid)]


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_pools_are_kept_by_deadline():
    assert pool(1.0) is pool(1.0)
    assert pool(1.0) is not pool(2.0)
