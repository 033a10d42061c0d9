"""Trackers: what goes to JSON lines, metrics and sampled trajectories, to TensorBoard, trackio or Weights & Biases too.

The trackers are accelerate's. Each stage that trains is a run of its own, opened by the first thing it logs; names
carry the stage (`rl_1/reward`). What went where is kept beside the stage's other files, so that a stage that goes on
after a kill goes on in the same runs and sends no step twice; what a tracker had not written when it was killed
(trackio: half a second) is in the JSON lines alone. A tracker that fails is left with a warning: it never stops
training. System metrics are those that trackio and W&B take by themselves.
"""

import io
import json
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from accelerate import PartialState
from accelerate.tracking import (
    GeneralTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
    get_available_trackers,
)
from accelerate.utils import LoggerType
from pydantic import Field, field_validator

from satori import ranks
from satori.config import Settings
from satori.run_folder import write_text

FOLDER = "tracking"
"""Where in a run folder the trackers keep their files."""
_SENT = "tracking.json"
_TEXTS = ("question", "prefix", "response")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters and odd ends of lines. A renderer may drop them, and then two backticks, one of these and a third
backtick end a code fence that was long enough."""


class TrackingError(ValueError):
    """A tracker that was asked for is not installed."""


class TrackerKind(StrEnum):
    """What accelerate can send to, of those that we look after."""

    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"
    WANDB = "wandb"

    @property
    def extra(self) -> str:
        """The extra that installs it."""
        return "wandb" if self is TrackerKind.WANDB else "tracking"


class TrackingSettings(Settings):
    """Where metrics and sampled trajectories go beside the JSON lines. It shapes no artifact."""

    kinds: tuple[TrackerKind, ...] = ()
    """`tensorboard`, `trackio`, `wandb`, or several with commas between; their files are in RUN/tracking."""
    project: str = Field(default="satori", min_length=1)
    """Of trackio and W&B."""
    run_name: str = ""
    """Of trackio and W&B, the stage is added to it; empty: the run folder's name."""

    @field_validator("kinds", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("kinds")
    @classmethod
    def _once_each(cls, value: tuple[TrackerKind, ...]) -> tuple[TrackerKind, ...]:
        return tuple(dict.fromkeys(value))


def require_installed(settings: TrackingSettings) -> None:
    """Raise TrackingError where a tracker's package is missing, before a run starts."""
    missing = [kind for kind in settings.kinds if LoggerType(kind.value) not in get_available_trackers()]
    if missing:
        extras = ",".join(dict.fromkeys(kind.extra for kind in missing))
        raise TrackingError(
            f"tracking.kinds: {', '.join(missing)} not installed: pip install 'satori[{extras}]', or leave it out"
        )


@dataclass(frozen=True)
class TrackedStage:
    """Which stage of which run is tracked, and how."""

    settings: TrackingSettings
    root: Path
    """The run folder."""
    name: str
    folder: Path
    """The stage's working folder."""
    config: Mapping[str, object] = field(default_factory=dict)
    """What shapes the stage, for the trackers that show it."""

    @property
    def run_name(self) -> str:
        return f"{self.settings.run_name or self.root.resolve().name}-{self.name}"


NOT_TRACKED = TrackedStage(TrackingSettings(), Path(), "", Path())


@dataclass
class _Sent:
    """What a tracker was sent: under which id, and up to which step the numbers and the samples."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    step: int = -1
    samples: int = -1


@dataclass(frozen=True)
class _Open:
    """A tracker that is open, with what an earlier process sent it."""

    kind: TrackerKind
    tracker: GeneralTracker
    known: _Sent


class Trackers:
    """The trackers of one stage. Leaving the context closes them."""

    def __init__(self, stage: TrackedStage = NOT_TRACKED, warn: Callable[[str], None] = print) -> None:
        self._stage, self._warn = stage, warn
        self._unopened = list(stage.settings.kinds)
        self._open: list[_Open] = []
        self._sent: dict[TrackerKind, _Sent] = {}

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._open:
            self._attempt(one.kind, "could not be closed", one.tracker.finish)
        self._open = []

    def log(self, record: Mapping[str, Any]) -> None:
        """The numbers of a step, with the step, as they stand in metrics.jsonl."""
        step = record["step"]
        numbers = {
            f"{self._stage.name}/{name}": value
            for name, value in record.items()
            if name != "step" and isinstance(value, int | float)
        }
        self._send("step", step, lambda one: one.tracker.log(numbers, step=step))

    def log_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Sampled trajectories of a step, as they stand in samples.jsonl: a table where the tracker has one."""
        name = f"{self._stage.name}/samples"

        def send(one: _Open) -> None:
            if hasattr(one.tracker, "log_table"):
                columns, rows = as_table(samples)
                one.tracker.log_table(name, columns=columns, data=rows, step=step)
            else:
                one.tracker.log({name: _text(one.kind, as_markdown(samples))}, step=step)

        if samples:
            self._send("samples", step, send)

    def _send(self, what: Literal["step", "samples"], step: int, send: Callable[[_Open], None]) -> None:
        """Send a step's numbers or samples to every tracker that has not had them."""
        if self._unopened:
            self._open_all()
        for one in tuple(self._open):
            new = step > getattr(one.known, what)
            if new and not self._attempt(one.kind, "failed", partial(self._deliver, one, what, step, send)):
                self._open.remove(one)

    def _deliver(self, one: _Open, what: str, step: int, send: Callable[[_Open], None]) -> None:
        """Send, and keep in mind that it was sent."""
        send(one)
        setattr(self._sent[one.kind], what, step)
        text = json.dumps({kind: vars(sent) for kind, sent in self._sent.items()})
        with ranks.alone():  # the first rank's own business
            write_text(self._stage.folder / _SENT, text + "\n")

    def _open_all(self) -> None:
        self._sent = _read_sent(self._stage.folder / _SENT)
        while self._unopened:
            kind = self._unopened.pop(0)
            sent = self._sent.setdefault(kind, _Sent())

            def start(kind: TrackerKind = kind, sent: _Sent = sent) -> None:
                self._open.append(_Open(kind, open_tracker(kind, self._stage, sent.id, sent.step), replace(sent)))

            self._attempt(kind, "could not be opened", start)

    def _attempt(self, kind: TrackerKind, trouble: str, action: Callable[[], object]) -> bool:
        """Whether it went well; otherwise there was a warning."""
        silenced = redirect_stdout(io.StringIO()) if kind is TrackerKind.TRACKIO else nullcontext()
        try:
            with silenced:  # trackio says how to show a folder that is not ours, and more
                action()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, training goes on
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._warn(f"{self._stage.name} goes on without {kind}, which {trouble} ({said}); metrics.jsonl has it all")
            return False
        return True


def open_tracker(kind: TrackerKind, stage: TrackedStage, run_id: str, known: int) -> GeneralTracker:
    """Start a tracker for a stage, or go on with one that was sent steps up to ``known`` under this id."""
    PartialState()  # accelerate's trackers log through it
    place = (stage.root / FOLDER).resolve()
    place.mkdir(parents=True, exist_ok=True)
    project, config = stage.settings.project, dict(stage.config)
    tracker: GeneralTracker
    if kind is TrackerKind.TENSORBOARD:  # hides what a stage that was made again sent before
        tracker = TensorBoardTracker(stage.name, place / "tensorboard", purge_step=known + 1)
    elif kind is TrackerKind.TRACKIO:
        os.environ.setdefault("TRACKIO_DIR", str(place / "trackio"))  # it is read when trackio is imported
        resume = "allow" if known >= 0 else "never"
        tracker = TrackioTracker(project, name=stage.run_name, resume=resume, config=config)
    else:
        os.environ.setdefault("WANDB_LOGIN_TIMEOUT", "60")  # nobody may be there to answer hours into a run
        tracker = WandBTracker(project, name=stage.run_name, id=run_id, resume="allow", dir=str(place), config=config)
    tracker.start()
    return tracker


def _read_sent(path: Path) -> dict[TrackerKind, _Sent]:
    """What an interrupted run of the stage sent; nothing where its note is missing or cannot be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {
            TrackerKind(kind): _Sent(str(sent["id"]), int(sent["step"]), int(sent["samples"]))
            for kind, sent in kept.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# --- sampled trajectories -----------------------------------------------------------------------------------------


def as_table(samples: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[object]]]:
    """Columns and rows, the reward in its parts."""
    flat = [_flat(sample) for sample in samples]
    columns = list(flat[0])
    return columns, [[row.get(column) for column in columns] for row in flat]


def as_markdown(samples: Sequence[Mapping[str, Any]]) -> str:
    """Each trajectory's short values and its texts, all in code fences."""
    parts = []
    for number, sample in enumerate(samples, start=1):
        flat = _flat(sample)
        texts = {name: str(flat.pop(name, "")) for name in _TEXTS}
        short = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in flat.items()}
        parts += [f"### {number}", fenced("\n".join(f"{name}: {value}" for name, value in short.items()))]
        parts += [f"{name}\n\n{fenced(text)}" for name, text in texts.items() if text]
    return "\n\n".join(parts)


def fenced(text: str) -> str:
    """Text as a Markdown code block that it cannot end: the fence is longer than any run of backticks in it."""
    plain = plain_text(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{fence}\n{plain}\n{fence}"


def plain_text(text: str) -> str:
    """Text that every tracker can store: nothing unseen in it, half of a surrogate pair as its escape."""
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", whole.replace("\r\n", "\n"))


def _flat(sample: Mapping[str, Any]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in sample.items():
        inner = {f"{name}_{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        flat |= {key: plain_text(v) if isinstance(v, str) else v for key, v in inner.items()}
    return flat


def _text(kind: TrackerKind, markdown: str) -> object:
    """Text as a tracker takes it that has no tables in accelerate."""
    if kind is not TrackerKind.TRACKIO:
        return markdown
    from trackio import Markdown  # an extra

    return Markdown(markdown)
