"""Units after a value: what may be left out, and what must be the same where both sides say it."""

import re

from satori.grading.tokens import Tokens, is_text

_NO_UNIT = re.compile(
    r"\b(?:or|not|no|non|never|is|are|if|for|to|than|more|less|most|least|plus|minus|over|by|base|mod|modulo|squared|cubed"
    r"|factorial|even|odd|except|maybe|but|wrong|false|about|between|through|until|up|down|negative|positive|half|halves"
    r"|quarters?|pairs?|dozens?|hundred(?:th)?s?|thousand(?:th)?s?|\w*illion(?:th)?s?|lakhs?|crores?|bn|mil|grand|zeros?|tens"
    r"|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|(?:four|fif|six|seven|eigh|nin|ten|twelf)ths?|first|thirds?"
    r"|all|any|some|other|else|infinity|infinite|approximately|where|when|with|root)\b"
)
"""Words that change or limit the value before them; what they stand in is no unit."""
_UNIT = re.compile(r"(?:square |sq |cubic )?[a-z]+\.?(?:[ -][a-z]+\.?){0,3}(?:\^[1-3])?(?:/[a-z]+(?:\^[1-3])?)?")
_ALIASES = {
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "kilometer": "km", "kilometre": "km", "meter": "m",
    "metre": "m", "minute": "min", "second": "s", "sec": "s", "hour": "h", "hr": "h", "inch": "in", "inche": "in",
    "feet": "ft", "foot": "ft", "mile": "mi", "kilogram": "kg", "gram": "g", "dollar": "$", "degree": "°", "liter": "l",
    "litre": "l", "unit": "unit", "kmph": "km/h",
}  # fmt: skip


def without_unit(tokens: Tokens) -> tuple[Tokens, str]:
    """A number and the unit words after it; the unit is empty where there is none, or where it is none.

    Only what has no letters has a unit: after an expression or a relation words say something else.
    """
    first = next((i for i, token in enumerate(tokens) if token.startswith('"')), None)
    if not first or any(len(t) == 1 and t.isalpha() for t in tokens[:first]) or _has_relation(tokens[:first]):
        return tokens, ""
    unit = _joined(tokens[first:])
    if not _UNIT.fullmatch(unit) or _NO_UNIT.search(unit.removeprefix("square ")):
        return tokens, ""
    return tokens[:first], canonical(unit)


def unit_of(text: str) -> str:
    """The unit that a benchmark names, such as ``cm^2``, ``$cm^2$``, ``minutes``, ``km/h``."""
    plain = re.sub(r"[$\\{}]|text", "", text).strip().casefold()
    return canonical(plain) if plain else ""


def canonical(unit: str) -> str:
    """One spelling of a unit: singular, abbreviated, powers behind."""
    power = ""
    for word, sign in (("square ", "^2"), ("sq ", "^2"), ("cubic ", "^3")):
        if unit.startswith(word):
            unit, power = unit.removeprefix(word), sign
    parts = []
    for part in unit.replace(" per ", "/").split("/"):
        word, caret, exponent = part.strip().rstrip(".").partition("^")
        single = word.removesuffix("s") if len(word) > 2 else word
        parts.append(_ALIASES.get(word, _ALIASES.get(single, single)) + caret + exponent)
    return "/".join(parts) + power


def _joined(tokens: Tokens) -> str:
    """Unit tokens as one text, braces of powers left out."""
    return "".join(f" {t[1:]}" if t.startswith('"') else t for t in tokens if t not in "{}").replace("/ ", "/").strip()


def _has_relation(tokens: Tokens) -> bool:
    return any(token in ("=", "<", ">", r"\leq", r"\geq", r"\neq", r"\in", ",") for token in tokens)


def words_only(tokens: Tokens) -> bool:
    """Whether a text is words, with no sign or number outside them."""
    return is_text(tokens) and all(token.startswith('"') for token in tokens)


def same_words(one: Tokens, other: Tokens) -> bool:
    """Whether two texts of words say the same: punctuation at the ends does not matter, everything else does."""
    plain = [" ".join(token[1:] for token in tokens).strip(" .,;:!\"'()") for tokens in (one, other)]
    return plain[0] == plain[1] != ""
