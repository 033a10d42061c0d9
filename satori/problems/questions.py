"""What identifies a question whatever its typesetting: its key, its split, and whether it was seen before.

Two questions are the same where they differ only in case, spaces, dollar signs and LaTeX that changes the looks alone.
"""

import hashlib
import re
import unicodedata
from array import array

from satori.problems.arithmetic import Split

_TEST_SHARE = 0.05
_VALIDATION_SHARE = 0.05
_LOOKS = re.compile(r"\\(?:left|right|displaystyle)(?![a-z])|\\[!()\[\]]")
_SPACES = re.compile(r"\\quad(?![a-z])|\\[,;: ]")
_NEEDLESS_SPACE = re.compile(r" (?:(?=\W)|(?<=\W ))")
_SLOTS = 8


def normalized(question: str) -> str:
    """The question without what only changes its looks. A space between letters or digits is kept, as one space."""
    text = unicodedata.normalize("NFC", question).casefold().replace("$", "").replace("~", " ")
    if "\\" in text:
        text = text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
        text = _LOOKS.sub("", _SPACES.sub(" ", text))
    return _NEEDLESS_SPACE.sub("", " ".join(text.split()))


def question_key(question: str) -> int:
    """128 bits of a hash of the normalised question."""
    text = normalized(question).encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16, person=b"question 1").digest(), "big")


def split_of_question(key: int) -> Split:
    """5% of all questions are test, 5% validation, whatever the source: splits are disjoint by construction."""
    share = (key >> 64) / 2**64
    if share < _TEST_SHARE:
        return Split.TEST
    return Split.VALIDATION if share < _TEST_SHARE + _VALIDATION_SHARE else Split.TRAIN


class SeenQuestions:
    """Which questions were seen, in a table of fixed size: 64 bits of each key, eight to a bucket.

    In a full bucket a new key takes the place of another one, whose question would then pass as new.
    """

    def __init__(self, size: int) -> None:
        """Room for ``size`` questions; with no room every question is new."""
        self._buckets = -(-size // _SLOTS)
        self._table = array("Q", bytes(8 * _SLOTS * self._buckets))

    def add(self, key: int) -> bool:
        """True where the question is new."""
        if not self._buckets:
            return True
        mark = key & (2**64 - 1) or 1  # 0 is a free place
        start = mark % self._buckets * _SLOTS
        bucket = self._table[start : start + _SLOTS]
        if mark in bucket:
            return False
        place = bucket.index(0) if 0 in bucket else (mark >> 61)
        self._table[start + place] = mark
        return True
