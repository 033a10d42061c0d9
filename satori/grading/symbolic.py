"""Symbolic equality of two LaTeX expressions by math-verify. Runs in worker processes only: it may take for ever."""

import re
from functools import lru_cache

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from satori.grading.equivalence import UnreadableGoldError, plain_atoms
from satori.grading.forms import AnswerForm
from satori.grading.tokens import Tokens, render
from satori.grading.units import without_unit

_DIGITS = 40
_CLOSE = sympy.Float("1e-25", _DIGITS)
_EXTRACTION = (
    LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        ),
    ),
)
# Letters that math-verify reads as constants.
_PLAIN_LETTERS = {r"\gamma": r"\xi_{71}", r"\Pi": r"\xi_{72}"}


def symbolic_atoms(answer: Tokens, gold: Tokens, form: AnswerForm) -> bool | None:
    """Whether two expressions are equal, after the plain comparison said nothing. Raises UnreadableGoldError."""
    plain = plain_atoms(answer, gold, form)
    if plain is not None:
        return plain
    answer, gold = without_unit(answer)[0], without_unit(gold)[0]
    if answer.count("=") == gold.count("=") == 1:
        return _same_equation(answer, gold)
    given, wanted = _expression(answer), _expression(gold)
    if wanted is None:
        raise UnreadableGoldError(f"gold answer {render(gold)[:80]!r} cannot be read as LaTeX")
    if given is None:
        return False
    if isinstance(given, sympy.Expr) and isinstance(wanted, sympy.Expr):
        if _is_number(given) and _is_number(wanted):
            return _same_number(given, wanted, form.tolerance)
        if sympy.simplify(given - wanted) == 0:
            return True
    return _is_number(given) == _is_number(wanted) and bool(
        verify(wanted, given, float_rounding=_DIGITS, timeout_seconds=0)
    )


@lru_cache(maxsize=4096)
def _expression(tokens: Tokens) -> sympy.Basic | sympy.MatrixBase | None:
    """The expression of LaTeX tokens; None where math-verify cannot read all of it. The letter i is the unit."""
    latex = render([_PLAIN_LETTERS.get(token, token) for token in tokens])
    parsed = parse(f"${latex}$", _EXTRACTION, fallback_mode="no_fallback", parsing_timeout=0)
    if len(parsed) != 1 or not isinstance(parsed[0], sympy.Basic | sympy.MatrixBase):
        return None
    expression = parsed[0]
    commands = re.findall(r"\\[a-zA-Z]+", latex)
    letters = set(commands) | set(re.sub(r"\\[a-zA-Z]+|[^a-zA-Z]", "", latex))
    symbols: set[sympy.Symbol] = getattr(expression, "free_symbols", set())
    if len(symbols) > len(letters):
        return None
    return expression.subs({symbol: sympy.I for symbol in symbols if symbol.name == "i"})


def _is_number(expression: sympy.Basic | sympy.MatrixBase) -> bool:
    return isinstance(expression, sympy.Expr) and not expression.free_symbols


def _same_number(given: sympy.Expr, wanted: sympy.Expr, tolerance: float) -> bool:
    """By value, in forty digits; what only looks like nothing is worked out exactly.

    math-verify rounds before it compares; what is equal only after rounding is not equal.
    """
    one, other = (sympy.N(expression, _DIGITS) for expression in (given, wanted))
    if not (one.is_number and other.is_number):
        return False
    if tolerance:
        return bool(abs(one - other) <= tolerance)
    size = max(abs(one), abs(other))
    if size < _CLOSE:
        return bool(sympy.simplify(given - wanted) == 0)
    return bool(abs(one - other) <= _CLOSE * min(size, 1))


def _same_equation(answer: Tokens, gold: Tokens) -> bool:
    """Whether two equations say the same: one is the other times a number. Raises UnreadableGoldError."""
    gaps = []
    for tokens in (answer, gold):
        place = tokens.index("=")
        left, right = _expression(tokens[:place]), _expression(tokens[place + 1 :])
        if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
            if tokens is gold:
                raise UnreadableGoldError(f"gold answer {render(gold)[:80]!r} cannot be read as LaTeX")
            return False
        gaps.append(left - right)
    if not all(gap.free_symbols for gap in gaps):
        return False
    ratio = sympy.simplify(gaps[0] / gaps[1])
    return bool(ratio.is_number and ratio != 0 and ratio.is_finite)
