"""The structure of a LaTeX answer: values, tuples, intervals, sets, matrices, unions, equations, and atoms.

Tokens become a small tree. What the atoms of two trees mean is decided elsewhere (:mod:`satori.grading.equivalence`,
:mod:`satori.grading.symbolic`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from satori.grading.tokens import CLOSERS, GREEK, OPENERS, Tokens, closing, is_monstrous, render

_NAME = re.compile(
    rf"(?:[a-zA-Z]|\\(?:{'|'.join(GREEK)}) )(?:_\{{[^{{}}]*\}})?(?:\([a-z0-9,]*\))?"
    r"|[A-Z]{2,3}|\|[A-Z]{2}\||\"[a-z ]+"
)
_RELATIONS = ("=", "<", ">", r"\leq", r"\geq", r"\neq")


@dataclass(frozen=True)
class Atom:
    """A single expression or text, as tokens."""

    tokens: Tokens


@dataclass(frozen=True)
class Group:
    """Items between brackets: ``open`` is ``(``, ``[`` or ``\\{``, ``close`` its end, or ``matrix`` for rows of a
    matrix. The items of ``\\{ \\}`` have no order."""

    open: str
    close: str
    items: tuple["Node", ...]


@dataclass(frozen=True)
class Values:
    """Several values without order: a list without brackets, both signs of ``\\pm``, the parts of a union."""

    items: tuple["Node", ...]
    union: bool = False


@dataclass(frozen=True)
class Equation:
    """Two sides of ``=``, and what a chain has between them."""

    left: Atom
    right: "Node"
    middle: tuple[Tokens, ...] = ()


Node: TypeAlias = Atom | Group | Values | Equation


def split(tokens: Tokens, at: Callable[[str], bool]) -> list[Tokens]:
    """The parts between the tokens ``at`` names, outside all brackets and environments."""
    parts: list[Tokens] = []
    depth = start = 0
    for index, token in enumerate(tokens):
        depth += token in OPENERS or token.startswith("\\begin:")
        depth -= token in CLOSERS or token.startswith("\\end:")
        if depth == 0 and at(token):
            parts.append(tokens[start:index])
            start = index + 1
    return [*parts, tokens[start:]]


def parse(tokens: Tokens) -> Node:
    """The tree of an answer. Never fails: what has no structure that is known is one atom."""
    if is_monstrous(tokens):
        return Atom(tokens)
    tokens = _trimmed(tokens)
    parts = [part for part in split(tokens, lambda t: t == ",") if part]
    if len(parts) > 1:
        return Values(tuple(parse(part) for part in parts))
    tokens = _trimmed(parts[0]) if parts else ()
    tokens = tokens[1:] if tokens[:1] == ("=",) else tokens
    member = split(tokens, lambda t: t == r"\in")
    if len(member) == 2 and names(member[0]):
        tokens = member[1]
    rounded = split(tokens, lambda t: t == r"\approx")
    if len(rounded) == 2 and all(rounded):
        tokens = rounded[1] if names(rounded[0]) else rounded[0]
    sides = split(tokens, lambda t: t == "=")
    if len(sides) > 1 and all(sides):
        return Equation(Atom(sides[0]), parse(sides[-1]), tuple(sides[1:-1]))
    unions = split(tokens, lambda t: t == r"\cup")
    if len(unions) > 1:
        return Values(tuple(parse(part) for part in unions), union=True)
    if tokens[:1] == (r"\{",) and (group := _bracketed(tokens)):
        return group
    signs = sum(t in (r"\pm", r"\mp") for t in tokens)
    if 1 <= signs <= 2:
        return Values(tuple(parse(_signed(tokens, upper)) for upper in (True, False)))
    return _bracketed(tokens) or Atom(tokens)


def names(side: Tokens) -> bool:
    """Whether one side of an equation only names the other: ``x``, ``a_1``, ``f(x)``, ``AB``, ``\\theta``, words."""
    return _NAME.fullmatch(render(side)) is not None and side != (r"\pi",)


def has_relation(tokens: Tokens) -> bool:
    return any(token in _RELATIONS for token in tokens)


def _trimmed(tokens: Tokens) -> Tokens:
    """Without full stops and commas at the end, and without braces around the whole."""
    while tokens and tokens[-1] in (".", ",", ":"):
        tokens = tokens[:-1]
    while len(tokens) > 1 and tokens[0] == "{" and closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _signed(tokens: Tokens, upper: bool) -> Tokens:
    signs = {r"\pm": "+" if upper else "-", r"\mp": "-" if upper else "+"}
    signed = tuple(signs.get(token, token) for token in tokens)
    return signed[1:] if signed[0] == "+" else signed


def _bracketed(tokens: Tokens) -> Node | None:
    if len(tokens) >= 2 and tokens[0] == "\\begin:matrix" and tokens[-1] == "\\end:matrix":
        rows = [row for row in split(tokens[1:-1], lambda t: t == "\\\\") if row]
        cells = [tuple(parse(cell) for cell in split(row, lambda t: t == "&")) for row in rows]
        return Group("matrix", "matrix", tuple(Group("row", "row", row) for row in cells))
    if len(tokens) < 2 or tokens[0] not in ("(", "[", r"\{") or closing(tokens, 0) != len(tokens) - 1:
        return None
    if tokens[-1] not in (")", "]", r"\}") or (tokens[0] == r"\{") != (tokens[-1] == r"\}"):
        return None
    inner = [part for part in split(tokens[1:-1], lambda t: t == ",") if part]
    if len(inner) == 1 and (tokens[0], tokens[-1]) in (("(", ")"), ("[", "]")):
        within = parse(inner[0])
        is_matrix = isinstance(within, Group) and within.open == "matrix"
        if is_matrix or (tokens[0] == "(" and isinstance(within, Group | Atom)):
            return within
        if tokens[0] == "(":
            return None
    return Group(tokens[0], tokens[-1], tuple(parse(part) for part in inner))
