"""Reading the simple kinds of answers: numbers, letters, labels, Python literals, table cells.

Each reader gives a value to compare, or None for what is no answer of its kind. Nothing a model wrote is evaluated; no
reader accepts a substring; characters that cannot be seen make a text unreadable.
"""

import ast
import math
import re
import string
import unicodedata
import warnings
from collections.abc import Sequence
from fractions import Fraction

_PLAIN = r"(?:\d{1,60}|\d{1,3}(?:,\d{3}){1,18})(?:\.\d{1,60})?|\.\d{1,60}"
_NUMBER = re.compile(rf"[+-]?(?:{_PLAIN})", re.ASCII)
_FRACTION = re.compile(
    rf"([+-]?)(?:\\[dtc]?frac\{{({_PLAIN})\}}\{{({_PLAIN})\}}|({_PLAIN})\s?/\s?({_PLAIN}))", re.ASCII
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|texttt|mbox|textrm)\s?\{([^{}]*)\}")
_LETTER = re.compile(
    r"(?:option |choice )?\(?([A-J])(?:[).:]{0,2}|[).:]{1,2}(?:\\? .*|\s.*)| [-–] .*)", re.DOTALL | re.IGNORECASE
)
_OTHER_LETTER = re.compile(r"\b[A-J]\b[).:]|\b(?:or|and)\s\(?[A-J]\b|[A-J] is (?:right|wrong|correct|true|false)")
# Python warns of what it reads in odd literals ("1and"); nobody can act on that.
warnings.filterwarnings("ignore", category=SyntaxWarning, module="<unknown>")
_LONGEST_LITERAL = 4000
_DEEPEST_LITERAL = 60
_CELL_NUMBER = re.compile(r"[$£€]?\s?([+-]?(?:\d{1,30}|\d{1,3}(?:,\d{3}){1,9})(?:\.\d{1,20})?)\s?(%?)", re.ASCII)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_IN_NUMBERS = re.compile(r"(?<=\d)[.:](?=\d)|(?<![\w)])[-+<>](?=\s?\d)")
_MARKS = {".": "\u00b7", ":": "\u2236", "-": "\u2212", "+": "\u2795", "<": "\u226a", ">": "\u226b"}


def unseen(text: str) -> bool:
    """Whether a text holds characters that cannot be seen: controls, direction marks, lone surrogates, private ones."""
    return any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") and c not in "\n\t\r" for c in text)


def unwrap_text(text: str) -> str:
    """``\\text{yes}`` as ``yes``; dollar signs around the whole left out."""
    return _TEXT_COMMAND.sub(r"\1", text).strip().strip("$").strip()


def parse_number(text: str) -> Fraction | None:
    """A plain decimal number, with or without thousands separators; None for anything else."""
    text = text.strip().removeprefix("$").removesuffix("$").strip()
    return Fraction(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


def parse_rational(text: str) -> Fraction | None:
    """A plain number, or one such number over another."""
    if match := _FRACTION.fullmatch(text.strip()):
        sign, *parts = match.groups()
        over, under = (Fraction(part.replace(",", "")) for part in parts if part is not None)
        return (-over if sign == "-" else over) / under if under else None
    return parse_number(text)


def read_choice(text: str) -> str | None:
    """The letter of ``B``, ``(B)``, ``B.`` or ``B) what it says``; None where several letters are named, or none."""
    text = unwrap_text(text).strip("*").strip()
    match = _LETTER.fullmatch(text)
    if unseen(text) or not match or not match.group(1).isupper() or _OTHER_LETTER.search(text, match.end(1) + 1):
        return None
    return match.group(1)


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that the whole text is, in its first spelling; case and punctuation at the ends do not matter."""
    plain = unwrap_text(text).strip().lstrip("\"'([*`").rstrip(".,;:!\"')]*`").strip().casefold()
    for label in labels:
        spellings = label.split("|")
        if plain in (spelling.casefold() for spelling in spellings):
            return spellings[0]
    return None


def read_literal(text: str) -> object | None:
    """A Python literal as a value that compares with ``==`` and keeps True apart from 1; None where it is none.

    The value is wrapped, so that the literal ``None`` is not mistaken for an unreadable text.
    """
    escaped = re.search(r"\\[{}_#$%&]|\\left|\\ ", text)
    for candidate in (_unescape(text), text.strip()) if escaped else (text.strip(), _unescape(text)):
        if len(candidate) > _LONGEST_LITERAL or "\0" in candidate or _depth(candidate) > _DEEPEST_LITERAL:
            return None
        try:
            return ("literal", _tagged(ast.literal_eval(candidate)))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def _unescape(text: str) -> str:
    """A literal as it stands in a LaTeX box: text commands unwrapped, braces and underscores no longer escaped."""
    plain = re.sub(r"\\(?:left|right)(?=[\[\](){}\\])", "", unwrap_text(text)).replace("\\ ", " ")
    return re.sub(r"\\([{}_#$%&])", r"\1", plain).strip("`").strip()


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return max(deepest, *(len(run) for run in re.findall(r"[-+~ ]+", text) or [""]))


def _tagged(value: object) -> object:
    """``value`` with booleans and containers told apart, hashable where ``value`` is."""
    match value:
        case bool():
            return ("bool", value)
        case list():
            return ("list", [_tagged(v) for v in value])
        case tuple():
            return ("tuple", tuple(_tagged(v) for v in value))
        case set() | frozenset():
            return ("set", frozenset(_tagged(v) for v in value))
        case dict():
            return ("dict", {_tagged(k): _tagged(v) for k, v in value.items()})
    return value


def same_cell(answer: str, gold: str) -> bool:
    """Equal as table cells.

    Numbers are compared after rounding the answer to the gold's decimals (whole ones exactly), text after TableBench's
    normalisation (case, punctuation, articles and spaces do not matter), lists part by part, in order.

    The benchmark's own script takes the points and commas out of numbers before comparing, so that 1.06 equals 10.6;
    this one does not, and it gives no part of a point for part of a list.
    """
    answer, gold = unwrap_text(answer), unwrap_text(gold)
    if unseen(answer):
        return False
    whole = _same_cell_number(answer, gold)
    if whole is not None:
        return whole
    answers, golds = ([p.strip() for p in re.split(r",(?!\d{3}\b)|,(?=\s)", t) if p.strip()] for t in (answer, gold))
    return len(answers) == len(golds) and all(map(_same_part, answers, golds))


def _same_part(answer: str, gold: str) -> bool:
    same = _same_cell_number(answer, gold)
    return _cell_text(answer) == _cell_text(gold) != "" if same is None else same


def _same_cell_number(answer: str, gold: str) -> bool | None:
    """None where the gold is no number."""
    gold_match, match = (_CELL_NUMBER.fullmatch(text.replace("\\", "").strip()) for text in (gold, answer))
    if not gold_match:
        return None
    if not match:
        return False
    wanted, given = (m.group(1).replace(",", "") for m in (gold_match, match))
    unit = Fraction(1, 10 ** len(wanted.partition(".")[2]))
    if unit == 1:  # a whole number is met exactly
        return Fraction(given) == Fraction(wanted)
    rounded = math.floor(abs(Fraction(given)) / unit + Fraction(1, 2)) * unit  # half away from zero
    return (-rounded if given.startswith("-") else rounded) == Fraction(wanted)


def _cell_text(text: str) -> str:
    """Text without case, articles, spaces and punctuation; the signs and points of numbers in it stay."""
    marked = _IN_NUMBERS.sub(lambda match: _MARKS[match.group()], text.casefold())
    return " ".join(_ARTICLES.sub(" ", marked.translate(_PUNCTUATION)).split())
