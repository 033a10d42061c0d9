"""LaTeX texts as tokens: spacing, sizes and spellings of the same thing gone, arguments in braces.

A token is a command, a number, a letter or a sign; words and text commands become one token ``"words``, in lower
case. Only notation is changed here, never meaning; what cannot be told apart is left as it stands.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

Tokens: TypeAlias = tuple[str, ...]

OPENERS = ("(", "[", r"\{", "{")
CLOSERS = (")", "]", r"\}", "}")
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp min max gcd lcm sqrt pi infty lg".split()
)
GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
)
MOST_TOKENS = 400
DEEPEST = 30

_TOKEN = re.compile(
    r"\\(?P<style>text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mathsf|mbox|operatorname|rm)\s*\*?"
    r"\{(?P<text>[^{}]*)\}"
    r"|\\(?P<edge>begin|end)\s*\{(?P<name>[a-z]*)\*?\}(?:\{[lcr|]*\})?"
    r"|(?P<command>\\(?:[a-zA-Z]+|.))"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<word>[a-zA-Z]{2,})"
    r"|(?P<relation><=|>=|!=|==)"
    r"|(?P<symbol>\S)",
    re.DOTALL | re.ASCII,
)
_DROPPED = frozenset(
    r"""\left \right \big \Big \bigl \bigr \Bigl \Bigr \bigg \Bigg \! \, \; \: \quad \qquad \displaystyle \limits
    \$ $ € £ \( \) \[ \] \% % \mathop ~ \textstyle \rm \middle \boxed \fbox \underline \boldsymbol \bm \bf
    \it""".split()
) | {"\\ "}
_SPELLED = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\lbrace": r"\{", r"\rbrace": r"\}",
    r"\le": r"\leq", r"\ge": r"\geq", r"\leqslant": r"\leq", r"\geqslant": r"\geq", r"\ne": r"\neq",
    "<=": r"\leq", ">=": r"\geq", "!=": r"\neq", "==": "=",
    r"\times": r"\cdot", "*": r"\cdot", "×": r"\cdot", "·": r"\cdot", "⋅": r"\cdot", "−": "-", "–": "-", "π": r"\pi",
    "∞": r"\infty", "∪": r"\cup", "≤": r"\leq", "≥": r"\geq", "√": r"\sqrt", "±": r"\pm", "∈": r"\in", ";": ",",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|", r"\dbinom": r"\binom", r"\tbinom": r"\binom",
    r"\emptyset": r"\varnothing", "∅": r"\varnothing", r"\to": r"\rightarrow", r"\dots": r"\ldots", r"\lparen": "(",
    r"\rparen": ")", r"\lbrack": "[", r"\rbrack": "]", r"\ast": r"\cdot", r"\div": "/", r"\degree": r"\circ",
    "≈": r"\approx", r"\simeq": r"\approx",
}  # fmt: skip
_MATRICES = ("matrix", "pmatrix", "bmatrix", "array")
_TAKES_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, "^": 1, "_": 1}
_SHORT_UNITS = frozenset("cm mm km kg ft mi hr in".split())
"""Units among the words of two letters; the others are products of variables."""
_SEPARATED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)


def tokenize(text: str) -> Tokens:
    """The tokens of a LaTeX text."""
    tokens = list(_spelled(_with_whole_numbers(text.strip().strip("*"))))
    if is_monstrous(tokens):
        return tuple(tokens)
    return tuple(_without_degrees(list(_with_mixed_numbers(list(_with_arguments(tokens))))))


def is_monstrous(tokens: Sequence[str]) -> bool:
    """Longer or deeper than any answer: such a text is equal to nothing but itself."""
    depth = deepest = 0
    for token in tokens:
        depth += (token in OPENERS) - (token in CLOSERS)
        deepest = max(deepest, depth)
    return len(tokens) > MOST_TOKENS or deepest > DEEPEST


def is_text(tokens: Sequence[str]) -> bool:
    return any(token.startswith('"') for token in tokens)


def closing(tokens: Sequence[str], start: int) -> int | None:
    """The index of the bracket that closes the one at ``start``; None where there is none.

    Intervals close with either bracket, so round and square ones count alike.
    """
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index] in OPENERS) - (tokens[index] in CLOSERS)
        if depth == 0:
            return index
    return None


def render(tokens: Sequence[str]) -> str:
    """Tokens as LaTeX again."""
    return "".join(token + " " if token.startswith("\\") else token for token in tokens)


def _with_whole_numbers(text: str) -> str:
    """Thousands joined: after ``{,}``, ``\\!`` and ``\\,`` always, after a comma where no other comma lists values."""
    text = text.replace("{,}", "\\!")
    text = re.sub(r"(?<=\d)\s?(?:\\!,?|,\\!|\\,)\s?(?=\d{3}(?!\d))", "", text)
    if not re.search(r"[(\[]|\\\{", text.replace("\\(", "")) and "," not in _SEPARATED.sub("", text):
        text = _SEPARATED.sub(lambda match: match.group().replace(",", ""), text)
    return text


def _spelled(text: str) -> Iterator[str]:
    before = ""
    for match in _TOKEN.finditer(text):
        for token in _spell(match, before):
            yield token
            before = token


def _spell(match: re.Match[str], before: str) -> Iterator[str]:
    kind, token = match.lastgroup, match.group()
    if kind == "text":
        yield from _text(match["style"], match["text"].strip(), before)
    elif kind == "name":
        name = match["name"]
        yield f"\\{match['edge']}:" + ("matrix" if name in _MATRICES else name)
    elif kind == "word":
        yield from _word(token)
    elif token == "°":
        yield from ("^", "{", r"\circ", "}")
    elif (token := _SPELLED.get(token, token)) not in _DROPPED:
        yield token


def _text(style: str, content: str, before: str) -> Iterator[str]:
    """What a text command holds: a function, a separator, words, a unit of one letter, or more LaTeX."""
    content = content.replace("²", "^2").replace("³", "^3").replace("~", " ").strip()
    after_number = before[:1].isdigit() or before in ("}", ")")
    if content.casefold().strip(", ") in ("and", "or"):
        yield ","
    elif content in FUNCTIONS and style in ("operatorname", "mathrm") and not after_number:
        yield f"\\{content}"
    elif re.search(r"[^\W\d_]{2,}", content) or (after_number and re.fullmatch(r"[a-df-hj-zA-Z](?:\^\d)?", content)):
        yield '"' + " ".join(content.casefold().rstrip(".,;:").split())
    elif content:
        yield from _spelled(content)


def _word(word: str) -> Iterator[str]:
    if word.casefold() in ("and", "or"):
        yield ","
    elif word in FUNCTIONS:
        yield f"\\{word}"
    elif word in _SHORT_UNITS or len(word) > 2:
        yield '"' + word.casefold()
    else:
        yield from word


def _with_arguments(tokens: list[str]) -> Iterator[str]:
    """Arguments that stand without braces get them: ``\\frac12``, ``\\sqrt 3``, ``\\sqrt(3)``, ``x^2``."""
    waiting = position = 0
    command = ""
    while position < len(tokens):
        token = tokens[position]
        position += 1
        brackets = ("{", "[", "(") if command == r"\sqrt" else ("{",)
        end = closing(tokens, position - 1) if waiting and token in brackets else None
        if end is not None:  # an argument in brackets, or the degree of a root in square ones
            waiting -= token != "["
            yield token if token == "[" else "{"
            yield from _with_arguments(tokens[position:end])
            yield tokens[end] if token == "[" else "}"
            position = end + 1
        elif waiting and token not in ("{", "^", "_"):
            if token[0].isdigit() and len(token) > 1 and _splits_numbers(tokens, position - 1):
                tokens.insert(position, token[1:])
                token = token[0]
            waiting -= 1
            yield from ("{", token, "}")
        else:
            command, waiting = token, _TAKES_ARGUMENTS.get(token, 0)
            yield token


def _splits_numbers(tokens: Sequence[str], position: int) -> bool:
    """Whether LaTeX takes one digit of the number at ``position``: after ``\\frac``, or after its first digit."""
    return any(token in (r"\frac", r"\binom") for token in tokens[max(0, position - 2) : position])


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


def _without_degrees(tokens: list[str]) -> list[str]:
    """A plain value in degrees as its number; a degree sign elsewhere stays."""
    sign = ["^", "{", r"\circ", "}"]
    if tokens[-4:] == sign and not any(token.removeprefix("\\") in FUNCTIONS - {"pi"} for token in tokens):
        return tokens[:-4]
    return tokens
