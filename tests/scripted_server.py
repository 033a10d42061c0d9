"""An HTTP server on this machine that says what a test tells it to, and what OpenAI-compatible servers answer."""

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """What the server got; ``number`` counts from 0."""

    number: int
    method: str
    path: str
    headers: dict
    body: dict | None
    at: float


@dataclass(frozen=True)
class Say:
    """An answer byte for byte. ``missing`` bytes of the body are announced and never sent."""

    status: int = 200
    body: bytes | dict | str = b""
    headers: dict = field(default_factory=dict)
    missing: int = 0


HANG_UP = object()


class ScriptedServer:
    """HTTP on a free port. ``script(request)``, a coroutine, returns the JSON of an answer, a Say, or HANG_UP."""

    def __init__(self, script, port=0):
        self.script, self.port = script, port
        self.requests, self.now, self.peak, self.left = [], 0, 0, 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), name="scripted")
        self.thread.start()
        started.wait()

    def _run(self, started):
        async def main():
            self.stopping = asyncio.Event()
            server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, backlog=1000)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self.stopping.wait()
            server.close()

        self.loop.run_until_complete(main())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(task)
        self.loop.close()

    def stop(self):
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopping.set)
            self.thread.join()

    async def _connection(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader, writer):
        """One request and its answer; False where the connection ends."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(
            len(self.requests), method, path, headers, json.loads(body) if body else None, time.monotonic()
        )
        self.requests.append(request)
        self.now += 1
        self.peak = max(self.peak, self.now)
        answering, leaving = asyncio.ensure_future(self.script(request)), asyncio.ensure_future(reader.read(1))
        try:
            done, _ = await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.now -= 1
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait({answering, leaving})
        if answering not in done:
            self.left += 1
            return False
        said = answering.result()
        if said is HANG_UP:
            return False
        said = said if isinstance(said, Say) else Say(body=said)
        content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        writer.write(f"HTTP/1.1 {said.status} X\r\nContent-Length: {len(content) + said.missing}\r\n".encode())
        writer.write("".join(f"{k}: {v}\r\n" for k, v in said.headers.items()).encode() + b"\r\n" + content)
        await writer.drain()
        return not said.missing


def text_answer(text="ok", ending="stop", usage=(3, 2), **more):
    """As the completions API answers."""
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return {"choices": [{"index": 0, "text": text, "finish_reason": ending, **more}], "usage": counts}


def chat_answer(text="ok", ending="stop", **more):
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": ending, **more}]
    }


def always(answer):
    async def script(request):
        return answer

    return script


def in_turn(*answers):
    """One after the other; the last one again and again."""

    async def script(request):
        return answers[min(request.number, len(answers) - 1)]

    return script
