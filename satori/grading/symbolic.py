"""Symbolic equality of two LaTeX expressions by math-verify. Runs in worker processes only: it may take for ever."""

import re
from functools import lru_cache

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from satori.grading.equivalence import UnreadableGoldError, plain_atoms
from satori.grading.forms import AnswerForm
from satori.grading.latex import Tokens, render, without_unit

_DIGITS = 30
_CLOSE = sympy.Float("1e-12", _DIGITS)
_EXTRACTION = (
    LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        ),
    ),
)


def symbolic_atoms(answer: Tokens, gold: Tokens, form: AnswerForm) -> bool | None:
    """Whether two expressions are equal, after the plain comparison said nothing. Raises UnreadableGoldError."""
    plain = plain_atoms(answer, gold, form)
    if plain is not None:
        return plain
    given, wanted = (_expression(render(without_unit(tokens)[0])) for tokens in (answer, gold))
    if wanted is None:
        raise UnreadableGoldError(f"gold answer {render(gold)[:80]!r} cannot be read as LaTeX")
    if given is None:
        return False
    if form.tolerance and _is_number(given) and _is_number(wanted):
        return bool(abs(sympy.N(given, _DIGITS) - sympy.N(wanted, _DIGITS)) <= form.tolerance)
    return _numerically_possible(given, wanted) and verify(wanted, given, float_rounding=12, timeout_seconds=0)


@lru_cache(maxsize=4096)
def _expression(latex: str) -> sympy.Basic | sympy.MatrixBase | None:
    """The expression of a LaTeX text; None where math-verify cannot read all of it."""
    parsed = parse(f"${latex}$", _EXTRACTION, fallback_mode="no_fallback", parsing_timeout=0)
    if len(parsed) != 1 or not isinstance(parsed[0], sympy.Basic | sympy.MatrixBase):
        return None
    expression = parsed[0]
    letters = set(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]", latex)) | set(re.findall(r"\\[a-zA-Z]+", latex))
    return expression if len(getattr(expression, "free_symbols", ())) <= len(letters) else None


def _is_number(expression: sympy.Basic | sympy.MatrixBase) -> bool:
    return isinstance(expression, sympy.Expr) and not expression.free_symbols


def _numerically_possible(given: sympy.Basic | sympy.MatrixBase, wanted: sympy.Basic | sympy.MatrixBase) -> bool:
    """False where both are numbers, and differ by more than thirty digits of arithmetic can lose.

    math-verify rounds before it compares; what is equal only after rounding is not equal.
    """
    if not (_is_number(given) and _is_number(wanted)):
        return _is_number(given) == _is_number(wanted)
    one, other = (sympy.N(expression, _DIGITS) for expression in (given, wanted))
    if not (one.is_number and other.is_number):
        return True
    return bool(abs(one - other) <= _CLOSE * max(1, abs(other)))
