"""The whole method on a few problems: from nothing to a report, skipping, resuming, refusing, bad input."""

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from small_run import SMALL, arguments, run

from satori.cli import main
from satori.report.stage import stage_seconds

ARTIFACTS = (
    "synthesis/demonstrations.jsonl",
    "format_tuned/model.safetensors",
    "reward_model/model.safetensors",
    "restarts/buffer.jsonl",
    "rl_1/model.safetensors",
    "rl_1/samples.jsonl",
    "distilled/model.safetensors",
    "rl_2/model.safetensors",
    "evaluation/rl_2.jsonl",
)


def digests(out: Path) -> dict[str, str]:
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ARTIFACTS}


def test_the_summary_has_every_field(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) == {"wall_seconds", "stages", "synthesis", "rm_at_8"}
    assert set(summary["stages"]) == {"base", "format_tuned", "rl_1", "rl_2"}
    assert set(summary["synthesis"]) == {"I", "II-I", "II-II", "III-I", "III-II"}
    assert set(summary["rm_at_8"]) == {"first_sample", "reward_model", "oracle"}
    for stage in summary["stages"].values():
        assert {
            "accuracy", "accuracy_ci95", "by_level", "ood", "reflect_rate", "wrong_to_right", "right_to_wrong",
            "mean_length", "length_by_level",
        } <= set(stage)  # fmt: skip
        assert len(stage["ood"]) == 2


def test_the_run_folder_holds_config_metrics_and_samples(finished):
    assert "reflection_bonus: 0.5" in (finished / "recipe.yaml").read_text()
    metrics = [json.loads(line) for line in (finished / "rl_1/metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == [0, 1]
    sample = json.loads((finished / "rl_1/samples.jsonl").read_text().splitlines()[0])
    assert set(sample["reward"]) == {"rule", "preference", "bonus", "total"}
    assert (finished / "report.html").read_text().count("<html") == 1
    assert (finished / "report.md").exists()


def test_a_finished_run_is_skipped(finished):
    before = digests(finished)
    started = time.monotonic()
    assert main(arguments(finished)) == 0
    assert time.monotonic() - started < 5
    assert digests(finished) == before


def test_another_configuration_is_refused(finished, capsys):
    assert main(arguments(finished, rl__reflection_bonus=0)) == 2
    message = capsys.readouterr().err
    assert "rl.reflection_bonus: 0.5 there, 0.0 asked for" in message
    assert "--redo rl_1" in message


def test_a_stage_by_itself_refuses_what_another_configuration_made_two_stages_before(finished, tmp_path, capsys):
    out = tmp_path / "mixed"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "rl_1")
    assert main(["rl", "--recipe", *arguments(out, synthesis__temperature=0.123)[1:]]) == 2
    assert "synthesis.temperature: 0.8 there, 0.123 asked for" in capsys.readouterr().err
    assert not (out / "rl_1").exists()


@pytest.mark.parametrize(
    ("command", "redo", "changes", "words"),
    [
        ("rl", "rl_1", {"tune__learning_rate": 1e-9}, "format_tuned was made by another configuration"),
        ("run", "rl_2", {"seed": 1}, "synthesis was made by another configuration"),
        ("run", "restarts", {}, "reward_model holds unfinished work of another configuration"),
        ("evaluate", "rl_1", {}, "--redo: this command makes no artifact 'rl_1'; it makes evaluation"),
    ],
)
def test_a_refused_command_removes_nothing(finished, tmp_path, capsys, command, redo, changes, words):
    out = tmp_path / "kept"
    shutil.copytree(finished, out)
    if redo == "restarts":
        shutil.move(out / "reward_model", out / ".partial" / "reward_model")
    before = sorted(out.rglob("*"))
    recipe = ["tiny"] if command == "run" else ["--recipe", "tiny"]
    assert main([command, *recipe, *arguments(out, **changes)[2:], "--redo", redo]) == 2
    assert words in capsys.readouterr().err
    assert sorted(out.rglob("*")) == before


def test_a_missing_engine_is_named_before_anything_is_removed(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    out = tmp_path / "kept"
    shutil.copytree(finished, out)
    before = sorted(out.rglob("*"))
    words = arguments(out, engine__kind="vllm")
    assert main([*words, "--redo", "rl_2"]) == 2
    assert "pip install 'satori[vllm]'" in capsys.readouterr().err
    assert sorted(out.rglob("*")) == before
    assert main([*words, "--redo", "report"]) == 0  # it samples nothing


def test_train_validation_and_test_problems_are_disjoint(finished):
    trained = set()
    for name in ("synthesis/demonstrations.jsonl", "distilled/trajectories.jsonl"):
        trained |= {json.loads(line)["id"] for line in (finished / name).read_text().splitlines()}
    trained |= {
        json.loads(line)["problem_id"] for line in (finished / "restarts/buffer.jsonl").read_text().splitlines()
    }
    tested = {json.loads(line)["problem_id"] for line in (finished / "evaluation/base.jsonl").read_text().splitlines()}
    assert trained
    assert tested
    assert not trained & tested


def test_killed_and_resumed_gives_the_same_artifacts(finished, processes, tmp_path):
    """Killed outright at moments spread over the run, each time as far as a stage further, then finished."""
    out = tmp_path / "killed"
    for milestone in ("format_tuned", ".partial/rl_1/checkpoints/step-000001", "distilled"):
        process = processes.Process(target=run, args=(arguments(out),))
        process.start()
        deadline = time.monotonic() + 120
        while not (out / milestone).exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.join()
        assert (out / milestone).exists()
    assert not (out / "report").exists()
    assert main(arguments(out)) == 0
    assert digests(out) == digests(finished)


def test_the_plain_variant_runs_without_meta_actions(tmp_path):
    assert main(arguments(tmp_path / "cot", variant="cot")) == 0
    summary = json.loads((tmp_path / "cot" / "summary.json").read_text())
    plain = summary["synthesis"].pop("I")
    assert 0 < plain <= 60
    assert set(summary["synthesis"].values()) == {0}
    assert (tmp_path / "cot/restarts/buffer.jsonl").read_text() == ""


def test_pretraining_from_scratch_writes_a_loadable_base(tmp_path):
    from satori.models import load_policy, load_tokenizer

    settings = {"from_scratch": "true", "steps": "3", "hidden_size": "32", "layers": "1", "tokens_per_step": "500"}
    options = [part for key, value in settings.items() for part in (f"--pretrain.{key}", value)]
    assert main(["pretrain", "--out", str(tmp_path), *options]) == 0
    assert load_policy(tmp_path / "base").config.hidden_size == 32
    assert load_tokenizer(tmp_path / "base").decode([1]) != ""
    assert len((tmp_path / "base/metrics.jsonl").read_text().splitlines()) >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rl.reflektion_bonus", "0"], ["rl.reflektion_bonus", "did you mean reflection_bonus"]),
        (["--rl.steps", "many"], ["rl.steps", "'many'"]),
        (["--rl.steps", "0"], ["rl.steps", "greater than 0"]),
        (["--rl.steps"], ["--rl.steps has no value"]),
        (["stray"], ["unexpected argument 'stray'"]),
        (["--redo", "distill"], ["no artifact 'distill'", "distilled"]),
        (["--variant", "both"], ["variant", "'coat' or 'cot'"]),
        (["--synthesis.generator.kind", "chat", "--synthesis.prompts", "nodir"], ["nodir is no folder of prompt"]),
    ],
)
def test_bad_settings_are_named(options, words, tmp_path, capsys):
    assert main(["run", "tiny", "--out", str(tmp_path), *options]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_an_unknown_recipe_lists_the_known_ones(capsys):
    assert main(["run", "tinny"]) == 2
    assert "tiny" in capsys.readouterr().err


def test_a_missing_artifact_is_named(tmp_path, capsys):
    assert main(["rl", "--recipe", "tiny", "--out", str(tmp_path)]) == 2
    assert "format_tuned" in capsys.readouterr().err


def test_a_broken_line_is_named(finished, tmp_path, capsys):
    out = tmp_path / "broken"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "format_tuned")
    path = out / "synthesis/demonstrations.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:-5]
    path.write_text("\n".join(lines))
    assert main(arguments(out)) == 2
    assert f"{path}, line 3" in capsys.readouterr().err


def test_stage_seconds_are_recorded(finished):
    assert {"base", "rl_1", "evaluation"} <= set(stage_seconds(finished))


def test_a_gradient_that_is_no_number_stops_the_run_and_keeps_its_batch(finished, tmp_path, capsys, monkeypatch):
    out = tmp_path / "diverged"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "rl_1")
    monkeypatch.setattr("satori.reinforcement.ppo.whiten", lambda advantages, mask: advantages * float("nan"))
    assert main(["rl", "--recipe", *arguments(out)[1:]]) == 2
    kept = out / ".partial" / "rl_1" / "diverged.jsonl"
    message = capsys.readouterr().err
    assert "step 0: the gradient norm of the policy is nan" in message
    assert str(kept) in message
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(rows) == SMALL["rl.batch_size"]
    for row in rows:
        assert len(row["token_ids"]) == len(row["logprobs"]) == len(row["advantages"]) > 0
        assert {"response", "outcome", "reward", "context_ids"} <= row.keys()


def test_a_full_disk_ends_in_a_sentence_and_other_trouble_does_not(monkeypatch, capsys):
    def fails(code):
        def fail(*_):
            raise OSError(code, os.strerror(code), "runs/x/metrics.jsonl")

        return fail

    monkeypatch.setattr("satori.cli.read_overrides", fails(errno.ENOSPC))
    assert main(["recipes"]) == 2
    assert "'runs/x/metrics.jsonl'. Make room on the disk" in capsys.readouterr().err
    monkeypatch.setattr("satori.cli.read_overrides", fails(errno.EACCES))
    with pytest.raises(PermissionError):
        main(["recipes"])
