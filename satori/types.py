"""Records that cross module borders. All are frozen; all go to and from JSON lines through their dict form."""

from dataclasses import dataclass
from enum import StrEnum

from satori.grading.forms import PLAIN_NUMBER, AnswerForm


@dataclass(frozen=True)
class Problem:
    """A question with its known answer.

    ``level`` is the difficulty (0 where the source has none); ``solution`` the reference solution, a text a step,
    empty where the source has none; ``form`` says how answers are read and compared.
    """

    id: str
    question: str
    answer: str
    level: int = 0
    solution: tuple[str, ...] = ()
    form: AnswerForm = PLAIN_NUMBER


class FinishReason(StrEnum):
    """Why a response ended: the model sampled the end token, or it met the length limit."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Completion:
    """What an engine sampled after a prompt: the token ids exactly as sampled (with the end token where there is
    one), why it ended, and the log-probability of each token at the sampling temperature."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[float, ...] = ()


class Variant(StrEnum):
    """The whole method, or the same pipeline without reflect and explore (paper table 3)."""

    COAT = "coat"
    COT = "cot"
