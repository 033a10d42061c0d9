"""A run folder: one sub-folder of artifacts a stage, each with a manifest that says what made it.

A stage works in ``.partial/STAGE`` and is renamed to ``STAGE`` when it is complete, so what stands in the run folder
is whole. The manifest holds the stage's settings and a fingerprint over those and the fingerprints of the stages it
read. A complete stage of the same fingerprint is skipped, and a partial one handed back to the stage, which goes on
from what it finds there; of another fingerprint both are refused, naming what differs.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from satori import ranks

FORMAT = 2
MANIFEST = "manifest.json"
_MARK = "unfinished.json"
"""A partial folder's manifest."""
CHECKPOINTS = "checkpoints"
"""The sub-folder in which a stage keeps what it resumes from. It stays until the artifact stands."""
_AS_JSON_ESCAPES = "backslashreplace"
"""Half of a surrogate pair, which a model may say, has no UTF-8; it is written the way JSON escapes it."""


class ArtifactError(ValueError):
    """An artifact is missing, broken, or belongs to another configuration."""


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file. Raises ArtifactError naming file and line where one is not a JSON object."""
    if not path.exists():
        raise ArtifactError(f"{path} does not exist")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            yield read_record(line, f"{path}, line {number}")


def read_record(line: bytes, place: str) -> dict[str, Any]:
    """A JSON object, such as a line of a JSON-lines file. Raises ArtifactError naming its place where it is none."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{place}: not valid JSON in UTF-8 ({error})") from error
    if not isinstance(record, dict):
        raise ArtifactError(f"{place}: expected a JSON object, found {type(record).__name__}")
    return record


def drop_cut_line(path: Path) -> None:
    """Take away what a kill left half written: all behind the end of the last whole line."""
    with path.open("r+b") as lines:
        whole = 0
        for line in lines:
            whole += len(line) if line.endswith(b"\n") else 0
        lines.truncate(whole)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records to a file aside and rename it into place: the first rank does, and all see it afterwards."""
    if ranks.is_first():
        aside = path.with_name(path.name + ".writing")
        with aside.open("w", encoding="utf-8", errors=_AS_JSON_ESCAPES) as lines:
            lines.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        aside.replace(path)
    ranks.meet(f"writing {path.name}")


def write_text(path: Path, text: str) -> None:
    """Write a text file aside and rename it into place: the first rank does, and all see it afterwards."""
    if ranks.is_first():
        aside = path.with_name(path.name + ".writing")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    ranks.meet(f"writing {path.name}")


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Append one record, such as a step's metrics: the first rank does, and the others do not wait for it."""
    if ranks.is_first():
        with path.open("a", encoding="utf-8", errors=_AS_JSON_ESCAPES) as lines:
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def forget_after(path: Path, step: int) -> None:
    """Drop records of steps that will be taken again; a line cut short by a kill goes with them. Raises ArtifactError
    where another line is broken."""
    kept = []
    if ranks.is_first() and path.exists():
        drop_cut_line(path)
        kept = [record for record in read_jsonl(path) if record["step"] < step]
    write_jsonl(path, kept)


def fingerprint(settings: dict[str, Any], inputs: dict[str, str]) -> str:
    """What identifies an artifact: the settings that shaped it and the artifacts it was made from."""
    return text_digest(json.dumps({"format": FORMAT, "settings": settings, "inputs": inputs}, sort_keys=True))


def text_digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two nested settings differ: ``rl.temperature: 1.0 there, 0.6 asked for``."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path}: {old!r} there, {new!r} asked for"]


def _made_by(settings: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    """What a manifest says of the configuration."""
    return {"fingerprint": fingerprint(settings, inputs), "settings": settings, "inputs": inputs}


def _unlike(manifest: dict[str, Any], settings: dict[str, Any], inputs: dict[str, str]) -> str:
    """In what a manifest's configuration is another one than that asked for."""
    found = differences(manifest["settings"], settings) or [
        f"it was made from another {name}" for name, value in inputs.items() if manifest["inputs"].get(name) != value
    ]
    return "; ".join(found) or "another version"


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest, None where there is none. Raises ArtifactError where the file is no manifest."""
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path}: not valid JSON ({error}); delete {path.parent} to make it again") from error
    if not isinstance(manifest, dict) or not {"fingerprint", "settings", "inputs"} <= manifest.keys():
        raise ArtifactError(f"{path}: not a manifest; delete {path.parent} to make it again")
    return manifest


class RunFolder:
    """The artifacts of one run, by stage name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it when the process ends, however it ends.

        Raises ArtifactError where another process holds it: two runs would write the same files; and where a file is
        in its place, or nothing may be written there.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            opened = (self.root / ".lock").open("w")
        except (FileExistsError, NotADirectoryError) as error:
            raise ArtifactError(f"{self.root} cannot be a folder: a file is in its place. Use another --out") from error
        except PermissionError as error:
            raise ArtifactError(f"{error.filename}: {error.strerror}. Use another --out") from error
        with opened as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(
                    f"another run is at work in {self.root}: wait for it to end, or use another --out"
                ) from None
            yield

    def path(self, stage: str) -> Path:
        return self.root / stage

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a complete stage, None where the stage has not run."""
        return _read_manifest(self.path(stage) / MANIFEST)

    def input_fingerprints(self, stage: str, inputs: Iterable[str]) -> dict[str, str]:
        """Fingerprints of the stages that a stage reads. Raises ArtifactError where one has not run."""
        prints = {}
        for name in inputs:
            manifest = self.manifest(name)
            if manifest is None:
                raise ArtifactError(
                    f"{stage} needs the artifact {self.path(name)}, which does not exist: run the command that makes "
                    "it first (satori --help), or satori run, which makes all in order"
                )
            prints[name] = manifest["fingerprint"]
        return prints

    def is_complete(self, stage: str, settings: dict[str, Any], inputs: dict[str, str]) -> bool:
        """True where the stage is done with just these settings and inputs; ArtifactError where done with others."""
        manifest = self.manifest(stage)
        if manifest is None:
            return False
        if manifest["fingerprint"] == fingerprint(settings, inputs):
            return True
        raise ArtifactError(
            f"{self.path(stage)} was made by another configuration ({_unlike(manifest, settings, inputs)}). "
            f"Use another --out, or satori run with --redo {stage} to make it and what follows from it again."
        )

    def is_begun(self, stage: str, settings: dict[str, Any], inputs: dict[str, str]) -> bool:
        """True where an interrupted run of the same configuration has left work; ArtifactError where one of another
        configuration has: it may be a night's."""
        partial = self.root / ".partial" / stage
        found = _read_manifest(partial / _MARK)
        if found and found["fingerprint"] == fingerprint(settings, inputs):
            return True
        files = [path for path in partial.rglob("*") if path.is_file() and not path.name.startswith(_MARK)]
        if any(path.stat().st_size for path in files):
            other = _unlike(found, settings, inputs) if found else f"it has no {_MARK}"
            raise ArtifactError(
                f"{partial} holds unfinished work of another configuration ({other}). "
                f"Go on with that one, use another --out, or satori run with --redo {stage} to drop the work and begin "
                "again."
            )
        return False

    def open_partial(self, stage: str, settings: dict[str, Any], inputs: dict[str, str]) -> Path:
        """The folder to work in: what an interrupted run of the same configuration left, or an empty one.

        Raises ArtifactError where one of another configuration has left work.
        """
        partial = self.root / ".partial" / stage
        if self.is_begun(stage, settings, inputs):
            return partial
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_text(partial / _MARK, json.dumps(_made_by(settings, inputs)) + "\n")
        return partial

    def commit(self, stage: str, settings: dict[str, Any], inputs: dict[str, str], seconds: float) -> None:
        """Make a finished partial folder the stage's artifact, and delete what it would have resumed from."""
        partial = self.root / ".partial" / stage
        manifest = {"stage": stage, **_made_by(settings, inputs), "seconds": round(seconds, 2)}
        write_text(partial / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        os.replace(partial, self.path(stage))
        (self.path(stage) / _MARK).unlink()
        shutil.rmtree(self.path(stage) / CHECKPOINTS, ignore_errors=True)

    def remove(self, stage: str) -> None:
        """Forget a stage's artifact and whatever an interrupted run of it left. Killed meanwhile, no half is left."""
        for folder in (self.path(stage), self.root / ".partial" / stage):
            aside = folder.with_name(f".{stage}.removed")
            shutil.rmtree(aside, ignore_errors=True)
            if folder.exists():
                os.replace(folder, aside)
            shutil.rmtree(aside, ignore_errors=True)
