"""A fuzz run of the grader: no crash, no hang, no process left behind, no answer late.

    python bench/fuzz_grading.py [--answers 200000] [--seed 0]

Answers are grown from a small grammar of LaTeX, from gold answers that are cut, joined and bitten, from literals and
table cells, and from plain noise; each is graded as every kind is, by chance, and in batches. The exit status is 1
where an answer took more than a second over its deadline, a wrong one was taken for right (gold and answer are chosen
so that none is meant to be equal), or a worker outlived the run.
"""

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path

from satori.grading import AnswerForm, AnswerKind, Status, close_pools, grade_all
from satori.grading.grader import DEADLINE

GOLDS = {
    AnswerKind.NUMBER: "7919",
    AnswerKind.LATEX: r"\frac{7919}{\sqrt{104729}}",
    AnswerKind.CHOICE: "J",
    AnswerKind.LABEL: "Uncertain",
    AnswerKind.LITERAL: "{'k7919': [104729]}",
    AnswerKind.CELL: "7919.104729",
}
UNEVALUATED = r"\log(7919x)+|y^{17}|"
"""A gold answer without a value that reading finds, so that whole answers go to the workers."""
SEEDS = (
    r"\frac{1}{2}", r"\left( 3, \frac{\pi}{2} \right)", r"x^2+2x+1", r"(-\infty, 3] \cup [5, \infty)", r"\{1,2,3\}",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"1 \pm \sqrt{19}", r"\text{Evelyn}", "10,080", r"90^\circ",
    "[1, 2, {'a': (3,)}]", "True", "None", "'x\\n'", "united states, 1,234", "-12.45%", "f(x)=x^{3}", r"\log_2 n",
    r"\sum_{k=1}^{n} k", r"\int_0^1 x dx", r"x \leq 3", r"\binom{n}{k}", r"|x-1|", r"5 \text{ cm}^2", "A", "(B)",
)  # fmt: skip
PIECES = (
    "{", "}", "(", ")", "[", "]", "\\{", "\\}", "^", "_", "+", "-", "/", "!", "=", "<", ",", ";", "&", "\\\\", "$", "%",
    "\\frac", "\\sqrt", "\\sin", "\\log", "\\pi", "\\infty", "\\cup", "\\pm", "\\text{", "\\left", "\\right",
    "\\boxed{", "\\begin{matrix}", "\\end{matrix}", "\\def", "\\x", "x", "y", "e", "i", "n", "0", "1", "9", "99999",
    "3.14", ".", " ", "\n", "\0", "\u202e", "\ud800", "３", "√", "π", "'", '"', "and", "or", "million", "\\cdot",
    "\\leq", "\\binom",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    statuses: Counter[str] = Counter()
    latest, right, started = 0.0, [], time.monotonic()
    for start in range(0, options.answers, 2000):
        items = [make_item(rng) for _ in range(min(2000, options.answers - start))]
        for (response, gold, form), grade in zip(items, grade_all(items), strict=True):
            statuses[f"{form.kind}: {grade.status}"] += 1
            latest = max(latest, grade.seconds)
            if grade.status is Status.CORRECT:
                right.append((str(form.kind), gold, response[:200]))
        if start % 20_000 == 0:
            print(f"{start} answers, {time.monotonic() - started:.0f} s, longest {latest:.2f} s", flush=True)
    close_pools()
    time.sleep(0.5)
    left = children()
    figures = {
        "answers": options.answers,
        "seconds": round(time.monotonic() - started, 1),
        "longest_seconds": round(latest, 3),
        "statuses": dict(sorted(statuses.items())),
        "taken_for_right": right,
        "processes_left": left,
    }
    print(json.dumps(figures, indent=2))
    return 1 if latest > DEADLINE + 1 or right or left else 0


def make_item(rng: random.Random) -> tuple[str, str, AnswerForm]:
    kind = rng.choice(list(GOLDS))
    labels = ("True", "False", "Uncertain|Unknown") if kind is AnswerKind.LABEL else ()
    form = AnswerForm(kind, labels=labels, multiple=rng.random() < 0.2)
    gold = UNEVALUATED if kind is AnswerKind.LATEX and rng.random() < 0.5 else GOLDS[kind]
    return f"\\boxed{{{make_answer(rng)}}}", gold, form


def make_answer(rng: random.Random) -> str:
    match rng.randrange(5):
        case 0:
            return expression(rng, rng.randint(1, 5))
        case 1:
            return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 30)))
        case 2:
            return bitten(rng, rng.choice(SEEDS))
        case 3:
            return rng.choice([",", " ", "+", "", "^"]).join(rng.choice(SEEDS) for _ in range(rng.randint(1, 4)))
        case _:
            return rng.choice(PIECES) * rng.randint(1, 2000)


def expression(rng: random.Random, depth: int) -> str:
    """A well-formed expression."""
    if depth == 0:
        return rng.choice(["x", "y", "n", r"\pi", "e", str(rng.randint(0, 20)), str(rng.randint(0, 10**6)), "0.5"])
    one, other = expression(rng, depth - 1), expression(rng, rng.randrange(depth))
    return rng.choice(
        [
            f"{one}+{other}", f"{one}-{other}", f"({one})({other})", rf"\frac{{{one}}}{{{other}}}", rf"\sqrt{{{one}}}",
            f"({one})^{{{other}}}", rf"\sin({one})", rf"\log({one})", f"|{one}|", f"({one}, {other})", f"{one}={other}",
            rf"{one} \leq {other}", rf"\{{{one}, {other}\}}", f"({one})!", rf"\lfloor {one} \rfloor", f"{one}, {other}",
        ]
    )  # fmt: skip


def bitten(rng: random.Random, text: str) -> str:
    """A text with a piece put in, taken out or doubled."""
    place = rng.randint(0, len(text))
    return rng.choice(
        [text[:place] + rng.choice(PIECES) + text[place:], text[:place] + text[place + 1 :], text[:place] * 2]
    )


def children() -> list[int]:
    """Processes that this one started and that still run."""
    return [int(word) for path in Path("/proc/self/task").glob("*/children") for word in path.read_text().split()]


if __name__ == "__main__":
    raise SystemExit(main())
