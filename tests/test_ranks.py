"""Several ranks under torchrun and accelerate: the numbers of one rank, and clear ends when one dies or hangs."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from rank_checks import fine_tuned
from safetensors.torch import load_file, save_file
from small_run import SMALL

from satori import ranks
from satori.cli import main
from satori.progress import Display
from satori.run_folder import ArtifactError, read_jsonl
from satori.scoring import by_length, dealt_out
from satori.training import OptimizerSettings, batch_size, largest_divisor

BEFORE_RL = ("base", "synthesis", "format_tuned", "reward_model", "restarts")
BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
TORCHRUN = (str(BIN / "torchrun"), "--nproc-per-node")
ACCELERATE = (str(BIN / "accelerate"), "launch", "--cpu", "--num_machines", "1", "--num_processes")
PORTS = {
    TORCHRUN: ("--rdzv-backend", "c10d", "--rdzv-endpoint=localhost:0"),
    ACCELERATE: ("--main_process_port", "29511"),
}


def command(launcher: tuple[str, ...], count: int, arguments: list[str]) -> list[str]:
    return [*launcher, str(count), *PORTS[launcher], *arguments]


def overrides(**changes: object) -> list[str]:
    settings = SMALL | {"rank_timeout_s": 100, **changes}
    return [part for key, value in settings.items() for part in (f"--{key}", str(value))]


def rl(out: Path, **changes: object) -> list[str]:
    return ["-m", "satori.cli", "rl", "--recipe", "tiny", "--out", str(out), *overrides(**changes)]


def started(count: int, arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        return subprocess.Popen(command(TORCHRUN, count, arguments), env=ENVIRONMENT, stdout=output, stderr=output)


def launched(launcher: tuple[str, ...], count: int, arguments: list[str]) -> str:
    done = subprocess.run(
        command(launcher, count, arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def copy_of(run: Path, to: Path, *stages: str) -> Path:
    for name in stages:
        shutil.copytree(run / name, to / name)
    return to


def assert_same_model(one: Path, other: Path, tolerance: float) -> None:
    ours, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=tolerance, rtol=0)


def assert_same_metrics(one: Path, other: Path) -> None:
    """The same numbers for every step, but for times and what a trainer tells of one rank alone."""
    for row, same in zip(read_jsonl(one / "metrics.jsonl"), read_jsonl(other / "metrics.jsonl"), strict=True):
        for name in row.keys() & same.keys() - {"seconds", "total_flos"}:
            if not name.startswith("train_"):
                assert row[name] == pytest.approx(same[name], rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("lengths", [[], [5], [9, 1, 4, 4, 7, 3, 3, 8], list(range(1, 40))])
def test_every_rank_gets_as_many_batches_and_every_sequence_is_dealt_once(lengths, count):
    hands = dealt_out(lengths, 32, count)
    assert len(hands) == count
    assert len({len(hand) for hand in hands}) == 1
    assert sorted(i for hand in hands for batch in hand for i in batch) == list(range(len(lengths)))
    for batch in (batch for hand in hands for batch in hand if len(batch) > 1):
        assert max(lengths[i] for i in batch) * len(batch) <= 32
    if count == 1:
        assert hands[0] == by_length(lengths, 32)


def test_batches_of_a_round_are_of_about_the_same_size():
    lengths = [1 + 13 * i % 97 for i in range(400)]
    rounds = zip(*dealt_out(lengths, 256, 4), strict=True)
    for batches in list(rounds)[1:-1]:
        sizes = [max(lengths[i] for i in batch) * len(batch) for batch in batches]
        assert max(sizes) <= 2.5 * min(sizes)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr("satori.ranks.count", lambda: 3)
    settings = OptimizerSettings(learning_rate=1, batch_size=8)
    with pytest.raises(ArtifactError, match="batch_size is 8: 3 ranks"):
        batch_size(settings, 100)
    assert batch_size(OptimizerSettings(learning_rate=1, batch_size=9), 8) == 6
    with pytest.raises(ArtifactError, match="2 examples are too few"):
        batch_size(OptimizerSettings(learning_rate=1, batch_size=9), 2)
    assert [largest_divisor(12, limit) for limit in (1, 5, 12, 100)] == [1, 4, 12, 12]


def test_what_must_hold_on_every_rank(tmp_path):
    """Among it that fine-tuning, cut off after an epoch, goes on on more or fewer ranks, sharded or not."""
    expected = fine_tuned(tmp_path / "one")
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, tmp_path / "one.safetensors")
    for copy in ("from_one", "from_one_sharded"):
        without_the_last_epoch(shutil.copytree(tmp_path / "one", tmp_path / copy))
    checks = [str(Path(__file__).parent / "rank_checks.py"), str(tmp_path)]
    assert launched(TORCHRUN, 2, checks).count("all holds") == 2
    for folder in (tmp_path / "two", tmp_path / "sharded"):
        without_the_last_epoch(folder)
        for name, tensor in fine_tuned(folder, start_from=0.5).items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-3)


def without_the_last_epoch(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
    assert (folder / "checkpoints" / "checkpoint-2").exists()


class _Store(dict):
    """The launcher's key-value store."""

    def check(self, keys):
        return all(key in self for key in keys)

    def add(self, key, amount):
        self[key] = self.get(key, 0) + amount
        return self[key]


@pytest.fixture
def second_rank(monkeypatch):
    """This process is the second of two; returns the store."""
    store = _Store({"satori/who/0": b"rank 0 (node, process 7)"})
    monkeypatch.setattr(ranks, "count", lambda: 2)
    monkeypatch.setattr(ranks, "index", lambda: 1)
    monkeypatch.setattr(ranks, "_store", lambda: store)
    monkeypatch.setattr(ranks, "_patience", ranks._Patience(limit_s=0.4))
    return store


def test_a_first_rank_that_makes_no_progress_alone_is_named(second_rank):
    with pytest.raises(ranks.RankError, match=r"rank 0 \(node, process 7\) works alone and hangs .* limit of 0.4 s"):
        ranks.first_does(lambda: None)


def test_a_first_rank_that_makes_progress_is_waited_for(second_rank, monkeypatch):
    monkeypatch.setattr(dist, "broadcast_object_list", lambda objects: objects.__setitem__(0, "done"))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(ranks, "_BEAT_SECONDS", 0.0)

    def work():
        with Display(quiet=True) as display:
            task = display.task("synthesis")
            for _ in range(10):
                time.sleep(0.1)
                task.advance()
        second_rank["satori/first/1"] = b"done"

    first = threading.Thread(target=work)
    first.start()
    assert ranks.first_does(lambda: None) == "done"
    first.join()


@pytest.mark.parametrize(("launcher", "count"), [(ACCELERATE, 2), (TORCHRUN, 4)])
def test_the_whole_method_has_the_numbers_of_one_rank(finished, tmp_path, launcher, count):
    launched(launcher, count, ["-m", "satori.cli", "run", "tiny", "--out", str(tmp_path), *overrides()])
    for name in ("synthesis/demonstrations.jsonl", "reward_model/pairs.jsonl", "restarts/buffer.jsonl"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
    for stage in ("format_tuned", "reward_model", "rl_1", "distilled", "rl_2"):
        assert_same_model(tmp_path / stage, finished / stage, 2e-4)
        assert_same_metrics(tmp_path / stage, finished / stage)
    assert not list(tmp_path.glob("evaluation/*.part"))
    assert (tmp_path / "report.html").exists()


def test_a_hanging_rank_is_named_and_another_number_of_ranks_goes_on(finished, tmp_path):
    out = copy_of(finished, tmp_path / "hung", *BEFORE_RL)
    whole = copy_of(finished, tmp_path / "whole", *BEFORE_RL)
    steps = {"rl.steps": 4, "rank_timeout_s": 5}
    run = started(2, rl(out, **steps), tmp_path / "log")
    wait_until(lambda: list(out.glob(".partial/rl_1/checkpoints/step-00000[23]")))
    hung = process_of_rank(1, run.pid)
    os.kill(hung, signal.SIGSTOP)
    wait_until(lambda: "hangs or is gone" in (tmp_path / "log").read_text(), seconds=60)
    said = (tmp_path / "log").read_text()
    assert "satori: rank 1 (" in said
    assert "rank 0 (" not in said
    os.kill(hung, signal.SIGKILL)  # as the launcher does after its 30 seconds of patience
    assert run.wait(60) != 0
    launched(TORCHRUN, 3, rl(out, **steps | {"rank_timeout_s": 100}))
    assert main(rl(whole, **steps)[2:]) == 0
    assert_same_metrics(out / "rl_1", whole / "rl_1")


def test_a_dead_rank_ends_the_run_and_is_named(finished, tmp_path):
    out = copy_of(finished, tmp_path / "dead", *BEFORE_RL)
    run = started(2, rl(out, **{"rl.steps": 50}), tmp_path / "log")
    wait_until(lambda: list(out.glob(".partial/rl_1/checkpoints/step-000002")))
    dead = process_of_rank(1, run.pid)
    os.kill(dead, signal.SIGKILL)
    assert run.wait(60) != 0
    said = (tmp_path / "log").read_text()
    assert "exitcode  : -9" in said
    assert f"received by PID {dead}" in said


def wait_until(holds: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def process_of_rank(rank: int, launcher: int) -> int:
    """The process that a launcher started as this rank."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process of rank {rank}")
