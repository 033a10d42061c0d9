"""The prompt of the authors' released data: one user turn in ChatML, with their instruction before the question.

Their model cards break the instruction into lines otherwise than :data:`~satori.coat.PROMPT_INSTRUCTION` does, so any
white space in it is accepted. A system turn before the user turn, which Qwen's own template adds, is accepted too.
"""

import re

from satori.coat import PROMPT_INSTRUCTION

_USER = "<|im_start|>user\n"
_TO_ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"
_MARKS = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")
_QUERY = re.compile(
    r"(?:<\|im_start\|>system\n(?:(?!<\|im_).)*<\|im_end\|>\n)?"
    rf"{re.escape(_USER)}(?P<user>(?:(?!<\|im_).)*){re.escape(_TO_ASSISTANT)}",
    re.DOTALL,
)
_INSTRUCTION = re.compile(r"\s+".join(re.escape(word) for word in PROMPT_INSTRUCTION.split()))


def rendered(question: str) -> str:
    """The prompt of a question, up to and with the assistant header."""
    return f"{_USER}{PROMPT_INSTRUCTION}{question}{_TO_ASSISTANT}"


def split_query(query: str) -> tuple[str, str, str]:
    """The question, the prompt up to and with the assistant header, and what follows it. Raises ValueError."""
    match = _QUERY.match(query)
    if match is None:
        raise ValueError(
            f"the query is not one user turn in ChatML: expected {_USER!r}, the question and {_TO_ASSISTANT!r}, "
            f"found {query[:60]!r}…"
        )
    prefix = query[match.end() :]
    if mark := _MARKS.search(prefix):
        raise ValueError(
            f"the query goes on with {mark.group()} after the assistant header, where one turn is expected"
        )
    return question_of(match["user"]), match.group(), prefix


def question_of(user_turn: str) -> str:
    """The question of a user turn that opens with the instruction. Raises ValueError."""
    match = _INSTRUCTION.match(user_turn.lstrip())
    question = user_turn.lstrip()[match.end() :].strip() if match else ""
    if not question:
        raise ValueError(
            f"the user turn is not the instruction and a question: expected {PROMPT_INSTRUCTION!r} and the question, "
            f"found {user_turn[:60]!r}…"
        )
    return question


def bare_question(query: str) -> str:
    """The question of a rendered prompt, of a user turn with the instruction, or by itself."""
    if "<|im_start|>" in query:
        question, _, prefix = split_query(query)
        if prefix:
            raise ValueError(f"the query goes on after the assistant header: {prefix[:60]!r}…")
        return question
    return question_of(query) if _INSTRUCTION.match(query.lstrip()) else query.strip()
