"""Reinforcement learning killed at random moments: nothing lost, nothing half read, the same bits in the end."""

import random
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_run import SMALL, run

from satori.cli import main
from satori.reinforcement import stage
from satori.run_folder import append_jsonl, forget_after, read_jsonl
from satori.sharding import save_state

KILLS, STEPS = 20, 5


def arguments(out: Path) -> list[str]:
    settings = SMALL | {"rl.steps": STEPS, "rl.validate_every": 2, "rl.max_new_tokens": 24}
    return [
        "rl",
        "--recipe",
        "tiny",
        "--out",
        str(out),
        *(part for k, v in settings.items() for part in (f"--{k}", f"{v}")),
    ]


@pytest.fixture
def before_rl(finished, tmp_path):
    """A run folder with everything that reinforcement learning reads."""
    out = tmp_path / "run"
    out.mkdir()
    for name in ("base", "synthesis", "format_tuned", "reward_model", "restarts"):
        shutil.copytree(finished / name, out / name)
    return out


def results(out: Path) -> dict[str, object]:
    """What a round leaves, without its times."""
    timed = [{k: v for k, v in row.items() if k != "seconds"} for row in read_jsonl(out / "rl_1/metrics.jsonl")]
    files = ("model.safetensors", "samples.jsonl")
    return {"metrics": timed} | {name: (out / "rl_1" / name).read_bytes() for name in files}


def newest(checkpoints: Path) -> str:
    return max((path.name for path in checkpoints.glob("step-??????")), default="")


def test_killed_at_twenty_random_moments_it_ends_as_if_never_killed(before_rl, processes, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(before_rl, whole)
    started = time.monotonic()
    assert main(arguments(whole)) == 0
    seconds = time.monotonic() - started
    rng, kills, moments = random.Random(0), 0, set()
    checkpoints = before_rl / ".partial/rl_1/checkpoints"
    while kills < KILLS:
        saved = newest(checkpoints)
        process = processes.Process(target=run, args=(arguments(before_rl),))
        process.start()
        process.join(rng.uniform(0, seconds))
        kills += process.is_alive()
        process.kill()
        process.join()
        if (before_rl / "rl_1").exists():  # it came to the end between two kills
            assert results(before_rl) == results(whole)
            shutil.rmtree(before_rl / "rl_1")
            continue
        assert newest(checkpoints) >= saved  # never back behind what was saved
        if newest(checkpoints):  # whole, whenever the kill fell; the one before may have been on its way out
            [file] = (checkpoints / newest(checkpoints)).iterdir()
            load_file(file)
        moments.add((newest(checkpoints), (checkpoints / "writing").exists()))
    assert len(moments) > 3
    assert main(arguments(before_rl)) == 0
    assert results(before_rl) == results(whole)
    assert not (before_rl / "rl_1/checkpoints").exists()


def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(before_rl, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    def save_half(folder, parts):
        save_state(folder, parts)
        saved.append(folder)
        if len(saved) == 2:
            [file] = folder.iterdir()
            file.write_bytes(file.read_bytes()[:100])
            raise Killed

    saved: list[Path] = []
    whole = tmp_path / "whole"
    shutil.copytree(before_rl, whole)
    assert main(arguments(whole)) == 0
    monkeypatch.setattr(stage, "save_state", save_half)
    with pytest.raises(Killed):
        main(arguments(before_rl))
    monkeypatch.setattr(stage, "save_state", save_state)
    checkpoints = before_rl / ".partial/rl_1/checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step-000001", "writing"]
    assert main(arguments(before_rl)) == 0
    assert results(before_rl) == results(whole)


def test_with_adapters_it_goes_on_exactly_and_leaves_an_ordinary_policy(before_rl, monkeypatch, tmp_path, capsys):
    class Killed(BaseException):
        pass

    def save_and_die(folder, learner, step):
        save_checkpoint(folder, learner, step)
        raise Killed

    save_checkpoint, lora, whole = stage.save_checkpoint, ["--rl.lora.rank", "4"], tmp_path / "whole"
    shutil.copytree(before_rl, whole)
    assert main([*arguments(whole), *lora]) == 0
    monkeypatch.setattr(stage, "save_checkpoint", save_and_die)
    for step in (1, 2):
        with pytest.raises(Killed):
            main([*arguments(before_rl), *lora])
        assert newest(before_rl / ".partial/rl_1/checkpoints") == f"step-{step:06d}"
    monkeypatch.setattr(stage, "save_checkpoint", save_checkpoint)
    assert main([*arguments(before_rl), *lora]) == 0
    assert results(before_rl) == results(whole)
    before, after = (load_file(whole / name / "model.safetensors") for name in ("format_tuned", "rl_1"))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "proj.weight" in name}
    shutil.rmtree(whole / "rl_1")
    assert main([*arguments(whole), *lora, "--rl.lora.targets", "[w_pack]"]) == 2
    assert "lora.targets: w_pack is not" in capsys.readouterr().err


def test_a_full_disk_is_said_clearly_and_the_last_checkpoint_stays(before_rl, monkeypatch, capsys):
    def save_with_little_room(folder, parts):
        saved.append(folder)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if len(saved) == 2:  # files end at 100 kB: the system refuses the rest, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            save_state(folder, parts)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    saved: list[Path] = []
    monkeypatch.setattr(stage, "save_state", save_with_little_room)
    assert main(arguments(before_rl)) == 2
    message = capsys.readouterr().err
    assert "the checkpoint of step 2 cannot be written" in message
    assert "MB are free" in message
    checkpoints = before_rl / ".partial/rl_1/checkpoints"
    assert [p.name for p in checkpoints.iterdir()] == ["step-000001"]
    monkeypatch.setattr(stage, "save_state", save_state)
    assert main(arguments(before_rl)) == 0


def test_records_of_steps_that_are_taken_again_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in range(4):
        append_jsonl(path, {"step": step, "text": "a line\u2028and\x85another"})
    with path.open("a") as lines:
        lines.write('{"step": 4, "te')
    forget_after(path, 3)
    assert [row["step"] for row in read_jsonl(path)] == [0, 1, 2]
    forget_after(tmp_path / "none.jsonl", 3)
