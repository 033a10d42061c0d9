"""A symbolic critic for free text: it works the arithmetic of each step out again, and needs no reference solution.

It reads the equations that stand in a text in figures (``12 + 7 = 19``, ``$3 \\times 4 = 12$``,
``48/2 = <<48/2=24>>24``, chains ``a = b = c``) and holds both sides against each other in exact fractions. The first
that is false is the mistake. It is made for problems whose steps are mostly sums (GSM8K, reasoning-gym) and for runs
without a large critic at hand (paper section 4.1 asks Llama-3.1-70B).

It is careful rather than complete: an equation that could be meant otherwise (letters, units, words for numbers, a
result that may be rounded) is never called false. What it leaves out: everything that is wrong but not in figures.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from satori.synthesis.agents import Mistake, PartialSolution, Unusable, Verification
from satori.synthesis.claim_parser import (
    SHARE,
    Run,
    Side,
    Token,
    TokenKind,
    evaluate,
    read_numbers,
    read_runs,
    read_side,
)

_LONGEST_STEP = 20_000
_MOST_DECIMALS = 6
_CLOSE = Fraction(1, 100)

_NOT_BEFORE = frozenset(
    """of times plus minus by over divided multiplied per percent half third quarter twice double triple squared cubed
    root sqrt sum product difference quotient mod modulo log ln sin cos tan less more than base""".split()
)
"""Words that make an equation behind them a part of something larger."""
_NOT_AFTER = frozenset(
    """dozen dozens gross score pair pairs hundred hundreds thousand thousands million millions billion billions
    trillion remainder rem mod modulo times plus minus over divided multiplied of percent cent cents pence squared cubed
    half halves third thirds quarter quarters tenths""".split()
)
"""Words that make a number before them another one."""
_ORDINARY_COMMANDS = frozenset(
    r"\text \textbf \mathrm \mathbf \mbox \quad \qquad \end \Rightarrow \rightarrow \implies \therefore \to".split()
)
_LETTERS_THAT_ARE_WORDS = frozenset("aAI")
_STOPS_BEFORE = frozenset(["", *".,;:[“\"‘'`|-–—", "\\\\", "\\(", "\\[", "=>", "->"])
_STOPS_AFTER = frozenset(["", *".,;:]”\"’'`|–—", "\\\\", "\\)", "\\]", "=>", "->"])


@dataclass(frozen=True)
class Equation:
    """Two sides of an equation as they stand in a text, worked out; ``result`` is the place of the right one where that
    is a plain number."""

    left: str
    left_value: Fraction
    right: str
    right_value: Fraction
    start: int
    result: tuple[int, int] | None
    true: bool

    @property
    def exact(self) -> bool:
        return self.left_value == self.right_value

    def __str__(self) -> str:
        return _in_math(f"{self.left} = {self.right}")


class ClaimCritic:
    """Verifies steps whose equations all hold, and finds the first equation that does not."""

    async def verify(self, partial: PartialSolution, seed: int) -> Verification | Unusable:
        equations = [equation for step in partial.steps for equation in read_equations(step)]
        if not all(equation.true for equation in equations):
            return Unusable("a false sum in a right solution")
        shown = list(dict.fromkeys(str(equation) for equation in equations if equation.exact))[-2:]
        if not shown:
            return Unusable("no sum to check")
        return Verification(" and ".join(shown) + (" holds." if len(shown) == 1 else " hold."))

    async def find_mistake(self, partial: PartialSolution, reviewed_from: int, seed: int) -> Mistake | Unusable:
        for index in range(reviewed_from, len(partial.steps)):
            step = partial.steps[index]
            equations = read_equations(step)
            wrong = next((equation for equation in equations if not equation.true), None)
            if wrong is not None:
                corrected = put_right(step, equations, wrong)
                direction = "" if corrected is not None else f"Work out {_in_math(wrong.left)} again."
                return Mistake(index, _explain(wrong), direction, corrected)
        return Unusable("no false sum")


def read_equations(step: str) -> list[Equation]:
    """The equations of a step that are true or surely false, in order."""
    runs = read_runs(step[:_LONGEST_STEP])
    return sorted((equation for run in runs for equation in _equations_of(step, run)), key=lambda found: found.start)


def _equations_of(step: str, run: Run) -> Iterator[Equation]:
    sides = [read_side(part) for part in _split(run.inside)]
    worked_out = False
    for number, (left, right) in enumerate(pairwise(sides)):
        if left is None or right is None or (number == 0 and not _begins_freely(run)):
            worked_out = False
            continue
        worked_out = worked_out or left.is_formula
        if not worked_out:  # 60 = 1 hour: a number alone on the left is a unit, a name or a list
            continue
        true = _same(left, right, may_be_negative=number == 0 and run.before.text == "-")
        if true or number + 2 < len(sides) or _ends_freely(step, run):
            yield _equation(step, left, right, true)


def _equation(step: str, left: Side, right: Side, true: bool) -> Equation:
    start, end = left.tokens[0].start, left.tokens[-1].end
    result = right.number
    first, last = result or (right.tokens[0].start, right.tokens[-1].end)
    sign = "%" if result and right.has_percent else ""
    return Equation(
        left=_plain(step[start:end]),
        left_value=left.value,
        right=_plain(step[first:last]) + sign,
        right_value=right.value,
        start=start,
        result=result,
        true=true,
    )


def _split(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens between the signs of equality, without a bracket around the whole equation."""
    sides: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind is TokenKind.EQUALS:
            sides.append([])
        else:
            sides[-1].append(token)
    first, last = sides[0], sides[-1]
    for opening, closing in ("()", "{}"):
        if first and first[0].text == opening and _count(first, opening) > _count(first, closing):
            del first[0]
        if last and last[-1].text == closing and _count(last, closing) > _count(last, opening):
            del last[-1]
    return sides


def _count(tokens: Sequence[Token], text: str) -> int:
    return sum(token.text == text for token in tokens)


def _begins_freely(run: Run) -> bool:
    """Whether what stands before a run is surely no part of its first expression."""
    before, first = run.before, run.inside[0]
    if before.kind is TokenKind.WORD:
        return first.text != "-" and before.end < first.start and _is_word(before.text, _NOT_BEFORE)
    glued = before.end == first.start and before.text in (".", ",", ":", ";", "'")
    return before.text in _STOPS_BEFORE and not glued and (first.text != "-" or before.text in ("", ":"))


def _ends_freely(step: str, run: Run) -> bool:
    """Whether what stands behind a run surely does not change its last number."""
    after = run.after
    if after.kind is TokenKind.WORD:
        return run.inside[-1].end < after.start and _is_word(after.text, _NOT_AFTER)
    return after.text in _STOPS_AFTER and not step[after.end : after.end + 1].isdigit()


def _is_word(text: str, but_for: frozenset[str]) -> bool:
    """Whether a text is an ordinary word, not a variable, a function or one of the exceptions."""
    if text.startswith("\\"):
        return text in _ORDINARY_COMMANDS
    return text.lower() not in but_for and (len(text) > 1 or text in _LETTERS_THAT_ARE_WORDS)


def _same(left: Side, right: Side, may_be_negative: bool) -> bool:
    """Whether two sides are equal in any way that they can be meant: a percentage is a share or a number, a result is
    rounded or cut off, a dash before the first side is a bullet or a minus."""
    unit = Fraction(1, 10**right.decimals)
    lefts = [left.value, *([evaluate(left.tokens, Fraction(1))] if left.has_percent else [])]
    rights = [(right.value, unit * SHARE if right.has_percent else unit)]
    if right.has_percent:
        rights.append((evaluate(right.tokens, Fraction(1)) or right.value, unit))
    if may_be_negative:
        lefts.append(evaluate((Token(TokenKind.SIGN, "-", 0, 0), *left.tokens)))
    inexact = left.has_decimals or right.has_decimals
    for one in lefts:
        for other, step in rights:
            if one is None:
                continue
            rounded = abs(one - other) < step and (one / step).denominator != 1
            near = inexact and abs(one - other) <= abs(one) * _CLOSE
            if one == other or (rounded if right.number else near):
                return True
    return False


def put_right(step: str, equations: Sequence[Equation], wrong: Equation) -> str | None:
    """The step with the true result in place of the false one; None where more would have to change.

    Behind the last equation of a step its result may be told again: there it is replaced as well, unless the same
    number stood in the step before and may be meant.
    """
    if wrong.result is None or wrong.right.endswith("%") or len(step) > _LONGEST_STEP:
        return None
    places = {e.result for e in equations if e.result and _is_same(e, wrong)}
    ends = {end for _, end in places}
    told = {(t.start, t.end) for t in read_numbers(step) if t.value == abs(wrong.right_value) and t.end not in ends}
    if any(place > wrong.result for place in told):
        is_last = all(_is_same(e, wrong) for e in equations if e.start >= wrong.start)
        if not is_last or any(place < wrong.result for place in told):
            return None
        places |= told
    right = _figures(wrong.left_value, wrong.right)
    for start, end in sorted(places, reverse=True):
        step = step[:start] + right + step[end:]
    return step


def _is_same(equation: Equation, wrong: Equation) -> bool:
    """Whether it says the same as a false one: a note for a calculator and the text around it do."""
    return (equation.left_value, equation.right_value) == (wrong.left_value, wrong.right_value) and not equation.true


def _explain(wrong: Equation) -> str:
    """Why an equation is false: ``12 + 7 is 19, not 20.``"""
    left, value = _in_math(wrong.left), _figures(wrong.left_value, wrong.right)
    if wrong.result is not None:
        return f"{left} is {value}, not {wrong.right}."
    return f"{left} is {value}, but {_in_math(wrong.right)} is {_figures(wrong.right_value, '')}."


def _figures(value: Fraction, like: str) -> str:
    """A value as a number, written like another one; rounded where its decimals do not end."""
    grouped = "," if "," in like else ""
    if value.denominator == 1:
        return f"{value.numerator:{grouped}}"
    for decimals in range(1, _MOST_DECIMALS + 1):
        if (value * 10**decimals).denominator == 1:
            break
    else:
        decimals = max(2, len(like.partition(".")[2].rstrip("%")))
    scaled = round(abs(value) * 10**decimals)
    whole, part = divmod(scaled, 10**decimals)
    return f"{'-' if value < 0 else ''}{whole:{grouped}}.{part:0{decimals}d}"


_MARKUP = re.compile(r"\\?\$|\*\*|<<[^<>\n]{0,200}>>|[£€&]")


def _plain(text: str) -> str:
    """An expression as it is shown: without signs of money and of markup, and in one line."""
    return " ".join(_MARKUP.sub("", text).split())


def _in_math(text: str) -> str:
    """LaTeX between dollars, other text as it is."""
    return f"${text}$" if "\\" in text else text
