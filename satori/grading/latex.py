"""The structure of a LaTeX answer: values, tuples, intervals, sets, matrices, unions, equations, and atoms.

A text becomes tokens (spacing, sizes and spellings of the same thing gone), tokens become a small tree. What the atoms
of two trees mean is decided elsewhere (:mod:`satori.grading.equivalence`, :mod:`satori.grading.symbolic`). Only the
commands listed here are known: an answer with any other command, with words between its symbols, or of a size that no
final answer has, keeps its text only and is never worked out.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from satori.grading.kinds import SCALES

Tokens: TypeAlias = tuple[str, ...]

_TOKEN = re.compile(
    r"\\(?:text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mathsf|mbox|operatorname|rm)\s*\*?\{(?P<text>[^{}]*)\}"
    r"|\\(?P<edge>begin|end)\s*\{(?P<name>[a-z]*)\*?\}(?:\{[lcr|]*\})?"
    r"|(?P<command>\\(?:[a-zA-Z]+|.))"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<word>[a-zA-Z]{2,})"
    r"|(?P<symbol>\S)",
    re.DOTALL | re.ASCII,
)
_DROPPED = frozenset(
    r"""\left \right \big \Big \bigl \bigr \Bigl \Bigr \bigg \Bigg \! \, \; \: \  \quad \qquad \displaystyle \limits
    \$ $ \( \) \[ \] \% % \mathop ~ ° \textstyle \rm \degree \middle""".split()
) | {"\\ "}
_SPELLED = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\lbrace": r"\{", r"\rbrace": r"\}",
    r"\le": r"\leq", r"\ge": r"\geq", r"\leqslant": r"\leq", r"\geqslant": r"\geq", r"\ne": r"\neq",
    r"\times": r"\cdot", "*": r"\cdot", "×": r"\cdot", "·": r"\cdot", "⋅": r"\cdot", "−": "-", "–": "-", "π": r"\pi",
    "∞": r"\infty", "∪": r"\cup", "≤": r"\leq", "≥": r"\geq", "√": r"\sqrt", "±": r"\pm", "∈": r"\in", ";": ",",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|", r"\dbinom": r"\binom", r"\tbinom": r"\binom",
    r"\emptyset": r"\varnothing", "∅": r"\varnothing", r"\to": r"\rightarrow", r"\dots": r"\ldots", r"\lparen": "(",
    r"\rparen": ")", r"\lbrack": "[", r"\rbrack": "]", r"\ast": r"\cdot", r"\div": "/",
}  # fmt: skip
_FUNCTIONS = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log",
              "ln", "exp", "min", "max", "gcd", "lcm", "sqrt", "pi", "infty", "lg")  # fmt: skip
_UNITS = frozenset("cm mm km kg ft mi hr".split())
"""Units of two letters; other words of two letters are products of variables."""
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
).split()
_KNOWN = (
    {f"\\{name}" for name in (*_FUNCTIONS, *_GREEK)}
    | set(r"\frac \cdot \leq \geq \neq \binom \cup \in \infty \pm \mp \lfloor \rfloor \lceil \rceil \circ".split())
    | set("+-/^_!|()[]{}=<>,'")
)  # fmt: skip
_TAKES_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, "^": 1, "_": 1}
_OPENERS = ("(", "[", r"\{", "{")
_ENDS = (")", "]", r"\}", "}")
_MOST_TOKENS = 400
_DEEPEST = 30
_LONGEST_NUMBER = 60
_LARGEST_EXPONENT = 100_000
_LARGEST_FACTORIAL = 200
_HIGHEST_POWER_OF_SUM = 20


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
    """Two sides of ``=``; of a chain, the first and the last."""

    left: Atom
    right: "Node"


Node: TypeAlias = Atom | Group | Values | Equation


def tokenize(text: str) -> Tokens:
    """The tokens of a LaTeX text. Words and text commands become one token ``"word`` each, in lower case."""
    text = text.replace("^\\circ", "").replace("^{\\circ}", "").replace("{,}", "\\!")
    text = re.sub(r"(?<=\d)\s?(?:\\!,?|,\\!|\\,)\s?(?=\d{3}(?!\d))", "", text)
    if re.fullmatch(r"[\s$]*[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?[\s$.]*", text, re.ASCII):
        text = text.replace(",", "")
    tokens = list(_spelled(text))
    return tuple(tokens if _is_monstrous(tokens) else _with_mixed_numbers(list(_with_arguments(tokens))))


def _with_mixed_numbers(tokens: list[str]) -> Iterator[str]:
    """``1\\frac{4}{5}`` as ``(1+\\frac{4}{5})``: a whole number before a proper fraction of whole numbers is added."""
    position = 0
    while position < len(tokens):
        part = tokens[position : position + 8]
        if part[1:3] == [r"\frac", "{"] and part[4:6] == ["}", "{"] and part[7:] == ["}"]:
            whole, over, under = part[0], part[3], part[6]
            before = tokens[position - 1] if position else ""
            if all(t.isdecimal() for t in (whole, over, under)) and before != "^" and _smaller(over, under):
                yield from ("(", whole, "+", *part[1:], ")")
                position += 8
                continue
        yield tokens[position]
        position += 1


def _smaller(over: str, under: str) -> bool:
    return (len(over.lstrip("0")), over.lstrip("0")) < (len(under.lstrip("0")), under.lstrip("0"))


def _is_monstrous(tokens: Sequence[str]) -> bool:
    """Longer or deeper than any answer: such a text is one atom, equal to nothing but itself."""
    depth = deepest = 0
    for token in tokens:
        depth += (token in _OPENERS) - (token in _ENDS)
        deepest = max(deepest, depth)
    return len(tokens) > _MOST_TOKENS or deepest > _DEEPEST


def _spelled(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind == "text":
            content = match["text"].strip()
            if content.casefold().strip(", ") in ("and", "or"):
                yield ","
            elif content in _FUNCTIONS:
                yield f"\\{content}"
            elif re.search(r"[^\W\d_]{2,}", content):
                yield '"' + " ".join(re.findall(r"[^\W_]+", content.casefold()))
            elif content:
                yield from _spelled(content)
        elif kind == "name":
            name = match["name"]
            yield f"\\{match['edge']}:" + ("matrix" if name in ("matrix", "pmatrix", "bmatrix", "array") else name)
        elif kind == "word":
            yield from _word(token)
        elif (token := _SPELLED.get(token, token)) not in _DROPPED:
            yield token


def _word(word: str) -> Iterator[str]:
    if word.casefold() in ("and", "or"):
        yield ","
    elif word in _FUNCTIONS:
        yield f"\\{word}"
    elif word in _UNITS:
        yield '"' + word
    elif len(word) <= 2:
        yield from word
    else:
        yield '"' + word.casefold()


def _with_arguments(tokens: list[str]) -> Iterator[str]:
    """Arguments that stand without braces get them: ``\\frac12``, ``\\sqrt 3``, ``x^2``."""
    waiting = 0
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        end = _closing(tokens, position - 1) if waiting and token in ("{", "[") else None
        if end is not None:  # an argument in braces, or the degree of a root in square brackets
            waiting -= token == "{"
            yield token
            yield from _with_arguments(tokens[position:end])
            yield tokens[end]
            position = end + 1
        elif waiting and token not in ("{", "^", "_"):
            if token[0].isdigit() and len(token) > 1 and _splits_numbers(tokens, position - 1):
                tokens.insert(position, token[1:])
                token = token[0]
            waiting -= 1
            yield from ("{", token, "}")
        else:
            waiting = _TAKES_ARGUMENTS.get(token, 0)
            yield token


def _splits_numbers(tokens: Sequence[str], position: int) -> bool:
    """Whether LaTeX takes one digit of the number at ``position``: after ``\\frac``, or after its first digit."""
    return any(token in (r"\frac", r"\binom") for token in tokens[max(0, position - 2) : position])


def _closing(tokens: Sequence[str], start: int) -> int | None:
    """The index of the bracket that closes the one at ``start``; None where there is none.

    Intervals close with either bracket, so round and square ones count alike.
    """
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index] in _OPENERS) - (tokens[index] in _ENDS)
        if depth == 0:
            return index
    return None


def split(tokens: Tokens, at: Callable[[str], bool]) -> list[Tokens]:
    """The parts between the tokens ``at`` names, outside all brackets and environments."""
    parts: list[Tokens] = []
    depth = start = 0
    for index, token in enumerate(tokens):
        depth += (token in _OPENERS or token.startswith("\\begin:")) - (token in _ENDS or token.startswith("\\end:"))
        if depth == 0 and at(token):
            parts.append(tokens[start:index])
            start = index + 1
    return [*parts, tokens[start:]]


def parse(tokens: Tokens) -> Node:
    """The tree of an answer. Never fails: what has no structure that is known is one atom."""
    if _is_monstrous(tokens):
        return Atom(tokens)
    tokens = _trimmed(tokens)
    parts = [part for part in split(tokens, lambda t: t == ",") if part]
    if len(parts) > 1:
        return Values(tuple(parse(part) for part in parts))
    tokens = _trimmed(parts[0]) if parts else ()
    member = split(tokens, lambda t: t == r"\in")
    if len(member) == 2 and len(member[0]) == 1:
        tokens = member[1]
    sides = split(tokens, lambda t: t == "=")
    if len(sides) > 1 and all(sides):
        return Equation(Atom(sides[0]), parse(sides[-1]))
    unions = split(tokens, lambda t: t == r"\cup")
    if len(unions) > 1:
        return Values(tuple(parse(part) for part in unions), union=True)
    if signs := [t for t in tokens if t in (r"\pm", r"\mp")]:
        if len(signs) <= 2:
            return Values(tuple(parse(_signed(tokens, upper)) for upper in (True, False)))
        return Atom(tokens)
    return _bracketed(tokens) or Atom(tokens)


def _trimmed(tokens: Tokens) -> Tokens:
    """Without full stops and commas at the end, and without braces around the whole."""
    while tokens and tokens[-1] in (".", ",", ":"):
        tokens = tokens[:-1]
    while len(tokens) > 1 and tokens[0] == "{" and _closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _signed(tokens: Tokens, upper: bool) -> Tokens:
    signs = {r"\pm": "+" if upper else "-", r"\mp": "-" if upper else "+"}
    signed = tuple(signs.get(token, token) for token in tokens)
    return signed[1:] if signed[0] == "+" else signed


def _bracketed(tokens: Tokens) -> Node | None:
    if len(tokens) >= 2 and tokens[0] == "\\begin:matrix" and tokens[-1] == "\\end:matrix":
        rows = [row for row in split(tokens[1:-1], lambda t: t == "\\\\") if row]
        return Group("matrix", "matrix", tuple(
            Group("row", "row", tuple(parse(cell) for cell in split(row, lambda t: t == "&"))) for row in rows
        ))  # fmt: skip
    if len(tokens) < 2 or tokens[0] not in ("(", "[", r"\{") or _closing(tokens, 0) != len(tokens) - 1:
        return None
    if tokens[-1] not in (")", "]", r"\}") or (tokens[0] == r"\{") != (tokens[-1] == r"\}"):
        return None
    inner = [part for part in split(tokens[1:-1], lambda t: t == ",") if part]
    if tokens[0] == "(" and tokens[-1] == ")" and len(inner) == 1:
        within = parse(inner[0])
        matrix = isinstance(within, Group) and within.open == "matrix"
        return within if matrix or isinstance(within, Group | Atom) else None
    if inner and inner[0][0] == "\\begin:matrix" and len(inner) == 1:
        return parse(inner[0])
    return Group(tokens[0], tokens[-1], tuple(parse(part) for part in inner))


def without_unit(tokens: Tokens) -> tuple[Tokens, str]:
    """A value and the unit words after it; the unit is empty where there is none, or where all is text."""
    first = next((i for i, token in enumerate(tokens) if token.startswith('"')), None)
    if (
        not first
        or any(SCALES.search(t[1:]) for t in tokens[first:] if len(t) > 2)
        or any(not re.fullmatch(r'".*|[\^{}/.23-]|\\cdot', t) for t in tokens[first:])
    ):
        return tokens, ""
    unit = "".join(re.sub(r"s\b", "", token) for token in tokens[first:] if token not in "{}").replace('"', " ")
    return tokens[:first], unit.strip()


def is_text(tokens: Tokens) -> bool:
    return any(token.startswith('"') for token in tokens)


def workable(tokens: Tokens) -> bool:
    """Whether an expression may be worked out: only known commands, and a size that a final answer has."""
    if _is_monstrous(tokens) or is_text(tokens):
        return False
    known = all(t.isascii() and (t in _KNOWN or t[0].isdigit() or t[0] == "." or len(t) == 1) for t in tokens)
    return known and all(len(t) <= _LONGEST_NUMBER for t in tokens) and not _towers(tokens)


def _towers(tokens: Tokens) -> bool:
    """Powers of powers, factorials of factorials, exponents and factorials that nobody writes out."""
    if sum(token == "!" for token in tokens) > 2 or tokens.count(r"\binom") > 4:
        return True
    product = 1
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else ""
        if token == "!" and not _small_factorial(tokens[:index], before):
            return True
        if token == "^" and index + 1 < len(tokens) and tokens[index + 1] == "{":
            exponent = tokens[index + 2 : _closing(tokens, index + 1)]
            if "^" in exponent and not any(t.isalpha() for t in exponent):
                return True
            for part in exponent:
                if part.isdigit():
                    product *= max(1, int(part))
        if r"\binom" in tokens and token.isdigit() and int(token) > 10_000:
            return True
    return product > _LARGEST_EXPONENT


def expands(tokens: Tokens) -> bool:
    """Whether it holds high powers of sums with letters: multiplied out, they have more terms than memory holds."""
    product = 1
    for index in range(1, len(tokens) - 1):
        if tokens[index] == "^" and tokens[index - 1] in (")", "}"):
            exponent = tokens[index + 2 : _closing(tokens, index + 1)]
            product *= max((int(part) for part in exponent if part.isdigit()), default=1)
    return product > _HIGHEST_POWER_OF_SUM and any(len(t) == 1 and t.isalpha() for t in tokens)


def _small_factorial(before: Tokens, last: str) -> bool:
    """Whether the factorial of what stands before is of a letter, a small number, or a small sum of them."""
    if last != ")":
        return last.isalpha() or (last.isdigit() and int(last) <= _LARGEST_FACTORIAL)
    start = len(before) - before[::-1].index("(") if "(" in before else 0
    inner = before[start:-1]
    return all(t in "+-" or t.isalpha() or (t.isdigit() and int(t) <= _LARGEST_FACTORIAL) for t in inner)


def render(tokens: Tokens) -> str:
    """Tokens as LaTeX again."""
    return "".join(token + " " if token.startswith("\\") else token for token in tokens)
