"""The live display: one for the whole run, a line a stage with rate, time left and the figure that matters.

Where the output is no terminal, a plain line is printed for each stage that starts and ends instead.
"""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from satori import ranks


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step where that is the larger number."""

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each", style="progress.data.speed")


class Task:
    """The progress of one stage; where other ranks wait for this one, it is its sign of life."""

    def __init__(self, display: "Display", name: str, line: TaskID) -> None:
        self._display, self._name, self._line = display, name, line

    def start(self, total: int, done: int = 0) -> None:
        """Say how many steps the stage (or its next part) has, and how many are done."""
        self._display.bars.reset(self._line, total=total, completed=done)
        ranks.sign_of_life()

    def advance(self, steps: int = 1) -> None:
        self._display.bars.advance(self._line, steps)
        ranks.sign_of_life()

    def note(self, text: str) -> None:
        """What to show beside the bar: the current loss or accuracy."""
        self._display.bars.update(self._line, note=text)

    def say(self, text: str) -> None:
        """A line that stays: what the stage has to work with."""
        self._display.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that stays: something that went wrong and does not stop the stage."""
        self._display.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def finish(self, text: str) -> None:
        total = self._display.bars.tasks[self._line].total or 1
        self._display.bars.update(self._line, total=total, completed=total, note=text)
        self._display.bars.stop_task(self._line)
        self._display.say(f"{self._name}: {text}")


class Display:
    """Context manager that owns the terminal while a run goes on."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        self.bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._started = time.monotonic()

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def task(self, name: str) -> Task:
        """A new line for a stage that starts."""
        self.say(f"{name}: started")
        return Task(self, name, self.bars.add_task(name, total=None, note=""))

    def say(self, text: str) -> None:
        """A plain line, where there is no live display to show it."""
        if self.bars.disable:
            self.console.print(f"[{time.monotonic() - self._started:6.0f} s] {text}", markup=False, highlight=False)
