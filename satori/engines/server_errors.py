"""What a model server's failures mean, and what the user can do about each.

Every failure has one cause. Some causes pass by themselves and are worth another attempt (:data:`PASSING`); the others
are the user's to mend, and their messages say how. What a server says is untrusted text: it is shown shortened, without
control characters, and without the key where the server repeats it.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

_LONGEST_QUOTE = 300
_CONTEXT_WORDS = re.compile(r"context[ _-]?(?:length|size|window)", re.IGNORECASE)
_CONTEXT_LIMIT = re.compile(r"context[ _-]?(?:length|size|window)\D{0,40}(\d{1,9})", re.IGNORECASE)


class Cause(StrEnum):
    """Why a request failed."""

    RATE_LIMIT = "rate limit"
    SERVER = "server error"
    TIMEOUT = "timeout"
    CUT = "cut connection"
    GARBAGE = "unusable answer"
    UNREACHABLE = "unreachable"
    KEY = "key refused"
    NOT_FOUND = "not found"
    CONTEXT = "context too long"
    REFUSED = "request refused"


PASSING = frozenset({Cause.RATE_LIMIT, Cause.SERVER, Cause.TIMEOUT, Cause.CUT, Cause.GARBAGE, Cause.UNREACHABLE})
"""Causes that another attempt may not meet."""

_OF_ALL_REQUESTS = frozenset({Cause.UNREACHABLE, Cause.KEY, Cause.NOT_FOUND, Cause.REFUSED})

_FILTERED = frozenset({400, 403, 413, 422})
"""Statuses by which servers refuse a wrong form or key, and also a request for what it says, as content filters do."""


class ServerError(RuntimeError):
    """A request that a model server did not answer, after every attempt that was worth making.

    ``status`` is that of the server's answer, if there was one.
    """

    def __init__(self, message: str, cause: Cause, status: int | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.status = status

    @property
    def concerns_all(self) -> bool:
        """Whether every other request is sure to meet the same, since the address, the key, the model or the form is
        wrong. With a status of content filters one cannot know: where many requests in a row meet it, it does."""
        return self.cause in _OF_ALL_REQUESTS and self.status not in _FILTERED


@dataclass(frozen=True)
class Trouble:
    """One attempt that failed: why, what the server (or the network) said, its status, and the wait it asked for."""

    cause: Cause
    said: str
    status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Asked:
    """What a failed request was: what its message needs to name."""

    url: str
    key_variable: str
    has_key: bool
    model: str | None = None
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    models: tuple[str, ...] = ()
    """What the server has, where it was asked and answered."""


def classify(status: int, body: bytes) -> Cause:
    """The cause of an answer that is not a success."""
    if status == 429:
        return Cause.RATE_LIMIT
    if status in (408, 425) or (status >= 500 and status != 501):
        return Cause.SERVER
    if status in (401, 403):
        return Cause.KEY
    if status in (404, 405):
        return Cause.NOT_FOUND
    if status in (400, 413, 422) and _is_about_context(body):
        return Cause.CONTEXT
    return Cause.REFUSED


def final_error(trouble: Trouble, asked: Asked, attempts: int) -> ServerError:
    """The error of a request that is given up."""
    what = _EXPLAIN[trouble.cause](trouble, asked)
    tried = f" {attempts} attempts failed." if attempts > 1 else ""
    said = f" It said: {trouble.said}" if trouble.said and trouble.status is not None else ""
    return ServerError(what + tried + said, trouble.cause, trouble.status)


def _rate_limited(trouble: Trouble, asked: Asked) -> str:
    return (
        f"{asked.url} takes no more requests for now (HTTP 429): lower concurrency, or raise attempts or longest_wait."
    )


def _broken_server(trouble: Trouble, asked: Asked) -> str:
    return f"{asked.url} answers with an error of its own (HTTP {trouble.status}): its log says why."


def _timed_out(trouble: Trouble, asked: Asked) -> str:
    return f"{asked.url} did not answer ({trouble.said}): raise timeout, lower concurrency or ask for fewer tokens."


def _cut(trouble: Trouble, asked: Asked) -> str:
    return f"{asked.url} broke the connection off ({trouble.said}): see whether the server is still up, and its log."


def _garbled(trouble: Trouble, asked: Asked) -> str:
    return f"{asked.url} answers, but not as an OpenAI-compatible server does ({trouble.said}): is url its address?"


def _unreachable(trouble: Trouble, asked: Asked) -> str:
    return f"no server answers at {asked.url} ({trouble.said}): start it, or set url to where it listens."


def _key_refused(trouble: Trouble, asked: Asked) -> str:
    if asked.has_key:
        mend = f"the key in the environment variable {asked.key_variable} is not good for this; put another there"
    else:
        mend = (
            f"the environment variable {asked.key_variable} holds no key; put it there, or name another in key_variable"
        )
    return f"{asked.url} refuses access (HTTP {trouble.status}): {mend}."


def _not_found(trouble: Trouble, asked: Asked) -> str:
    has = f" It has {', '.join(asked.models)}." if asked.models else ""
    model = f"no model {asked.model!r}, or " if asked.model else ""
    return (
        f"{asked.url}: the server has {model}no such path (HTTP {trouble.status}).{has} Set model to one it has, "
        "url to its address up to the version (…/v1), or api to a form it knows."
    )


def _context_too_long(trouble: Trouble, asked: Asked) -> str:
    prompt = f"a prompt of {asked.prompt_tokens} tokens" if asked.prompt_tokens is not None else "the prompt"
    room = f" with max_new_tokens {asked.max_tokens}" if asked.max_tokens is not None else ""
    match = _CONTEXT_LIMIT.search(trouble.said)
    limit = f" of {match[1]} tokens" if match else ""
    return (
        f"{asked.url}: {prompt}{room} does not fit the model's context{limit}. Ask for fewer new tokens, shorten the "
        "prompt, or start the server with a longer context."
    )


def _refused(trouble: Trouble, asked: Asked) -> str:
    if trouble.status is not None and 300 <= trouble.status < 400:
        return f"{asked.url} sends on to another address (HTTP {trouble.status}): set url to that one."
    if trouble.status == 402:
        return f"{asked.url} asks for payment (HTTP 402): see to the account that the key belongs to."
    return (
        f"{asked.url} refuses the request (HTTP {trouble.status}). Where it does not know a field, set extensions "
        "to false or leave the field out with extra_fields; where it takes no token ids, set api to completion-text or "
        "chat."
    )


_EXPLAIN = {
    Cause.RATE_LIMIT: _rate_limited,
    Cause.SERVER: _broken_server,
    Cause.TIMEOUT: _timed_out,
    Cause.CUT: _cut,
    Cause.GARBAGE: _garbled,
    Cause.UNREACHABLE: _unreachable,
    Cause.KEY: _key_refused,
    Cause.NOT_FOUND: _not_found,
    Cause.CONTEXT: _context_too_long,
    Cause.REFUSED: _refused,
}


def server_words(body: bytes) -> str:
    """What the body of a failed answer says: the message of its JSON, or the beginning of its text, as it is."""
    text = body[: 64 * _LONGEST_QUOTE].decode("utf-8", errors="replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for _ in range(2):  # {"error": {"message": …}}, {"error": …}, {"message": …} and {"detail": …} all occur
        if isinstance(found, dict):
            found = next((found[name] for name in ("error", "message", "detail") if found.get(name)), found)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def shown(text: str) -> str:
    """A foreign text as one short line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST_QUOTE]).split())
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "…"


def seconds_to_wait(header: str | None) -> float | None:
    """What a Retry-After header asks for: it holds seconds or a date. None where it holds neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - datetime.now(UTC).timestamp()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if not math.isnan(seconds) else None


def _is_about_context(body: bytes) -> bool:
    return bool(_CONTEXT_WORDS.search(body[:10_000].decode("utf-8", errors="replace")))
