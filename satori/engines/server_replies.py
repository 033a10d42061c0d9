"""What the answers of an OpenAI-compatible server say.

All of it is untrusted: whatever is missing or of another form is a ValueError that says so (the request is then tried
again), or is left out where an answer is of use without it. What it leaves out: tool calls, and all choices but the
first.
"""

import re
from dataclasses import dataclass
from typing import Any

from satori.engines.base import Piece
from satori.types import FinishReason

_BROKEN_OFF = frozenset({"abort", "error"})  # vLLM's and SGLang's words for a response that they gave up
_ID_TOKEN = re.compile(r"token_id:(\d{1,10})")  # a token under vLLM's return_tokens_as_token_ids
_WORD = re.compile(r"[a-z_]{1,30}")
_HIGHEST_ID = 2**31
_LARGEST = 1e39  # beyond every 32-bit float


@dataclass(frozen=True)
class Reply:
    """One response. ``ending`` is the finish reason in the server's word; the ids are None where it gave none."""

    text: str
    finish_reason: FinishReason
    ending: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] = ()
    prompt_ids: tuple[int, ...] | None = None


def read_reply(found: Any) -> Reply:
    """The first choice of an answer, of the completions or of the chat API. Raises ValueError where there is none."""
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("no choices in it")
    choice = choices[0]
    message, ending = choice.get("message"), choice.get("finish_reason")
    text = (message.get("content") or "") if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str):
        raise ValueError("no text in its first choice")
    if not isinstance(ending, str) or ending in _BROKEN_OFF:
        raise ValueError(f"a response that was broken off (finish_reason {ending!r})")
    tokens = _sampled(choice.get("logprobs"))
    given = next((choice[name] for name in ("token_ids", "response_token_ids") if choice.get(name) is not None), None)
    if given is None and tokens and all(token_id is not None for token_id, _ in tokens):
        given = [token_id for token_id, _ in tokens]
    prompt = choice.get("prompt_token_ids") or found.get("prompt_token_ids")
    logprobs = tuple(logprob for _, logprob in tokens if logprob is not None)
    return Reply(
        text=text.encode(errors="replace").decode(),  # JSON can hold half a character, which no tokenizer reads
        finish_reason=FinishReason.STOP if ending == "stop" else FinishReason.LENGTH,
        ending=ending if _WORD.fullmatch(ending) else "other",
        token_ids=None if given is None or (text and not given) else _ids(given),
        logprobs=logprobs if len(logprobs) == len(tokens) else (),
        prompt_ids=_ids(prompt) if prompt else None,
    )


def read_piece(found: Any) -> Piece:
    """One event of a streamed answer, of the completions or of the chat API. Raises ValueError where it is none."""
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list):
        raise ValueError("no choices in it")
    choice = choices[0] if choices else {}  # the last event may hold the usage alone
    if not isinstance(choice, dict):
        raise ValueError("a choice that is none")
    delta = choice.get("delta")
    text = (delta.get("content") if isinstance(delta, dict) else choice.get("text")) or ""
    if not isinstance(text, str):
        raise ValueError("a piece of text that is none")
    given = choice.get("token_ids")
    return Piece(_ids(given) if given else (), text.encode(errors="replace").decode())


def is_last_piece(found: Any) -> bool:
    """Whether an event of a streamed answer says that the answer ends with it."""
    choices = found.get("choices") if isinstance(found, dict) else None
    return isinstance(choices, list) and any(isinstance(c, dict) and c.get("finish_reason") for c in choices)


def _sampled(logprobs: Any) -> list[tuple[int | None, float | None]]:
    """The id and log-probability of each token, as far as they are told; empty where there is nothing to read.

    The completions API has a list for the tokens' names and one for their log-probabilities, the chat API (and all of
    llama.cpp) one record a token.
    """
    if not isinstance(logprobs, dict):
        return []
    records = logprobs.get("content")
    if isinstance(records, list):
        rows = [(r.get("id"), r.get("token"), r.get("logprob")) for r in records if isinstance(r, dict)]
    else:
        names, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
        if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
            return []
        rows = [(None, name, value) for name, value in zip(names, values, strict=True)]
    sampled = []
    for token_id, name, value in rows:
        match = _ID_TOKEN.fullmatch(name) if isinstance(name, str) else None
        known = int(match[1]) if match else token_id if isinstance(token_id, int) else None
        sampled.append((known, _number(value)))
    return sampled


def _number(value: Any) -> float | None:
    """The value as a float; None where it is no number, not finite or too large to be one of a model."""
    return float(value) if isinstance(value, int | float) and abs(value) < _LARGEST else None


def _ids(given: Any) -> tuple[int, ...]:
    if not isinstance(given, list) or not all(type(i) is int and 0 <= i < _HIGHEST_ID for i in given):
        raise ValueError("token ids that are none")
    return tuple(given)


def read_models(found: Any) -> dict[str, int | None]:
    """The models of a server's list, each with its context length where the server tells (vLLM and SGLang do)."""
    rows = found.get("data") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise ValueError("not a list of models")
    models: dict[str, int | None] = {}
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            length = row.get("max_model_len")
            models[row["id"]] = length if isinstance(length, int) else None
    return models


def read_usage(found: Any) -> tuple[int, int]:
    """Tokens in and out as an answer counts them, 0 where it does not."""
    usage = found.get("usage") if isinstance(found, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, output = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return prompt, output
