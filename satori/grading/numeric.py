"""The value of an expression to many digits: decides most pairs without symbolic work.

Two expressions whose values differ are different, and two numbers that agree in all digits before the point and forty
after it are taken as equal; what has letters and agrees is left to the symbolic comparison. Only notation with one
reading is evaluated: a number before a fraction, a logarithm without base, a function without brackets and everything
else that is not listed here has no value. An answer that is too large to be worked out is not the gold one.
"""

import hashlib
import threading
from functools import lru_cache
from typing import Any

from mpmath import MPContext

from satori.grading.limits import workable
from satori.grading.tokens import Tokens

_DIGITS = 60
_EQUAL_DIGITS = 40
_SMALLEST_DIGITS = 20
_LARGEST_MAGNITUDE = 20_000
"""In bits. Larger numbers have no value here: their sines and powers take for ever."""
_MOST_DIGITS_BEFORE_POINT = 4000
_FUNCTIONS = {
    r"\sin": "sin", r"\cos": "cos", r"\tan": "tan", r"\cot": "cot", r"\sec": "sec", r"\csc": "csc", r"\ln": "ln",
    r"\exp": "exp", r"\arcsin": "asin", r"\arccos": "acos", r"\arctan": "atan",
}  # fmt: skip
_threads = threading.local()


class _NoValueError(Exception):
    """The expression has no value here."""


class _TooLargeError(_NoValueError):
    """Its value, or one on the way to it, is too large to be worked out."""


def same_value(answer: Tokens, gold: Tokens) -> bool | None:
    """False where the values differ, True where both are numbers that agree, None where that says nothing."""
    one, other = value(answer), value(gold)
    if one is None or other is None:
        return None
    (given, given_letters), (wanted, wanted_letters) = one, other
    context = _context()
    if context.isinf(given) or context.isinf(wanted):
        return None if context.isinf(wanted) else False
    size = max(abs(given), abs(wanted))
    before_point = max(0, int(context.log10(size))) if size else 0
    if before_point > _MOST_DIGITS_BEFORE_POINT or (0 < size < context.mpf(10) ** -_SMALLEST_DIGITS):
        return None  # too large; or all of it may be what was lost in the arithmetic
    if before_point:
        exact = [_read(tokens, _DIGITS + before_point) for tokens in (answer, gold)]
        if exact[0] is None or exact[1] is None:
            return None
        given, wanted = exact[0][0], exact[1][0]
    with context.workdps(_DIGITS + before_point):
        if abs(context.convert(given) - wanted) > min(size, 1) * context.mpf(10) ** -_EQUAL_DIGITS:
            return False
    return None if given_letters or wanted_letters else True


def _context() -> Any:
    """This thread's own mpmath context: precision is a setting of a context, and other threads have theirs."""
    if not hasattr(_threads, "context"):
        _threads.context = MPContext()
        _threads.context.dps = _DIGITS
    return _threads.context


@lru_cache(maxsize=20_000)
def value(tokens: Tokens) -> tuple[Any, bool] | None:
    """The value to sixty digits, infinite where that is too large to be worked out, and whether it has letters (each
    stands for a fixed number between 1 and 2)."""
    return _read(tokens, _DIGITS) if workable(tokens) else None


def _read(tokens: Tokens, digits: int) -> tuple[Any, bool] | None:
    reader = _Reader(tokens, digits)
    try:
        return reader.read(), reader.has_letters
    except _TooLargeError:
        return _context().inf, False
    except (_NoValueError, ArithmeticError, ValueError, TypeError, RecursionError, MemoryError):
        return None


class _Reader:
    """Reads an expression from left to right. One method for each level of binding."""

    def __init__(self, tokens: Tokens, digits: int) -> None:
        self.tokens = tokens
        self.digits = digits
        self.context = _context()
        self.position = 0
        self.has_letters = False

    def read(self) -> Any:
        """The value of the whole. Raises _NoValueError where it cannot be read in one way, or is not real."""
        with self.context.workdps(self.digits):
            result = self._sum()
        finite = isinstance(result, self.context.mpf) and self.context.isfinite(result)
        if self.position < len(self.tokens) or not finite:
            raise _NoValueError
        return result

    def _next(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._next()
        if not token or (expected and token != expected):
            raise _NoValueError
        self.position += 1
        return token

    def _sum(self) -> Any:
        sign = -1 if self._next() == "-" else 1
        if self._next() in ("+", "-"):
            self.position += 1
        total = sign * self._product()
        while self._next() in ("+", "-"):
            sign = -1 if self._take() == "-" else 1
            total += sign * self._product()
        return total

    def _product(self) -> Any:
        total = self._power()
        while True:
            token = self._next()
            if token in (r"\cdot", "/"):
                self.position += 1
                factor = self._power()
                if token == "/":
                    if self._starts_factor():
                        raise _NoValueError  # 1/2x: which of both?
                    total /= factor
                else:
                    total *= factor
            elif self._starts_factor():
                before = self.tokens[self.position - 1]
                if before[0].isdigit() and (token == r"\frac" or token[0].isdigit() or token[0] == "."):
                    raise _NoValueError
                total *= self._power()
            else:
                return total

    def _starts_factor(self) -> bool:
        token = self._next()
        return bool(token) and (
            token in ("(", "{", r"\frac", r"\sqrt", r"\pi", r"\binom")
            or token in _FUNCTIONS
            or token[0].isdigit()
            or (len(token) == 1 and token.isalpha())
        )

    def _power(self) -> Any:
        base = self._factor()
        while self._next() == "!":
            self.position += 1
            base = self._bounded(self.context.factorial(base))
        if self._next() == "^":
            self.position += 1
            exponent = self._group("{", "}")
            if base and abs(exponent) * (1 + abs(self.context.mag(base))) > _LARGEST_MAGNITUDE:
                raise _TooLargeError
            base = base**exponent
            if self._next() in ("^", "!"):
                raise _NoValueError
        return base

    def _group(self, opening: str, closing: str) -> Any:
        self._take(opening)
        inner = self._sum()
        self._take(closing)
        return inner

    def _factor(self) -> Any:
        token = self._take()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return self.context.mpf(token)
        if token in ("(", "{"):
            self.position -= 1
            return self._group(token, ")" if token == "(" else "}")
        if token == r"\pi":
            return +self.context.pi
        if token in (r"\frac", r"\binom"):
            over, under = self._group("{", "}"), self._group("{", "}")
            return over / under if token == r"\frac" else self.context.binomial(over, under)
        if token == r"\sqrt":
            degree = self._group("[", "]") if self._next() == "[" else self.context.mpf(2)
            if degree not in range(2, 101):
                raise _NoValueError
            return self.context.root(self._group("{", "}"), int(degree))
        if token in _FUNCTIONS and self._next() == "(":
            argument = self._group("(", ")")
            if abs(argument) > _LARGEST_MAGNITUDE:
                raise _TooLargeError
            return getattr(self.context, _FUNCTIONS[token])(argument)
        if token == "e":
            return +self.context.e
        if len(token) == 1 and token.isalpha() and token != "i" and self._next() not in ("_", "(", "'"):
            self.has_letters = True
            return 1 + self.context.mpf(int(hashlib.sha256(token.encode()).hexdigest()[:12], 16)) / 16**12
        return self._fail()

    def _bounded(self, result: Any) -> Any:
        if abs(self.context.mag(result)) > _LARGEST_MAGNITUDE:
            raise _TooLargeError
        return result

    def _fail(self) -> Any:
        raise _NoValueError
