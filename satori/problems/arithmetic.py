"""The embedded problem family: sums of several numbers, asked as formulas or as small stories.

Why sums: a tiny model finds a sum of long numbers hard to write down at once (the highest digit comes first
and depends on every carry), and easy to check column by column from the lowest digit. Reflection has something to win
exactly where a step is harder to do than to verify. Five levels grow in digits and operands; a sixth, never trained
on, is the harder out-of-domain set.

A problem's split is a function of its operands alone, so train, validation and test are disjoint by construction
however many problems are drawn from each.
"""

import hashlib
import random
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum

from satori.coat import EXPLORE_OPENERS, REFLECT_OPENERS
from satori.types import Problem


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Level:
    """How hard a problem is: decimal digits of each operand, and number of operands."""

    digits: int
    operands: int


LEVELS: dict[int, Level] = {1: Level(2, 2), 2: Level(3, 2), 3: Level(4, 2), 4: Level(3, 3), 5: Level(4, 3)}
TEST_DRAW = 1
"""The seed of the test problems. Those of seed 0 were looked at while the tiny recipe was made (LOG.md)."""
HARDER_LEVEL = 6
HARDER = Level(4, 4)

_NAMES = ("Ann", "Ben", "Eva", "Ian", "Kim", "Leo", "Mia", "Tom")
_THINGS = ("pens", "nuts", "coins", "cards", "beads", "books", "stamps", "apples")
_MORE = ("buys", "finds", "gets", "wins", "makes")


def operands_key(operands: tuple[int, ...]) -> str:
    """What identifies a problem whatever its wording: its operands in any order."""
    return "+".join(str(n) for n in sorted(operands))


def split_of(operands: tuple[int, ...]) -> Split:
    """5% of all operand sets are test, 5% validation, decided by a hash of the operands."""
    bucket = hashlib.blake2b(operands_key(operands).encode(), digest_size=4, person=b"split 2").digest()
    share = int.from_bytes(bucket, "big") / 2**32
    return Split.TEST if share < 0.05 else Split.VALIDATION if share < 0.10 else Split.TRAIN


def solve(operands: tuple[int, ...]) -> tuple[str, ...]:
    """The plain solution: one more number added a step, the boxed answer at the end of the last."""
    steps = [f"{claim}." for claim in running_sums(operands)]
    return (*steps[:-1], f"{steps[-1]} \\boxed{{{sum(operands)}}}")


def word(operands: tuple[int, ...], rng: random.Random) -> str:
    """The question: a formula half of the time, a story otherwise."""
    if rng.random() < 0.5:
        return "+".join(str(n) for n in operands) + "=?"
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    events = ", ".join(f"{rng.choice(_MORE)} {n}" for n in operands[1:])
    return f"{name} has {operands[0]} {things}, {events}. How many {things}?"


def draw_operands(level: Level, rng: random.Random) -> tuple[int, ...]:
    low, high = 10 ** (level.digits - 1), 10**level.digits - 1
    return tuple(rng.randint(low, high) for _ in range(level.operands))


def make_problem(operands: tuple[int, ...], level: int, rng: random.Random) -> Problem:
    """A problem whose id is its level and operands."""
    return Problem(
        id=f"sum-{level}-{operands_key(operands)}",
        question=word(operands, rng),
        answer=str(sum(operands)),
        level=level,
        solution=solve(operands),
    )


def problem_stream(split: Split, seed: int, levels: tuple[int, ...] = tuple(LEVELS)) -> Generator[Problem, None, None]:
    """Endless distinct problems of a split, levels in turn, the same for the same seed.

    Level 1 has only a few hundred problems outside of training; where a level runs out its turn is skipped.
    Raises ValueError where all levels asked for have run out.
    """
    rng = random.Random(f"{split}-{seed}")
    seen: set[str] = set()
    while True:
        found = len(seen)
        for number in levels:
            level = HARDER if number == HARDER_LEVEL else LEVELS[number]
            for _ in range(1000):
                operands = draw_operands(level, rng)
                key = operands_key(operands)
                if key not in seen and split_of(operands) is split:
                    seen.add(key)
                    yield make_problem(operands, number, rng)
                    break
        if len(seen) == found:
            raise ValueError(f"there are no more than {found} {split} problems of levels {levels}")


# --- checking, column by column ---------------------------------------------------------------------------------

_CLAIM = re.compile(r"(?<![\d+])(\d{1,12}(?:\+\d{1,12}){1,8})=(\d{1,13})(?!\d)", re.ASCII)


@dataclass(frozen=True)
class Claim:
    """A sum stated in a text."""

    terms: tuple[int, ...]
    stated: int

    @property
    def true(self) -> bool:
        return sum(self.terms) == self.stated

    @property
    def formula(self) -> str:
        return "+".join(str(term) for term in self.terms)

    def __str__(self) -> str:
        return f"{self.formula}={self.stated}"


def running_sums(operands: tuple[int, ...]) -> list[Claim]:
    """The true claims of a solution: the running total plus the next number, step by step."""
    claims, total = [], operands[0]
    for number in operands[1:]:
        claims.append(Claim((total, number), total + number))
        total += number
    return claims


def read_claims(step: str) -> list[Claim]:
    """The sums a plain step states."""
    return [Claim(tuple(int(n) for n in left.split("+")), int(right)) for left, right in _CLAIM.findall(step)]


def column_check(claim: Claim) -> str:
    """The sum redone from the lowest column, each column held against the stated result, and the verdict.

    ``47+38: 7+8=15/5 4+3+1=8/9! so 85, not 95.`` After the slash stands what the claim states for the column, with an
    exclamation mark where it differs: a small model sees that two digits differ, but not that two numbers do. The
    carry is the last summand of a column that has one. The highest column is compared whole, so a claim is true just
    where no column is marked.
    """
    width, columns, carry = max(len(str(term)) for term in claim.terms), [], 0
    for place in range(width):
        digits = [term // 10**place % 10 for term in claim.terms]
        total, stated = sum(digits) + carry, claim.stated // 10**place
        right = total == stated if place == width - 1 else total % 10 == stated % 10
        shown = stated if place == width - 1 else stated % 10
        carried = f"+{carry}" if carry else ""
        columns.append(f"{'+'.join(map(str, digits))}{carried}={total}/{shown}{'' if right else '!'}")
        carry = total // 10
    verdict = "right." if claim.true else f"not {claim.stated}."
    return f"{claim.formula}: {' '.join(columns)} so {sum(claim.terms)}, {verdict}"


def check_claims(claims: list[Claim]) -> str:
    """The claims checked in order, up to and with the first wrong one."""
    checks = []
    for claim in claims:
        checks.append(column_check(claim))
        if not claim.true:
            break
    return " ".join(checks)


# --- pretraining texts ------------------------------------------------------------------------------------------


def misread(number: int, rng: random.Random) -> int:
    """A plausible wrong result: one digit off by one, as a forgotten or an invented carry gives."""
    place = int(10 ** rng.randrange(len(str(number))))
    wrong = number + rng.choice((-1, 1)) * place
    return wrong if wrong > 0 else number + place


@dataclass(frozen=True)
class PretrainingText:
    """A question, what stands in the answer already, and the rest of the answer, which is what is learned."""

    question: str
    given: str
    answer: str


def solution_text(rng: random.Random) -> PretrainingText:
    """A problem and its plain solution."""
    operands = draw_training_operands(rng)
    return PretrainingText(word(operands, rng), "", "\n".join(solve(operands)))


def check_text(rng: random.Random) -> PretrainingText:
    """A checking exercise: a given solution, whole or half-finished, whose sums may be wrong.

    The first sums may stand checked and put right already. The answer redoes the columns of the others up to the first
    mistake, puts that sum right, and goes on to the end of the problem. It speaks as people do when they check
    ("Wait. ..."), but there are no meta-actions in it, and no wrong sum is learned.
    """
    operands = draw_training_operands(rng)
    last = len(operands) - 1
    shown = rng.randint(1, last)
    checked = rng.randint(0, shown - 1)
    right, total = solve(operands), sum(operands[: checked + 1])
    given = "".join(f"{_checked_sum(claim, rng)}\n" for claim in running_sums(operands)[:checked])
    claims: list[Claim] = []
    for number in operands[checked + 1 : shown + 1]:
        claims.append(_perhaps_wrong((total, number), rng))
        total = claims[-1].stated
    given += "\n".join(f"{claim}." for claim in claims) + (f" \\boxed{{{total}}} " if shown == last else " ")
    answer = f"{rng.choice(REFLECT_OPENERS)} {check_claims(claims)}"
    wrong = next((i for i, claim in enumerate(claims, checked) if not claim.true), None)
    if wrong is not None:
        answer += f" {rng.choice(EXPLORE_OPENERS)} " + "\n".join(right[wrong:])
    elif shown == last:
        answer += f" \\boxed{{{total}}}"
    else:
        answer += "\n" + "\n".join(right[shown:])
    return PretrainingText("Check " + word(operands, rng), given, answer)


def _perhaps_wrong(terms: tuple[int, ...], rng: random.Random) -> Claim:
    return Claim(terms, misread(sum(terms), rng) if rng.random() < 0.4 else sum(terms))


def _checked_sum(true: Claim, rng: random.Random) -> str:
    """A stated sum, its check, and where it was wrong the true sum after it."""
    claim = _perhaps_wrong(true.terms, rng)
    text = f"{claim}. {rng.choice(REFLECT_OPENERS)} {column_check(claim)}"
    return text if claim.true else f"{text} {rng.choice(EXPLORE_OPENERS)} {true}."


def pretraining_texts(seed: int, check_share: float) -> Iterator[PretrainingText]:
    """Endless texts from the training split: plain solutions, and a share of checking exercises."""
    rng = random.Random(f"pretraining-{seed}")
    while True:
        yield check_text(rng) if rng.random() < check_share else solution_text(rng)


def draw_training_operands(rng: random.Random) -> tuple[int, ...]:
    """Operands of a random level, from the training split."""
    while True:
        operands = draw_operands(LEVELS[rng.choice(tuple(LEVELS))], rng)
        if split_of(operands) is Split.TRAIN:
            return operands
