"""The grader against math-verify called bare in one process: the same (gold, answer) pairs, in the same run.

    python bench/grading.py --data DIR [--runs 5] [--pairs 6000]

DIR holds ``math500_test.jsonl`` and ``olympiadbench_test.jsonl`` in their authors' formats. Every gold answer makes six
pairs: itself; respelled; itself times one, plus nothing; plus one; another problem's gold; another problem's
respelled. Bare math-verify parses and verifies each pair with its timeouts off (they need the main thread's alarm and
would make it slower). Runs are interleaved; every run of ours starts with empty caches and
new workers. A third contender is ours with
one answer in a hundred replaced by a hostile one.
"""

import argparse
import json
import logging
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from math_verify import parse, verify

from satori.benchmarks.math500 import MATH500
from satori.benchmarks.olympiadbench import OLYMPIADBENCH
from satori.grading import AnswerForm, AnswerKind, Grade, Status, close_pools, grade_all
from satori.grading import grader as grader_module
from satori.grading import numeric as numeric_module

Item = tuple[str, str, AnswerForm]
HOSTILE = (
    r"9^{9^{9^{9}}}",
    r"x \leq (a+b+c+d)^{60}",
    r"x = \log((a+b+c+d)^{90}-(a+b+c-d)^{90})",
    r"(10^{10})!",
    r"3!!!!!!!!",
    "{" * 100_000 + "}" * 100_000,
    "7" * 1_000_000,
    r"\sum_{n=1}^{10^{100}} n^{n}",
    r"\log((a+b+c+d)^{90}-(a+b+c-d)^{90})",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
    r"\boxed{" * 1000,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of benchmark files")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=6000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    items = make_items(options.data)[: options.pairs]
    rng = random.Random(1)
    hostile = [(f"\\boxed{{{rng.choice(HOSTILE)}}}", gold, form) for _, gold, form in items]
    mixed = [hostile[i] if i % 100 == 50 else item for i, item in enumerate(items)]
    contenders: dict[str, Callable[[], Sequence[Any]]] = {
        "satori": lambda: ours(items),
        "math_verify": lambda: bare(items),
        "satori_hostile": lambda: ours(mixed),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    longest = 0.0
    for _ in range(options.runs):
        for name, contender in contenders.items():
            if name != "math_verify":
                fresh()
            started = time.perf_counter()
            result = contender()
            speeds[name].append(len(items) / (time.perf_counter() - started))
            if name == "satori_hostile":
                longest = max(longest, *(grade.seconds for grade in result))
    print(
        json.dumps(
            summary(speeds) | {"answers": len(items), "longest_wait_seconds": longest} | agreement(items), indent=2
        )
    )


def make_items(data: Path) -> list[Item]:
    """Responses with their gold answers and forms, shuffled."""
    problems = [p for benchmark in (MATH500, OLYMPIADBENCH) for p in benchmark.load(data).problems]
    rng = random.Random(0)
    others = rng.sample(problems, len(problems))
    answers = [
        variant
        for problem, other in zip(problems, others, strict=True)
        for variant in (
            (problem.answer, problem),
            (respell(problem.answer), problem),
            (f"1 \\cdot ({problem.answer}) + 0", problem),
            (f"{problem.answer} + 1", problem),
            (other.answer, problem),
            (respell(other.answer), problem),
        )
    ]
    items = [(f"\\boxed{{{answer}}}", problem.answer, problem.form) for answer, problem in answers]
    rng.shuffle(items)
    return items


def respell(answer: str) -> str:
    return answer.replace("\\frac", "\\dfrac").replace("(", "\\left( ").replace(")", " \\right)").replace(",", ", ")


def fresh() -> None:
    """Empty caches and new workers, ready to work; starting Python and importing sympy is not timed."""
    close_pools()
    grader_module.clear_caches()
    numeric_module.value.cache_clear()
    form = AnswerForm(AnswerKind.LATEX)
    grade_all([(rf"\boxed{{x+{n}}}", f"{n}+x", form) for n in range(8)])


def ours(items: Sequence[Item]) -> list[Grade]:
    return grade_all(items)


def bare(items: Sequence[Item]) -> list[bool]:
    return [
        verify(parse(f"${gold}$", parsing_timeout=0), parse(response, parsing_timeout=0), timeout_seconds=0)
        for response, gold, _ in items
    ]


def agreement(items: Sequence[Item]) -> dict[str, object]:
    """How often both say the same, and which of them says right where they differ."""
    verdicts = zip((g.status is Status.CORRECT for g in grade_all(items)), bare(items), strict=True)
    pairs = list(verdicts)
    return {
        "agree": sum(one == other for one, other in pairs),
        "only_satori_right": sum(one and not other for one, other in pairs),
        "only_math_verify_right": sum(other and not one for one, other in pairs),
        "differing": [
            {"response": response, "gold": gold, "satori": one}
            for (response, gold, _), (one, other) in zip(items, pairs, strict=True)
            if one != other
        ],
    }


def summary(speeds: dict[str, list[float]]) -> dict[str, object]:
    """Answers a second, and the ratios run by run: median, least and greatest."""
    ratios = {
        "satori_vs_math_verify": [a / b for a, b in zip(speeds["satori"], speeds["math_verify"], strict=True)],
        "hostile_vs_clean": [a / b for a, b in zip(speeds["satori_hostile"], speeds["satori"], strict=True)],
    }
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in (speeds | ratios).items()
    }


if __name__ == "__main__":
    main()
