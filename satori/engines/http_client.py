"""JSON over HTTP to a model server: many requests in flight, and every failure that passes by itself tried again.

The requests run on an event loop in a thread of its own, so that code without asyncio gets each answer as it comes.
Code with asyncio uses :class:`HttpClient` as it is. The key comes from the environment; it goes into the requests'
headers and nowhere else. What it leaves out: what is asked and answered (:mod:`satori.engines.server`), answers token
by token, and a record of the requests.
"""

import asyncio
import contextlib
import json
import os
import queue
import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import httpx2
from pydantic import ConfigDict, Field, SecretStr, field_validator

from satori.config import Settings
from satori.engines.server_errors import (
    PASSING,
    Asked,
    Cause,
    ServerError,
    Trouble,
    classify,
    final_error,
    seconds_to_wait,
    server_words,
    shown,
)
from satori.engines.server_replies import is_last_piece, read_models, read_usage

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")

_KEEP_ALIVE = 2.0  # seconds; servers close idle connections after 5, and a request must not meet that moment
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_MODELS = 20


class ConnectionSettings(Settings):
    """How to reach a model server, and how patiently."""

    model_config = ConfigDict(hide_input_in_errors=True)  # an address may hold a password by mistake

    url: str
    """The server's address up to the version, such as http://localhost:8000/v1; /v1 is added where there is no path."""
    key_variable: str = Field(default="OPENAI_API_KEY", min_length=1)
    """The environment variable that holds the key; nothing is sent where it is not set."""
    concurrency: int = Field(default=256, gt=0)
    """Requests in flight at a time."""
    attempts: int = Field(default=8, gt=0, le=100)
    """How often a request is tried where it meets 429, 5xx, a timeout, a cut connection or an answer that cannot be
    read. Anything else fails at once."""
    first_wait: float = Field(default=1.0, ge=0.0)
    """Seconds before the second attempt; twice as long before each further one, less up to half of it at random."""
    longest_wait: float = Field(default=60.0, ge=0.0)
    """Seconds between attempts at most, also where the server asks for more (Retry-After)."""
    timeout: float = Field(default=600.0, gt=0.0)
    """Seconds for one attempt, the whole response included."""
    connect_timeout: float = Field(default=10.0, gt=0.0)
    """Seconds for making a connection."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            url = httpx2.URL(value.strip())
        except httpx2.InvalidURL:
            raise ValueError("url is not an address") from None
        if url.userinfo or url.query or url.fragment:
            raise ValueError("url holds more than an address; a key belongs into the environment (key_variable)")
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("url is no address such as http://localhost:8000/v1")
        return str(url).rstrip("/") + ("/v1" if url.path.strip("/") == "" else "")


@dataclass
class Traffic:
    """What went over the wire so far. Tokens are as the server counts them."""

    requests: int = 0
    answered: int = 0
    failed: int = 0
    """Requests given up; those cancelled are in none of the two."""
    retries: Counter[Cause] = field(default_factory=Counter)
    """Attempts that failed and were followed by another, by cause."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    """Finish reasons in the server's words."""
    reached: bool = False
    """Whether the server ever answered anything."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request (a GET without a body) and the reader of its answer.

    ``read`` gets the answer's JSON and raises ValueError where it is not what was asked for.
    """

    path: str
    body: Mapping[str, Any] | None
    read: Callable[[Any], T_co]
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class _Answer(Generic[T_co]):
    """What was read, and the tokens in and out that it took."""

    value: T_co
    prompt_tokens: int
    output_tokens: int


class HttpClient:
    """Asks one server, inside ``async with``."""

    def __init__(self, settings: ConnectionSettings, traffic: Traffic) -> None:
        self.settings, self.traffic = settings, traffic
        self._key = _read_key(settings.key_variable)
        self._random = random.Random()  # of its own: waiting must not change what a seeded run draws

    async def __aenter__(self) -> Self:
        settings = self.settings
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        try:
            self._http = httpx2.AsyncClient(
                headers=headers,
                timeout=httpx2.Timeout(None, connect=settings.connect_timeout),
                limits=httpx2.Limits(max_keepalive_connections=settings.concurrency, keepalive_expiry=_KEEP_ALIVE),
                trust_env=httpx2.URL(settings.url).host not in _LOOPBACK,  # no proxy on the way to this machine
            )
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            said = "no address" if isinstance(error, httpx2.InvalidURL) else error  # it may quote a password
            raise ServerError(
                f"the proxy that the environment names (ALL_PROXY, HTTPS_PROXY, HTTP_PROXY) cannot be used: {said}",
                Cause.UNREACHABLE,
            ) from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def ask(self, call: Call[T]) -> T:
        """The answer to a call, tried as often as the settings say. Raises ServerError."""
        with self.traffic.lock:
            self.traffic.requests += 1
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._attempt(call)
            if not isinstance(outcome, Trouble):
                with self.traffic.lock:
                    self.traffic.answered += 1
                    self.traffic.prompt_tokens += outcome.prompt_tokens
                    self.traffic.output_tokens += outcome.output_tokens
                return outcome.value
            # Where nothing ever answered, the address is more likely wrong than the server busy.
            passing = outcome.cause in PASSING and (outcome.cause is not Cause.UNREACHABLE or self.traffic.reached)
            if not passing or attempt == self.settings.attempts:
                with self.traffic.lock:
                    self.traffic.failed += 1
                raise await self._error(call, outcome, attempt)
            with self.traffic.lock:
                self.traffic.retries[outcome.cause] += 1
            await asyncio.sleep(self._wait(attempt, outcome.retry_after))

    async def events(self, call: Call[T]) -> AsyncGenerator[T, None]:
        """What a server sends piece by piece (server-sent events), each read by the call. Raises ServerError, also
        where the pieces stop before the answer ends; nothing is tried again, since a part may have been shown."""
        with self.traffic.lock:
            self.traffic.requests += 1
        url, content = self.settings.url + call.path, json.dumps({**(call.body or {}), "stream": True}).encode()
        timeout = httpx2.Timeout(self.settings.timeout, connect=self.settings.connect_timeout)
        ended = False
        try:
            async with self._http.stream("POST", url, content=content, timeout=timeout) as response:
                self.traffic.reached = True
                if not response.is_success:
                    await response.aread()
                    trouble = self._read(call, response)
                    assert isinstance(trouble, Trouble)
                    raise await self._error(call, trouble)
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data == "[DONE]":
                        ended = True
                        break
                    if data:
                        event = json.loads(data)
                        if isinstance(event, dict) and event.get("error"):
                            said = self._clean(server_words(data.encode()))
                            raise await self._error(call, Trouble(Cause.SERVER, said, response.status_code))
                        ended = ended or is_last_piece(event)
                        yield call.read(event)
            if not ended:
                raise await self._error(call, Trouble(Cause.CUT, "its answer stops without an end"))
        except (ValueError, RecursionError, httpx2.DecodingError) as error:
            raise await self._error(call, Trouble(Cause.GARBAGE, self._clean(str(error)))) from None
        except httpx2.TransportError as error:
            raise await self._error(call, self._of_transport(error, self.settings.timeout)) from None

    async def _error(self, call: Call[T], trouble: Trouble, attempts: int = 1) -> ServerError:
        return final_error(trouble, await self._asked(call, trouble), attempts)

    def _of_transport(self, error: httpx2.TransportError, seconds: float) -> Trouble:
        """What became of a request that brought no answer within so many seconds."""
        if isinstance(error, httpx2.ConnectTimeout):
            return Trouble(Cause.TIMEOUT, f"no connection within {self.settings.connect_timeout:g} s")
        if isinstance(error, httpx2.TimeoutException):
            return Trouble(Cause.TIMEOUT, f"no answer within {seconds:g} s")
        said = self._clean(str(error) or type(error).__name__)
        unreachable = isinstance(error, httpx2.ConnectError | httpx2.ProxyError)
        return Trouble(Cause.UNREACHABLE if unreachable else Cause.CUT, said)

    async def _attempt(self, call: Call[T]) -> "_Answer[T] | Trouble":
        """One attempt. Failures are returned: the library's own exceptions hold the request, and with it the key."""
        method, content = ("GET", None) if call.body is None else ("POST", json.dumps(call.body).encode())
        seconds = self.settings.timeout if content else self.settings.connect_timeout  # a GET is quick
        try:
            async with asyncio.timeout(seconds):
                response = await self._http.request(method, self.settings.url + call.path, content=content)
        except TimeoutError:
            return Trouble(Cause.TIMEOUT, f"no answer within {seconds:g} s")
        except httpx2.DecodingError as error:
            return Trouble(Cause.GARBAGE, self._clean(str(error)))
        except httpx2.TransportError as error:
            return self._of_transport(error, seconds)
        self.traffic.reached = True
        return self._read(call, response)

    def _read(self, call: Call[T], response: httpx2.Response) -> "_Answer[T] | Trouble":
        """What an answer says."""
        status, body = response.status_code, response.content
        if not response.is_success:
            wait = seconds_to_wait(response.headers.get("Retry-After"))
            said = self._clean(response.headers.get("Location") or server_words(body))
            return Trouble(classify(status, body), said, status, wait)
        try:
            found = json.loads(body)
            value = call.read(found)
        except (ValueError, RecursionError) as error:
            return Trouble(Cause.GARBAGE, self._clean(f"{error}; {server_words(body)}"))
        return _Answer(value, *read_usage(found))

    def _wait(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to the next attempt; random, so that requests that failed together do not come back together."""
        longest = self.settings.longest_wait
        growing = min(longest, self.settings.first_wait * 2 ** (attempt - 1)) * self._random.uniform(0.5, 1.0)
        return max(growing, min(longest, (retry_after or 0.0) * self._random.uniform(1.0, 1.25)))

    async def _asked(self, call: Call[Any], trouble: Trouble) -> Asked:
        body = call.body or {}
        asks_models = trouble.cause is Cause.NOT_FOUND and call.body is not None
        models = await self._attempt(Call("/models", None, read_models)) if asks_models else None
        return Asked(
            url=self.settings.url + call.path,
            key_variable=self.settings.key_variable,
            has_key=self._key is not None,
            model=body.get("model"),
            prompt_tokens=call.prompt_tokens,
            max_tokens=body.get("max_tokens"),
            models=tuple(map(self._clean, models.value))[:_MOST_MODELS] if isinstance(models, _Answer) else (),
        )

    def _clean(self, text: str) -> str:
        """A foreign text for a message: short, and without the key."""
        return shown(text.replace(self._key.get_secret_value(), "***") if self._key else text)


def answers(
    settings: ConnectionSettings, traffic: Traffic, calls: Sequence[Call[T]]
) -> Generator[tuple[int, T | ServerError], None, None]:
    """Yield (index of the call, its answer or its error) as they come, at most ``concurrency`` of them in flight.

    Closing the iterator, or an exception where it is used, cancels what is in flight.
    """

    async def work(emit: Callable[[tuple[int, T | ServerError]], None]) -> None:
        waiting = iter(enumerate(calls))

        async def one_at_a_time(client: HttpClient) -> None:
            for index, call in waiting:
                try:
                    emit((index, await client.ask(call)))
                except ServerError as error:
                    emit((index, error))

        async with HttpClient(settings, traffic) as client, asyncio.TaskGroup() as group:
            for _ in range(min(settings.concurrency, len(calls))):
                group.create_task(one_at_a_time(client))

    return _streamed(work)


def streamed(settings: ConnectionSettings, traffic: Traffic, call: Call[T]) -> Generator[T, None, None]:
    """Yield what the server sends for a call, piece by piece. Closing the iterator ends the request."""

    async def work(emit: Callable[[T], None]) -> None:
        async with HttpClient(settings, traffic) as client, aclosing(client.events(call)) as events:
            async for piece in events:
                emit(piece)

    return _streamed(work)


def _streamed(work: Callable[[Callable[[R], None]], Coroutine[Any, Any, None]]) -> Generator[R, None, None]:
    """Run a coroutine in a thread and yield what it emits, when it does; the thread ends before this does."""
    ready: queue.SimpleQueue[tuple[R] | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work(lambda item: ready.put((item,))))
    task.add_done_callback(lambda _: ready.put(None))
    # A daemon, so that an iterator nobody closed does not keep the process alive.
    thread = threading.Thread(target=_drive, args=(loop, task), name="satori-server", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            yield item[0]
        task.result()  # raises what ended the work early
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has closed by itself
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _drive(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    try:
        loop.run_until_complete(asyncio.wait({task}))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _read_key(variable: str) -> SecretStr | None:
    """The key of an environment variable. Raises ServerError where it cannot be a key; its text is never shown."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ServerError(
            f"the environment variable {variable} holds characters that a key cannot have: put the key there by itself",
            Cause.KEY,
        )
    return SecretStr(key) if key else None
