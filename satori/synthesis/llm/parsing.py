"""What a critic's answer says, or why it is of no use (paper section 4.1: all its answers have a fixed form).

An answer is read strictly. Tolerated are blank space, emphasis around the keys, the keys' case, a code fence around the
whole, and a sentence that goes on in the next line. Whatever else is there, such as a preamble or a second opinion,
makes the answer unusable: where its form is not what was asked for, neither can its words be trusted to be. The texts
go into demonstrations, so they must not hold what the policy must not learn either.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from satori.synthesis.agents import Mistake, Unusable, Verification
from satori.synthesis.llm.leaks import has_special_token, leak_in, wrong_language

LONGEST_REASON = 600
"""Characters of one sentence or two."""


class Useless(StrEnum):
    """Why a critic's answer is of no use."""

    NO_FORM = "no form"
    SEVERAL_ANSWERS = "several answers"
    OUT_OF_RANGE = "step out of range"
    EMPTY_REASON = "empty reason"
    TRUNCATED = "truncated"
    TOO_LONG = "too long"
    NO_MISTAKE = "says no mistake"
    NOT_VERIFIED = "says not verified"
    LEAKED = "leaked wording"
    WRONG_LANGUAGE = "wrong language"
    SPECIAL_TOKEN = "meta-action or other special token inside"
    BOXED = "boxed answer inside"


@dataclass(frozen=True)
class Asked:
    """What the critic was asked about: the question, the steps that it may name (from 0), and how much it may say."""

    question: str
    steps: range
    longest: int = LONGEST_REASON


# **KEY:** text, **KEY**: text, or KEY: text
_LINE = re.compile(
    r"(?P<open>\*\*|__|)(?P<key>NOT VERIFIED|VERIFIED|NO MISTAKE|STEP|WHY|DIRECTION)"
    r"(?:(?P=open)[ \t]?:|:(?P=open))(?P<value>(?!(?:\*\*|__)\s).*)",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_VERDICT = re.compile(r"(?P<open>\*\*|__|)(?P<key>NOT VERIFIED|NO MISTAKE)\.?(?P=open)\.?", re.IGNORECASE | re.ASCII)
_KEY_INSIDE = re.compile(r"\b(?:NOT VERIFIED|NO MISTAKE|(?:VERIFIED|STEP|WHY|DIRECTION)[*_]{0,2}[ ]?:)")
_FENCE = re.compile(r"```[a-zA-Z]{0,20}")
_NUMBER = re.compile(r"[0-9]{1,4}")
_NUMBERS = re.compile(r"[0-9]{1,4}(?:[^0-9]{1,9}[0-9]{1,4})+")
_COPIED = re.compile(r"<[^<>]*>\.?")  # the form itself, as it stands in the prompt
_EMPTY_WORDS = frozenset({"none", "n/a", "na", "null", "nothing", "unknown", "same", "see above"})
_VERDICTS = frozenset({"VERIFIED", "NOT VERIFIED"})
_LONGEST_ANSWER = 20_000


def parse_verification(text: str, finished: bool, asked: Asked) -> Verification | Unusable:
    """The answer to "why do the steps hold"."""
    found = _keyed(text, finished)
    if isinstance(found, Unusable):
        return found
    if list(found) == ["NOT VERIFIED"]:
        return Unusable(Useless.NOT_VERIFIED)
    if list(found) != ["VERIFIED"]:
        return Unusable(Useless.NO_FORM if found.keys().isdisjoint(_VERDICTS) else Useless.SEVERAL_ANSWERS)
    reason = _one_line(found["VERIFIED"])
    return _fault(reason, asked) or Verification(reason)


def parse_mistake(text: str, finished: bool, asked: Asked) -> Mistake | Unusable:
    """The answer to "which step is the first wrong one"."""
    found = _keyed(text, finished)
    if isinstance(found, Unusable):
        return found
    if list(found) == ["NO MISTAKE"]:
        return Unusable(Useless.NO_MISTAKE)
    if list(found) != ["STEP", "WHY", "DIRECTION"]:
        return Unusable(Useless.NO_FORM if "NO MISTAKE" not in found else Useless.SEVERAL_ANSWERS)
    step, reason, direction = found["STEP"].strip(), _one_line(found["WHY"]), _one_line(found["DIRECTION"])
    if not _NUMBER.fullmatch(step):
        return Unusable(Useless.SEVERAL_ANSWERS if _NUMBERS.fullmatch(step) else Useless.NO_FORM)
    if int(step) - 1 not in asked.steps:
        return Unusable(Useless.OUT_OF_RANGE)
    fault = _fault(reason, asked) or _fault(direction, asked)
    return fault or Mistake(int(step) - 1, reason, direction, corrected=None)


def _keyed(text: str, finished: bool) -> Mapping[str, str] | Unusable:
    """The values by key, in the answer's order; or why there is no such thing."""
    if not finished:
        return Unusable(Useless.TRUNCATED)
    if len(text) > _LONGEST_ANSWER:
        return Unusable(Useless.TOO_LONG)
    found: dict[str, str] = {}
    key, blank = "", False
    for line in _unfenced(text):
        if match := _LINE.fullmatch(line) or _VERDICT.fullmatch(line):
            key = match["key"].upper()
            if key in found:
                return Unusable(Useless.SEVERAL_ANSWERS)
            found[key] = match.groupdict().get("value", "")
        elif not line:
            blank = True
            continue
        elif not key or blank:
            return Unusable(Useless.NO_FORM)
        else:
            found[key] += f"\n{line}"
        blank = False
    return found or Unusable(Useless.NO_FORM)


def _unfenced(text: str) -> list[str]:
    """The lines of an answer, without blank space around them and a code fence around the whole."""
    lines = [line.strip() for line in text.strip().split("\n")]
    if _FENCE.fullmatch(lines[0]):
        lines = lines[1:]
    return lines[:-1] if lines and lines[-1] == "```" else lines


def _one_line(value: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())


def _fault(text: str, asked: Asked) -> Unusable | None:
    """Why a text must not get into a demonstration."""
    if not any(c.isalpha() for c in text) or _COPIED.fullmatch(text) or text.strip(" .").lower() in _EMPTY_WORDS:
        return Unusable(Useless.EMPTY_REASON)
    if _KEY_INSIDE.search(text):
        return Unusable(Useless.SEVERAL_ANSWERS)
    if len(text) > asked.longest:
        return Unusable(Useless.TOO_LONG)
    if has_special_token(text):
        return Unusable(Useless.SPECIAL_TOKEN)
    if "\\boxed" in text or "\\fbox" in text:
        return Unusable(Useless.BOXED)
    if leak_in(text) is not None:
        return Unusable(Useless.LEAKED)
    return Unusable(Useless.WRONG_LANGUAGE) if wrong_language(text, asked.question) else None
