"""Trackers: what they get, that they never stop training, and that no text gets out of its frame (satori.tracking)."""

import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import SMALL

from satori import tracking
from satori.cli import main
from satori.pipeline import STAGES, stage_settings
from satori.recipe import Recipe, RecipeError, load_recipe
from satori.run_folder import read_jsonl
from satori.tracking import TrackedStage, Trackers, TrackingSettings, as_markdown, as_table, fenced, plain_text

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
SAMPLE = {
    "question": "1 + 1?",
    "start": "negative",
    "prefix": "It is 3.",
    "response": "It is 2.",
    "outcome": "right",
    "finish_reason": "stop",
    "reward": {"rule": 0.0, "preference": 0.25, "bonus": 0.5, "total": 0.75},
}


class Fake:
    """A tracker that keeps what it gets; ``broken`` names the method that raises."""

    def __init__(self, broken=""):
        self.broken, self.numbers, self.tables, self.texts, self.finished = broken, [], [], [], False

    def _maybe_raise(self, name):
        if name == self.broken:
            raise ConnectionError(f"no way\nto {name}")

    def log(self, values, step):
        self._maybe_raise("log")
        if all(isinstance(value, int | float) for value in values.values()):
            self.numbers.append((step, values))
        else:
            self.texts.append((step, values))

    def finish(self):
        self._maybe_raise("finish")
        self.finished = True


class FakeWithTables(Fake):
    def log_table(self, name, columns, data, step):
        self._maybe_raise("log_table")
        self.tables.append((step, name, columns, data))


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    """Trackers that open the given fakes instead of real ones; and the warnings that they gave."""
    warnings = []

    def make(**fakes):
        def open_fake(kind, stage, run_id, known):
            fake = fakes[kind]
            if isinstance(fake, Exception):
                raise fake
            fake.run_id, fake.known = run_id, known
            return fake

        monkeypatch.setattr(tracking, "open_tracker", open_fake)
        settings = TrackingSettings(kinds=tuple(fakes))
        return Trackers(TrackedStage(settings, tmp_path, "rl_1", tmp_path), warnings.append)

    make.warnings = warnings
    return make


# --- settings ---


def kinds_of(*overrides):
    return [str(kind) for kind in load_recipe("tiny", overrides).tracking.kinds]


def test_trackers_are_named_like_any_other_setting():
    assert kinds_of() == []
    assert kinds_of(("tracking.kinds", "tensorboard")) == ["tensorboard"]
    assert kinds_of(("tracking.kinds", "wandb, trackio,wandb")) == ["wandb", "trackio"]
    assert kinds_of(("tracking.kinds", "[wandb]")) == ["wandb"]
    with pytest.raises(RecipeError, match=r"tracking\.kinds.*'tensorboard', 'trackio' or 'wandb'.*'tensorbord'"):
        kinds_of(("tracking.kinds", "tensorbord"))


def test_trackers_shape_no_artifact():
    other = Recipe(tracking={"kinds": "wandb", "project": "mine", "run_name": "first"})
    assert all(stage_settings(Recipe(), stage) == stage_settings(other, stage) for stage in STAGES)


@pytest.mark.parametrize(
    ("kinds", "extras"),
    [("trackio", "tracking"), ("tensorboard,trackio", "tracking"), ("wandb,trackio", "wandb,tracking")],
)
def test_a_tracker_that_is_not_installed_is_said_before_anything_runs(kinds, extras, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "get_available_trackers", list)
    assert main(["run", "tiny", "--out", str(tmp_path / "run"), "--tracking.kinds", kinds]) == 2
    message = capsys.readouterr().err
    assert f"{kinds.replace(',', ', ')} not installed" in message
    assert f"pip install 'satori[{extras}]'" in message
    assert not (tmp_path / "run").exists()


# --- what trackers get ---


def test_numbers_carry_the_stage_and_text_stays_out(tracked):
    fake = Fake()
    with tracked(wandb=fake) as trackers:
        trackers.log({"step": 3, "reward": -0.5, "steps_taken": 2, "device": "cpu", "nothing": None})
    assert fake.numbers == [(3, {"rl_1/reward": -0.5, "rl_1/steps_taken": 2})]
    assert fake.finished


def test_nothing_is_opened_for_a_stage_that_logs_nothing(tracked):
    with tracked(wandb=AssertionError("opened")):
        pass
    assert tracked.warnings == []


def test_samples_are_a_table_where_there_are_tables_and_text_elsewhere(tracked):
    tables, texts = FakeWithTables(), Fake()
    with tracked(wandb=tables, tensorboard=texts) as trackers:
        trackers.log_samples(2, [SAMPLE])
        trackers.log_samples(3, [])
    [(step, name, columns, [row])] = tables.tables
    assert (step, name) == (2, "rl_1/samples")
    assert dict(zip(columns, row, strict=True)) == {
        "question": "1 + 1?",
        "start": "negative",
        "prefix": "It is 3.",
        "response": "It is 2.",
        "outcome": "right",
        "finish_reason": "stop",
        "reward_rule": 0.0,
        "reward_preference": 0.25,
        "reward_bonus": 0.5,
        "reward_total": 0.75,
    }
    [(step, values)] = texts.texts
    assert step == 2
    assert values == {"rl_1/samples": as_markdown([SAMPLE])}


def test_a_stage_that_goes_on_sends_no_step_twice_and_keeps_its_runs(tracked):
    first, second, added = Fake(), Fake(), Fake()
    with tracked(wandb=first) as trackers:
        for step in range(3):
            trackers.log({"step": step, "reward": 0.0})
            trackers.log_samples(step, [SAMPLE])
    with tracked(wandb=second, tensorboard=added) as trackers:
        for step in range(1, 5):
            trackers.log({"step": step, "reward": 0.0})
            trackers.log_samples(step, [SAMPLE])
    assert (first.known, second.known, added.known) == (-1, 2, -1)
    assert first.run_id == second.run_id != added.run_id
    for got in ("numbers", "texts"):
        assert [step for step, _ in getattr(first, got) + getattr(second, got)] == [0, 1, 2, 3, 4]
        assert [step for step, _ in getattr(added, got)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "note", ["", "[1]", '{"wandb": 3}', '{"wandb": {"id": "x"}}', '{"other": {"id": "x", "step": 1, "samples": 1}}']
)
def test_a_broken_note_of_what_was_sent_starts_anew(tracked, tmp_path, note):
    (tmp_path / "tracking.json").write_text(note)
    fake = Fake()
    with tracked(wandb=fake) as trackers:
        trackers.log({"step": 0, "reward": 1.0})
    assert fake.known == -1
    assert json.loads((tmp_path / "tracking.json").read_text()) == {
        "wandb": {"id": fake.run_id, "step": 0, "samples": -1}
    }


# --- a tracker that fails ---


@pytest.mark.parametrize("broken", ["open", "log", "log_table", "finish"])
def test_a_tracker_that_fails_is_left_with_one_warning_and_the_others_go_on(tracked, broken):
    bad = ConnectionError("no way\nto open") if broken == "open" else FakeWithTables(broken)
    good = Fake()
    with tracked(wandb=bad, tensorboard=good) as trackers:
        for step in range(3):
            trackers.log({"step": step, "reward": 1.0})
            trackers.log_samples(step, [SAMPLE])
    assert len(good.numbers) == len(good.texts) == 3
    assert good.finished
    [warning] = tracked.warnings
    assert "rl_1 goes on without wandb" in warning
    assert f"ConnectionError: no way to {broken}" in warning


def test_a_note_that_cannot_be_written_stops_no_training(tracked, monkeypatch):
    def no_room(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracking, "write_text", no_room)
    with tracked(wandb=Fake()) as trackers:
        trackers.log({"step": 0, "reward": 1.0})
    assert "No space left" in tracked.warnings[0]


# --- text from a model ---

HOSTILE = [
    "```\n# a heading\n<script>alert(1)</script>\n```",
    "````\nfour\n````",
    "``\x02`\nclosed?\n``\x03`",
    "`\x00``\n**bold**",
    "```\r**bold**\r```\u2028```\x85```",
    "</code></pre><img src=x onerror=alert(1)>",
    "~~~\n| a | b |\n|---|---|\n~~~",
    "[a link](javascript:alert(1)) ![i](http://example.org/x.png)",
    "half a pair \ud800 and tags\x1b[31m",
]


def rendered(text):
    """Markdown as TensorBoard shows it."""
    from tensorboard.plugin_util import markdown_to_safe_html

    return markdown_to_safe_html(text)


def in_a_block(text):
    return f"<pre><code>{html.escape(plain_text(text), quote=True)}\n</code></pre>"


def escaped(page):
    """A page in which quotes are escaped everywhere or nowhere."""
    return re.sub("&quot;|&#x27;|[\"']", "'", page)


@needs_tensorboard
@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_in_its_block_in_tensorboard(text):
    page = rendered(f"before\n\n{fenced(text)}\n\nafter")
    assert escaped(page) == escaped(f"<p>before</p>\n{in_a_block(text)}\n<p>after</p>")


@needs_tensorboard
@given(st.text(alphabet="`~\n\r \t#<>&a*\x00\x02\x03\x0b\x0c\x1c\x85\u2028\u2029{}:", max_size=60))
def test_no_text_ends_its_own_block(text):
    page = rendered(f"{fenced(text)}\n\nafter")
    assert page.count("<pre><code>") == page.count("</code></pre>") == 1
    assert page.endswith("</code></pre>\n<p>after</p>")
    assert re.findall(r"<(/?\w+)", page) == ["pre", "code", "/code", "/pre", "p", "/p"]


@needs_tensorboard
@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_of_a_sample_is_framed_and_can_be_stored(text):
    sample = SAMPLE | {"question": text, "prefix": text, "response": text, "answer": text, "problem_id": text}
    page = rendered(as_markdown([sample, SAMPLE]))
    assert set(re.findall(r"<(\w+)", page)) == {"h3", "p", "pre", "code"}
    assert page.count("<h3>") == 2
    for row in as_table([sample])[1]:
        json.dumps(row, ensure_ascii=False).encode()


# --- runs ---


def events(root, stage="rl_1"):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(root / "tracking/tensorboard" / stage), size_guidance={"tensors": 0, "scalars": 0})
    return found.Reload()


def steps_of(found, tag):
    return [event.step for event in (found.Scalars(tag) if tag in found.Tags()["scalars"] else found.Tensors(tag))]


def arguments(command, out, **changes):
    settings = SMALL | {"tracking.kinds": "tensorboard"} | {key.replace("__", "."): v for key, v in changes.items()}
    options = [part for key, value in settings.items() for part in (f"--{key}", f"{value}")]
    return [command, "--recipe", "tiny", "--out", str(out), *options]


@pytest.fixture
def run_folder(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    return out


@needs_tensorboard
def test_a_tracked_round_logs_what_its_files_hold_and_trains_the_same(finished, run_folder):
    shutil.rmtree(run_folder / "rl_1")
    assert main(arguments("rl", run_folder)) == 0
    assert (run_folder / "rl_1/model.safetensors").read_bytes() == (finished / "rl_1/model.safetensors").read_bytes()
    found, rows = events(run_folder), list(read_jsonl(run_folder / "rl_1/metrics.jsonl"))
    for name in rows[0].keys() - {"step"}:
        got = [(event.step, event.value) for event in found.Scalars(f"rl_1/{name}")]
        assert got == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows if name in row]
    samples = [row for row in read_jsonl(run_folder / "rl_1/samples.jsonl") if row["step"] == 1]
    [*_, last] = found.Tensors("rl_1/samples/text_summary")
    shown = last.tensor_proto.string_val[0].decode()
    assert shown == as_markdown([{k: v for k, v in sample.items() if k != "step"} for sample in samples])
    for sample in samples:
        assert plain_text(sample["response"]) in shown
    assert "reward_total: " in shown
    assert "finish_reason: " in shown


@needs_tensorboard
def test_a_finished_run_is_skipped_with_other_trackers(run_folder):
    assert main(["run", *arguments("rl", run_folder)[2:]]) == 0
    assert not (run_folder / "tracking").exists()


@needs_tensorboard
def test_a_round_that_was_stopped_goes_on_and_one_made_again_hides_what_was(run_folder, monkeypatch):
    from satori.reinforcement import stage

    shutil.rmtree(run_folder / "rl_1")
    save, saved = stage.save_checkpoint, []

    def stopped(*given):
        saved.append(given)
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(*given)

    monkeypatch.setattr(stage, "save_checkpoint", stopped)
    assert main(arguments("rl", run_folder, rl__steps=4)) == 130
    assert steps_of(events(run_folder), "rl_1/reward") == [0, 1]
    assert main(arguments("rl", run_folder, rl__steps=4)) == 0  # from the checkpoint of step 1
    assert steps_of(events(run_folder), "rl_1/reward") == [0, 1, 2, 3]
    assert steps_of(events(run_folder), "rl_1/samples/text_summary") == [0, 1, 2, 3]
    assert main(arguments("rl", run_folder, rl__steps=1, redo="rl_1")) == 0
    assert steps_of(events(run_folder), "rl_1/reward") == [0]


@needs_tensorboard
def test_samples_of_a_step_that_was_stopped_after_its_numbers_are_sent_when_it_comes_again(run_folder, monkeypatch):
    shutil.rmtree(run_folder / "rl_1")
    send, sent = Trackers.log_samples, []

    def stopped(trackers, step, samples):
        sent.append(step)
        if sent == [0, 1]:
            raise KeyboardInterrupt
        send(trackers, step, samples)

    monkeypatch.setattr(Trackers, "log_samples", stopped)
    assert main(arguments("rl", run_folder)) == 130
    assert steps_of(events(run_folder), "rl_1/reward") == [0, 1]
    assert steps_of(events(run_folder), "rl_1/samples/text_summary") == [0]
    assert main(arguments("rl", run_folder)) == 0
    assert steps_of(events(run_folder), "rl_1/reward") == [0, 1]
    assert steps_of(events(run_folder), "rl_1/samples/text_summary") == [0, 1]


@needs_tensorboard
def test_supervised_stages_are_tracked_too(finished, run_folder):
    for stage, command in (("format_tuned", "tune"), ("reward_model", "reward-model"), ("distilled", "distill")):
        shutil.rmtree(run_folder / stage)
        assert main(arguments(command, run_folder)) == 0
        weights = (run_folder / stage / "model.safetensors").read_bytes()
        assert weights == (finished / stage / "model.safetensors").read_bytes()
        found = events(run_folder, stage)
        rows = list(read_jsonl(run_folder / stage / "metrics.jsonl"))
        got = [(event.step, event.value) for event in found.Scalars(f"{stage}/loss")]
        assert got
        assert got == [(row["step"], pytest.approx(row["loss"])) for row in rows]


@needs_tensorboard
def test_a_tracker_that_cannot_write_is_warned_of_and_the_round_is_trained(run_folder, capsys):
    shutil.rmtree(run_folder / "rl_1")
    (run_folder / "tracking").write_text("a file where the folder should be")
    assert main(arguments("rl", run_folder)) == 0
    message = " ".join(capsys.readouterr().err.split())
    assert message.count("warning: rl_1 goes on without tensorboard, which could not be opened") == 1
    assert len(list(read_jsonl(run_folder / "rl_1/metrics.jsonl"))) == 2


SENDER = """
import json
import sys
from pathlib import Path
from satori.tracking import TrackedStage, Trackers, TrackingSettings

def warn(text):
    raise SystemExit(text)

kind, root = sys.argv[1], Path(sys.argv[2])
sample = {"response": "half a pair \\ud800", "reward": {"rule": -1.0, "total": 0.5}}
for steps in (range(3), range(1, 5)):  # the second goes on
    stage = TrackedStage(TrackingSettings(kinds=(kind,)), root, "rl_1", root, {"rl": {"steps": 5}})
    with Trackers(stage, warn) as trackers:
        for step in steps:
            trackers.log({"step": step, "reward": step / 4})
            trackers.log_samples(step, [sample])
if kind == "trackio":
    from trackio.sqlite_storage import SQLiteStorage
    (root / "logs.json").write_text(json.dumps(SQLiteStorage.get_logs("satori", root.name + "-rl_1")))
"""


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_the_other_trackers_keep_their_files_in_the_run_folder(kind, tmp_path, monkeypatch):
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    sent = subprocess.run([sys.executable, "-c", SENDER, kind, str(tmp_path)], capture_output=True, text=True)
    assert sent.returncode == 0, sent.stderr
    files = [path for path in (tmp_path / "tracking" / kind).rglob("*") if path.is_file()]
    if kind == "trackio":
        assert any(path.suffix == ".db" for path in files)
        logs = json.loads((tmp_path / "logs.json").read_text())
        assert [(row["step"], row["rl_1/reward"]) for row in logs if "rl_1/reward" in row] == [
            (step, step / 4) for step in range(5)
        ]
        assert [row["step"] for row in logs if "rl_1/samples" in row] == [0, 1, 2, 3, 4]
    else:
        tables = [json.loads(path.read_text()) for path in files if path.name.endswith(".table.json")]
        assert len(tables) == 5
        assert {
            "columns": ["response", "reward_rule", "reward_total"],
            "data": [["half a pair \\ud800", -1.0, 0.5]],
        } in [{"columns": table["columns"], "data": table["data"]} for table in tables]
