"""All benchmarks by name, and how a command line names them.

``all``, ``maths`` (the paper's first table), ``ood`` (its second), names, and ``reasoning-gym:NAME[,size=N,seed=S]``
for any procedural task of that library; several with spaces or commas between. ``tiny`` and ``tiny-harder`` are the
embedded family's test problems, which ``all`` does not name.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from satori.benchmarks.aime2024 import AIME2024
from satori.benchmarks.amc2023 import AMC2023
from satori.benchmarks.base import Benchmark, Loaded, ProblemSet
from satori.benchmarks.boardgameqa import BOARDGAMEQA
from satori.benchmarks.cruxeval import CRUXEVAL
from satori.benchmarks.embedded import TINY, TINY_HARDER
from satori.benchmarks.folio import FOLIO
from satori.benchmarks.gsm8k import GSM8K
from satori.benchmarks.math500 import MATH500
from satori.benchmarks.mmlu_pro_stem import MMLU_PRO_STEM
from satori.benchmarks.olympiadbench import OLYMPIADBENCH
from satori.benchmarks.rows import BenchmarkError
from satori.benchmarks.strategyqa import STRATEGYQA
from satori.benchmarks.tablebench import TABLEBENCH
from satori.problems.out_of_domain import reasoning_gym_problems, reasoning_gym_tasks

# In the order of the paper's tables.
MATHS = (GSM8K, MATH500, OLYMPIADBENCH, AMC2023, AIME2024)
OUT_OF_DOMAIN = (FOLIO, BOARDGAMEQA, CRUXEVAL, STRATEGYQA, TABLEBENCH, MMLU_PRO_STEM)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({b.name: b for b in MATHS + OUT_OF_DOMAIN})
GROUPS: Mapping[str, tuple[Benchmark, ...]] = MappingProxyType(
    {"all": MATHS + OUT_OF_DOMAIN, "maths": MATHS, "ood": OUT_OF_DOMAIN}
)
_SINGLE: Mapping[str, ProblemSet] = MappingProxyType({**BENCHMARKS, TINY.name: TINY, TINY_HARDER.name: TINY_HARDER})

_PREFIX = "reasoning-gym:"
_OPTION = re.compile(r"(size|seed)=(.*)", re.DOTALL)
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class ReasoningGymSet:
    """Problems of a reasoning-gym task, made on the spot and scored by the task itself."""

    task: str
    size: int = 100
    seed: int = 0
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        size = f",size={self.size}" if self.size != ReasoningGymSet.size else ""
        seed = f",seed={self.seed}" if self.seed != ReasoningGymSet.seed else ""
        return _PREFIX + self.task + size + seed

    @property
    def title(self) -> str:
        return self.task

    @property
    def out_of_domain(self) -> bool:
        return True

    def load(self, data: Path | None = None) -> Loaded:
        """The problems; no folder is needed. Raises BenchmarkError where the task cannot be made or graded."""
        try:
            problems = reasoning_gym_problems(self.task, self.size, self.seed)
        except ValueError as error:
            raise BenchmarkError(str(error)) from error
        return Loaded(problems=tuple(problems), expected=self.size, found=len(problems))


def parse_benchmarks(words: Sequence[str]) -> list[ProblemSet]:
    """What the words name, each once, in their order. Raises BenchmarkError for a name that means nothing."""
    found: dict[str, ProblemSet] = {}
    for item in _items(words):
        sets: Iterable[ProblemSet]
        if item[0].startswith(_PREFIX):
            sets = [_reasoning_gym(item[0].removeprefix(_PREFIX), item[1:])]
        else:
            sets = GROUPS.get(item[0]) or [_benchmark(item[0])]
        found |= {problem_set.name: problem_set for problem_set in sets}
    if not found:
        raise BenchmarkError(f"no benchmark named; there are {_all_names()}")
    return list(found.values())


def _items(words: Sequence[str]) -> list[list[str]]:
    """Each name, followed by its options."""
    items: list[list[str]] = []
    for part in (part.strip() for word in words for part in word.split(",")):
        if _OPTION.fullmatch(part) and items and items[-1][0].startswith(_PREFIX):
            items[-1].append(part)
        elif part:
            items.append([part])
    return items


def _benchmark(name: str) -> ProblemSet:
    if name not in _SINGLE:
        raise BenchmarkError(f"unknown benchmark {name!r}{_close(name, [*_SINGLE, *GROUPS])}; there are {_all_names()}")
    return _SINGLE[name]


def _reasoning_gym(task: str, options: Sequence[str]) -> ReasoningGymSet:
    tasks = reasoning_gym_tasks()
    if task not in tasks:
        raise BenchmarkError(f"reasoning-gym has no task {task!r}{_close(task, tasks)}; it has {', '.join(tasks)}")
    values = {"size": ReasoningGymSet.size, "seed": ReasoningGymSet.seed}
    for option in options:
        key, _, value = option.partition("=")
        if not _WHOLE.fullmatch(value) or (key == "size" and int(value) == 0):
            raise BenchmarkError(f"{_PREFIX}{task}: {key} is {value!r}; expected a whole number, a size above 0")
        values[key] = int(value)
    return ReasoningGymSet(task, values["size"], values["seed"])


def _close(name: str, names: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name.lower(), names)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def _all_names() -> str:
    return ", ".join([*GROUPS, *_SINGLE, f"{_PREFIX}NAME[,size=N,seed=S]"])
