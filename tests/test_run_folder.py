"""Artifacts on disk: JSON lines, manifests, fingerprints, partial work (satori.run_folder)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satori.run_folder import (
    ArtifactError,
    RunFolder,
    append_jsonl,
    differences,
    fingerprint,
    forget_after,
    read_jsonl,
    write_jsonl,
    write_text,
)

SETTINGS = {"seed": 1, "rl": {"temperature": 0.6, "clip": 0.2}}


def finish(folder, stage, settings=SETTINGS, inputs=None, content="done"):
    """Run a stage to its end."""
    partial = folder.open_partial(stage, settings, inputs or {})
    (partial / "result.txt").write_text(content)
    folder.commit(stage, settings, inputs or {}, seconds=1.234)


# --- JSON lines ---


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans())))
def test_records_read_back_as_they_were_written(tmp_path_factory, records):
    path = tmp_path_factory.getbasetemp() / "records.jsonl"
    write_jsonl(path, records)
    assert list(read_jsonl(path)) == records


def test_a_missing_file_is_an_artifact_error_that_names_it(tmp_path):
    with pytest.raises(ArtifactError, match=r"absent\.jsonl"):
        list(read_jsonl(tmp_path / "absent.jsonl"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', "not valid JSON"),
        ("", "not valid JSON"),
        ("[1, 2]", "found list"),
        ("3", "found int"),
        ("null", "found NoneType"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(tmp_path, line, message):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n' + line + '\n{"a": 4}\n')
    with pytest.raises(ArtifactError, match=rf"broken\.jsonl, line 3: .*{message}"):
        list(read_jsonl(path))


def test_a_line_that_is_no_utf8_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(ArtifactError, match=r"broken\.jsonl, line 2"):
        list(read_jsonl(path))


def test_a_line_nested_too_deep_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text("[" * 200_000 + "\n")
    with pytest.raises(ArtifactError, match=r"broken\.jsonl, line 1"):
        list(read_jsonl(path))


def test_records_before_a_broken_line_are_still_given(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"a": 1}\noops\n')
    records = read_jsonl(path)
    assert next(records) == {"a": 1}


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "records.jsonl"
    write_jsonl(path, [{"old": True}])

    def interrupted():
        yield {"new": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_jsonl(path, interrupted())
    assert list(read_jsonl(path)) == [{"old": True}]


def test_a_finished_write_leaves_nothing_beside_the_file(tmp_path):
    write_jsonl(tmp_path / "records.jsonl", [{"a": 1}])
    write_text(tmp_path / "note.txt", "é")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["note.txt", "records.jsonl"]
    assert (tmp_path / "note.txt").read_text(encoding="utf-8") == "é"


def test_append_adds_records_at_the_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 0})
    append_jsonl(path, {"step": 1, "text": "a\nb\u2028"})
    assert list(read_jsonl(path)) == [{"step": 0}, {"step": 1, "text": "a\nb\u2028"}]


# --- fingerprints ---


def test_a_line_cut_short_is_forgotten_and_a_broken_one_within_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    forget_after(path, 2)
    assert path.read_text() == '{"step": 1}\n'
    path.write_text('{"step": 1}\n{"ste\n{"step": 2}\n')
    with pytest.raises(ArtifactError, match="line 2"):
        forget_after(path, 2)
    assert len(path.read_text().splitlines()) == 3


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}, {}) == fingerprint({"b": 2, "a": 1}, {})


def test_a_fingerprint_changes_with_settings_and_with_inputs():
    prints = {fingerprint({"a": 1}, {}), fingerprint({"a": 2}, {}), fingerprint({"a": 1}, {"base": "x"})}
    assert len(prints) == 3


def test_differences_name_nested_keys_and_both_values():
    new = {"seed": 1, "rl": {"temperature": 1.2, "clip": 0.2}, "more": True}
    assert differences(SETTINGS, new) == [
        "more: None there, True asked for",
        "rl.temperature: 0.6 there, 1.2 asked for",
    ]


# --- stages ---


def test_a_stage_is_complete_after_its_commit_and_not_before(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.is_complete("tune", SETTINGS, {})
    folder.open_partial("tune", SETTINGS, {})
    assert not folder.is_complete("tune", SETTINGS, {})
    assert not folder.path("tune").exists()
    finish(folder, "tune")
    assert folder.is_complete("tune", SETTINGS, {})


def test_commit_moves_the_whole_folder_into_place(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")
    assert sorted(p.name for p in folder.path("tune").iterdir()) == ["manifest.json", "result.txt"]
    assert not (tmp_path / ".partial" / "tune").exists()


def test_the_manifest_says_what_made_the_artifact(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune", inputs={"base": "abc"})
    assert folder.manifest("tune") == {
        "stage": "tune",
        "fingerprint": fingerprint(SETTINGS, {"base": "abc"}),
        "settings": SETTINGS,
        "inputs": {"base": "abc"},
        "seconds": 1.23,
    }


def test_other_settings_are_refused_by_the_key_that_differs(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")
    other = {"seed": 1, "rl": {"temperature": 1.2, "clip": 0.2}}
    with pytest.raises(ArtifactError, match=r"tune .*\(rl\.temperature: 0\.6 there, 1\.2 asked for\).*--redo tune"):
        folder.is_complete("tune", other, {})


def test_another_input_is_refused_by_its_name(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune", inputs={"base": "abc", "data": "def"})
    with pytest.raises(ArtifactError, match=r"\(it was made from another base\)"):
        folder.is_complete("tune", SETTINGS, {"base": "xyz", "data": "def"})


def test_a_missing_input_is_named_with_the_stage_that_needs_it(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "base")
    with pytest.raises(ArtifactError, match=r"tune needs the artifact .*data.*: run the command that makes it first"):
        folder.input_fingerprints("tune", ["base", "data"])


def test_inputs_are_known_by_their_fingerprints(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "base")
    assert folder.input_fingerprints("tune", ["base"]) == {"base": fingerprint(SETTINGS, {})}


def test_a_manifest_that_is_no_json_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")
    (folder.path("tune") / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest\.json: not valid JSON"):
        folder.is_complete("tune", SETTINGS, {})


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_a_manifest_that_lacks_its_keys_is_named(tmp_path, content):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")
    (folder.path("tune") / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        folder.is_complete("tune", SETTINGS, {})


def test_partial_work_of_the_same_configuration_is_handed_back(tmp_path):
    folder = RunFolder(tmp_path)
    (folder.open_partial("tune", SETTINGS, {}) / "half.txt").write_text("half")
    assert (folder.open_partial("tune", SETTINGS, {}) / "half.txt").read_text() == "half"


@pytest.mark.parametrize(
    ("settings", "inputs", "named"),
    [
        ({"seed": 2}, {}, "seed: 1 there, 2 asked for"),
        (SETTINGS, {"base": "abc"}, "made from another base"),
    ],
)
def test_partial_work_of_another_configuration_is_refused_and_stays(tmp_path, settings, inputs, named):
    folder = RunFolder(tmp_path)
    half = folder.open_partial("tune", SETTINGS, {}) / "half.txt"
    half.write_text("half")
    with pytest.raises(ArtifactError, match=rf"{named}.*--redo tune to drop the work"):
        folder.open_partial("tune", settings, inputs)
    assert half.read_text() == "half"
    folder.remove("tune")
    assert not (folder.open_partial("tune", settings, inputs) / "half.txt").exists()


def test_a_partial_folder_without_work_serves_another_configuration(tmp_path):
    folder = RunFolder(tmp_path)
    begun = folder.open_partial("tune", SETTINGS, {})
    (begun / "checkpoints").mkdir()
    (begun / "metrics.jsonl").touch()
    partial = folder.open_partial("tune", {"seed": 2}, {})
    assert not (partial / "metrics.jsonl").exists()
    (partial / "half.txt").write_text("half")
    assert folder.open_partial("tune", {"seed": 2}, {}) == partial


def test_partial_work_that_does_not_say_whose_it_is_stays(tmp_path):
    folder = RunFolder(tmp_path)
    half = tmp_path / ".partial" / "tune" / "half.txt"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    with pytest.raises(ArtifactError, match="unfinished"):
        folder.open_partial("tune", SETTINGS, {})
    assert half.read_text() == "half"


def test_a_failed_commit_leaves_no_artifact_that_looks_whole(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    (folder.open_partial("tune", SETTINGS, {}) / "half.txt").write_text("half")

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("satori.run_folder.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.commit("tune", SETTINGS, {}, seconds=1)
    assert not folder.path("tune").exists()
    assert not folder.is_complete("tune", SETTINGS, {})
    monkeypatch.undo()
    folder.open_partial("tune", SETTINGS, {})
    assert (folder.open_partial("tune", SETTINGS, {}) / "half.txt").read_text() == "half"


def test_remove_forgets_artifact_and_partial_work(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")
    (folder.open_partial("tune", SETTINGS, {}) / "half.txt").write_text("half")
    folder.remove("tune")
    assert folder.manifest("tune") is None
    assert list(folder.open_partial("tune", SETTINGS, {}).glob("half.txt")) == []
    folder.remove("never run")


@pytest.mark.parametrize("files_deleted", [0, 1, 2])
def test_a_stage_whose_removal_was_killed_is_gone(tmp_path, monkeypatch, files_deleted):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")

    def killed(path, **_):
        if path.exists():
            for file in sorted(path.iterdir())[:files_deleted]:
                file.unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr("satori.run_folder.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.remove("tune")
    monkeypatch.undo()
    assert folder.manifest("tune") is None
    finish(folder, "tune")
    folder.remove("tune")
    assert list(tmp_path.glob("*tune*")) == list(tmp_path.glob(".*.removed")) == []


def test_the_manifest_is_readable_json(tmp_path):
    folder = RunFolder(tmp_path)
    finish(folder, "tune")
    assert json.loads((folder.path("tune") / "manifest.json").read_text())["stage"] == "tune"


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_run_folder_where_a_file_is_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    refused = pytest.raises(ArtifactError, match=rf"{name} cannot be a folder: a file is in its place")
    with refused, RunFolder(tmp_path / name).held():
        pass


def test_a_run_folder_that_may_not_be_made_is_refused(tmp_path, monkeypatch):
    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", denied)  # tests may run as somebody who may write everywhere
    with pytest.raises(ArtifactError, match=r"out: Permission denied\. Use another --out"):
        RunFolder(tmp_path / "out").held().__enter__()


def test_a_folder_that_is_held_is_refused_and_free_again_afterwards(tmp_path):
    held, refused = RunFolder(tmp_path).held(), pytest.raises(ArtifactError, match="another run is at work in")
    with held, refused, RunFolder(tmp_path).held():
        pass
    with RunFolder(tmp_path).held():
        pass
