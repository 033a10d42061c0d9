"""Reads arithmetic in figures out of free text: into runs of tokens, and one side of an equation into its value.

Model output is untrusted: the text is read once from left to right, and numbers, exponents, nesting and the length of
an expression are limited, so that the time is linear in the text. Nothing is worked out but fractions.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction

_MOST_TOKENS = 80
_MOST_DIGITS = 18
_DEEPEST = 12
_LARGEST_EXPONENT = 64
_MOST_BITS = 2000
SHARE = Fraction(1, 100)
"""What a percent sign multiplies by."""


class TokenKind(Enum):
    NUMBER = auto()
    SIGN = auto()
    """An operator, a bracket, ``%`` or ``frac``: see its text."""
    EQUALS = auto()
    WORD = auto()
    """A word, a letter or a LaTeX command: ends a run."""
    STOP = auto()
    """Punctuation, the end of a line or of the text: ends a run."""


@dataclass(frozen=True)
class Token:
    """A piece of a text. ``value`` is None for what looks like a number and is none that can be read."""

    kind: TokenKind
    text: str
    start: int
    end: int
    value: Fraction | None = None


@dataclass(frozen=True)
class Run:
    """Figures and signs, with the words or stops on both sides."""

    before: Token
    inside: tuple[Token, ...]
    after: Token


@dataclass(frozen=True)
class Side:
    """One side of an equation."""

    tokens: tuple[Token, ...]
    value: Fraction

    @property
    def is_formula(self) -> bool:
        """Whether something is worked out in it."""
        return sum(token.kind is TokenKind.NUMBER for token in self.tokens) > 1

    @property
    def has_percent(self) -> bool:
        return any(token.text == "%" for token in self.tokens)

    @property
    def has_decimals(self) -> bool:
        return any("." in token.text for token in self.tokens if token.kind is TokenKind.NUMBER)

    @property
    def decimals(self) -> int:
        """Digits behind the point of its last number."""
        return len([t.text for t in self.tokens if t.kind is TokenKind.NUMBER][-1].partition(".")[2])

    @property
    def number(self) -> tuple[int, int] | None:
        """The place of the number that it is; None where it is a formula."""
        parts = [token for token in self.tokens if token.text not in ("(", ")", "{", "}", "%")]
        if self.is_formula or [token.text for token in parts[:-1]] not in ([], ["-"]):
            return None
        return parts[0].start, parts[-1].end


_TOKEN = re.compile(
    r"""
    (?P<number>[0-9][0-9.,]*|\.[0-9]+)
  | (?P<skip><<[^<>\n]{1,200}>>|[ \t\u00a0]+|\\?\$|[£€&]|(?<![0-9)])\*\*|\*\*(?![0-9(])
      |\\(?:left|right|boxed)(?![A-Za-z])|\\[,;!:>\ ])
  | (?P<stop>\n\s*|[!<>]=|=>|[-−]>|\\[\\()\[\]])
  | (?P<equals>==?)
  | (?P<frac>\\[dt]?frac(?![A-Za-z]))
  | (?P<times>\\times(?![A-Za-z])|\\cdot(?![A-Za-z])|[×·∙⋅])
  | (?P<over>\\div(?![A-Za-z])|÷)
  | (?P<power>\*\*|\^)
  | (?P<minus>[-−])
  | (?P<percent>\\?%)
  | (?P<sign>[+*/(){}])
  | (?P<word>\\?[^\W\d_]+)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]+)?")
_SIGNS = {"frac": "frac", "times": "*", "over": "/", "power": "^", "minus": "-", "percent": "%"}
_BULLET = re.compile(r"[ \t]{0,20}(?:[*+•]|(?P<dash>[-−–])|[0-9]{1,3}[.)])[ \t]+")


def read_runs(text: str) -> Iterator[Run]:
    """The runs of a text in which an equality sign stands. What stands between << and >> (GSM8K's notes for a
    calculator) is left out of the run around it, and a run of its own."""
    before = Token(TokenKind.STOP, "", 0, 0)
    inside: list[Token] = []
    notes: list[Run] = []
    for token in (*_tokens(text, 0, len(text), notes), Token(TokenKind.STOP, "", len(text), len(text))):
        if token.kind not in (TokenKind.WORD, TokenKind.STOP):
            inside.append(token)
            continue
        if any(t.kind is TokenKind.EQUALS for t in inside):
            yield Run(before, tuple(inside), token)
        before, inside = token, []
    yield from notes


def read_numbers(text: str) -> Iterator[Token]:
    """All numbers of a text."""
    for match in re.finditer(r"[0-9][0-9.,]*|\.[0-9]+", text):
        yield _number(match.group(), match.start())


def _tokens(text: str, start: int, end: int, notes: list[Run]) -> Iterator[Token]:
    position, last = start, None
    while position < end:
        at_line = position == 0 or text[position - 1] == "\n"
        if at_line and (bullet := _BULLET.match(text, position, end)):
            yield Token(TokenKind.STOP, "-" if bullet["dash"] else "", position, bullet.end())
            position = bullet.end()
            continue
        match = _TOKEN.match(text, position, end)
        assert match is not None and match.lastgroup is not None  # its last part takes anything
        group, found = match.lastgroup, match.group()
        token = _token(text, group, found, match, last)
        if group == "skip" and found.startswith("<<"):
            note = tuple(_tokens(text, position + 2, match.end() - 2, notes))
            around = Token(TokenKind.STOP, "", position, position)
            if all(t.kind not in (TokenKind.WORD, TokenKind.STOP) for t in note):
                notes.append(Run(around, note, around))
        position = match.end() if token is None else token.end
        if token is not None:
            yield token
            last = token


def _token(text: str, group: str, found: str, match: re.Match[str], last: Token | None) -> Token | None:
    start, end = match.span()
    if group == "skip":
        return None
    if group == "number":
        return _number(found, start)
    if group == "equals":
        return Token(TokenKind.EQUALS, "=", start, end)
    if group in ("stop", "other"):
        return Token(TokenKind.STOP, found.strip(), start, end)
    if group != "word":
        return Token(TokenKind.SIGN, _SIGNS.get(group, found), start, end)
    if found in ("x", "X") and last is not None and (last.kind is TokenKind.NUMBER or last.text in (")", "}")):
        spaced = last.end < start
        following = text[end + 1 : end + 2] if spaced and text[end : end + 1] == " " else text[end : end + 1]
        if following and following in ("0123456789$(" if spaced else "0123456789"):
            return Token(TokenKind.SIGN, "*", start, end)
    return Token(TokenKind.WORD, found, start, end)


def _number(found: str, start: int) -> Token:
    """A number without the punctuation behind it."""
    text = found.rstrip(".,")
    digits = text.replace(",", "")
    readable = len(digits) <= _MOST_DIGITS and _NUMBER.fullmatch(text)
    return Token(TokenKind.NUMBER, text, start, start + len(text), Fraction(digits) if readable else None)


def read_side(tokens: Sequence[Token]) -> Side | None:
    """One side of an equation; None where it cannot be worked out, or only in one of several ways."""
    value = evaluate(tokens)
    return None if value is None else Side(tuple(tokens), value)


def evaluate(tokens: Sequence[Token], percent: Fraction = SHARE) -> Fraction | None:
    """The value of an expression, with a percent sign as a factor; None where it has none."""
    if len(tokens) > _MOST_TOKENS:
        return None
    reader = _Reader(tokens, percent)
    try:
        value = reader.sum(0)
    except (_UnreadableError, ZeroDivisionError):
        return None
    return value if reader.position == len(tokens) else None


class _UnreadableError(Exception):
    """No expression, or one that is too large."""


class _Reader:
    """Reads an expression from left to right. One method for each level of binding."""

    def __init__(self, tokens: Sequence[Token], percent: Fraction) -> None:
        self.tokens, self.percent, self.position = tokens, percent, 0

    def _next(self) -> str:
        """The sign that comes next; empty where none does."""
        if self.position < len(self.tokens) and self.tokens[self.position].kind is TokenKind.SIGN:
            return self.tokens[self.position].text
        return ""

    def _take(self, sign: str) -> None:
        if self._next() != sign:
            raise _UnreadableError
        self.position += 1

    def sum(self, depth: int) -> Fraction:
        if depth > _DEEPEST:
            raise _UnreadableError
        total = self._product(depth)
        while (sign := self._next()) in ("+", "-"):
            self.position += 1
            term = self._product(depth)
            total = total + term if sign == "+" else total - term
        return total

    def _product(self, depth: int) -> Fraction:
        total, divided = self._signed(depth), False
        while (sign := self._next()) in ("*", "/") or self._starts_factor():
            if sign in ("*", "/"):
                self.position += 1
            elif divided:
                raise _UnreadableError  # 6/2(1+2): which of both?
            factor = self._signed(depth)
            total, divided = (total / factor, True) if sign == "/" else (total * factor, divided)
        return total

    def _starts_factor(self) -> bool:
        """Whether a bracket follows a number or another bracket without a space."""
        if self._next() != "(" or self.position == 0:
            return False
        return self.tokens[self.position - 1].end == self.tokens[self.position].start

    def _signed(self, depth: int) -> Fraction:
        if self._next() == "-":
            self.position += 1
            return -self._power(depth)
        return self._power(depth)

    def _power(self, depth: int) -> Fraction:
        base = self._factor(depth)
        if self._next() == "^":
            self.position += 1
            exponent = self._factor(depth)
            bits = base.numerator.bit_length() + base.denominator.bit_length()
            if exponent.denominator != 1 or abs(exponent) > _LARGEST_EXPONENT or bits * abs(exponent) > _MOST_BITS:
                raise _UnreadableError
            base = base**exponent.numerator
            if self._next() == "^":
                raise _UnreadableError
        if self._next() == "%":
            self.position += 1
            base *= self.percent
        return base

    def _factor(self, depth: int) -> Fraction:
        if self.position < len(self.tokens) and self.tokens[self.position].kind is TokenKind.NUMBER:
            value = self.tokens[self.position].value
            self.position += 1
            if value is None:
                raise _UnreadableError
            return value
        sign = self._next()
        if sign == "frac":
            self.position += 1
            return self._group("{", "}", depth) / self._group("{", "}", depth)
        if sign in ("(", "{"):
            return self._group(sign, ")" if sign == "(" else "}", depth)
        raise _UnreadableError

    def _group(self, opening: str, closing: str, depth: int) -> Fraction:
        self._take(opening)
        value = self.sum(depth + 1)
        self._take(closing)
        return value
