"""How busy the synthesis flow keeps its servers: the share of slot-seconds in which the slowest one works.

    python bench/synthesis_flow.py [--seconds 40] [--in-flight 96] [--out FILE]

Generator, critic and reward model are three servers in one other process, each with so many slots and a time for each
token; lengths are drawn from a lognormal distribution. What is measured is ours: the window of problems, the LLM
agents, the HTTP client, grading, the journal. Two scenarios: the generator is the slowest server, and the critic is.

Counted is from the moment all slots of the slowest server are busy for the first time (ramp-up) to the moment a problem
ends and no other is begun in its place (drain); both are printed.
"""

import argparse
import asyncio
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from satori.engines.http_client import HttpClient, Traffic
from satori.engines.server import ServerSettings
from satori.problems.arithmetic import Split, problem_stream
from satori.synthesis.agents import Agents
from satori.synthesis.flow import flow
from satori.synthesis.journal import Journal, SynthesisSettings
from satori.synthesis.llm.agents import LLMCritic, LLMGenerator
from satori.synthesis.llm.chats import ServerChat
from satori.synthesis.llm.reward import RewardServerSettings, ServerReward
from satori.synthesis.llm.templates import load_templates
from satori.synthesis.pipeline import ProblemRecord, demonstrate
from satori.types import Problem

REQUIRED = 0.95


@dataclass(frozen=True)
class Shape:
    """A server: slots, tokens of an answer (median, and spread of the logarithm), seconds a token and a prompt."""

    slots: int
    tokens: float
    spread: float
    seconds_per_token: float
    seconds_per_prompt: float


SCENARIOS = {
    "generator slowest": {
        "generator": Shape(64, 260, 0.5, 0.007, 0.1),
        "critic": Shape(24, 60, 0.4, 0.01, 0.1),
        "reward": Shape(8, 1, 0.0, 0.0, 0.05),
    },
    "critic slowest": {
        "generator": Shape(64, 260, 0.5, 0.004, 0.1),
        "critic": Shape(12, 60, 0.4, 0.01, 0.1),
        "reward": Shape(8, 1, 0.0, 0.0, 0.05),
    },
}


# --- the servers, in a process of their own ---


class SlotServer:
    """Answers so many requests at a time, each after the time its tokens take, and remembers when it was busy."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name, self.shape = name, shape
        self.busy: list[tuple[float, float]] = []
        self.slots, self.random = asyncio.Semaphore(shape.slots), random.Random(name)

    async def start(self) -> int:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1000)
        return int(server.sockets[0].getsockname()[1])

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(size[1]) if size else 0)
                answer = await self._answer(json.loads(body)) if body else {"busy": self.busy}
                content = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        shape = self.shape
        tokens = max(1, round(shape.tokens * self.random.lognormvariate(0, shape.spread)))
        async with self.slots:
            begun = time.monotonic()
            await asyncio.sleep(shape.seconds_per_prompt + tokens * shape.seconds_per_token)
            self.busy.append((begun, time.monotonic()))
        if self.name == "reward":
            return {"data": [{"probs": [self.random.random()]}], "usage": {"prompt_tokens": 400}}
        text = say(asked["messages"][-1]["content"], self.random)
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 200, "completion_tokens": tokens}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


def say(prompt: str, rng: random.Random) -> str:
    """An answer to one of the six prompts: four in ten solutions go wrong."""
    if "VERIFIED:" in prompt:
        return "VERIFIED: Each of these sums adds the next number to the total so far, digit by digit."
    if "STEP:" in prompt:
        steps = prompt.rsplit("\nStep ", 1)[1]
        last = int(re.match(r"\d+", steps)[0])  # type: ignore[index]
        return f"STEP: {last}\nWHY: One of the columns was added up wrongly.\nDIRECTION: Add the columns once more."
    question = re.search(r"Problem:\n(.*)", prompt)
    terms = [int(n) for n in re.findall(r"\d+", question[1] if question else "")]
    total, off = sum(terms), rng.random() < 0.4
    plan = "Step 1: All the numbers of the problem have to be added up."
    result = f"Step 2: Adding them one after the other gives \\boxed{{{total + off}}}"
    return result if "Steps so far:" in prompt else f"{plan}\n\n{result}"


async def serve(scenario: str) -> None:
    servers = [SlotServer(name, shape) for name, shape in SCENARIOS[scenario].items()]
    print(json.dumps({server.name: await server.start() for server in servers}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the bench ends


# --- the bench ---


async def run(scenario: str, ports: dict[str, int], seconds: float, in_flight: int) -> dict[str, Any]:
    settings = SynthesisSettings()
    drained_from: list[float] = []
    started = time.monotonic()

    def source() -> Iterator[tuple[int, Problem]]:
        for item in enumerate(problem_stream(Split.TRAIN, 0)):
            if time.monotonic() - started > seconds:
                drained_from.append(time.monotonic())
                return
            yield item

    async with AsyncExitStack() as stack:
        tempfolder = stack.enter_context(tempfile.TemporaryDirectory())
        agents, traffic = await open_agents(stack, ports)

        async def work(item: tuple[int, Problem]) -> tuple[int, ProblemRecord]:
            return item[0], await demonstrate(item[1], agents, settings, seed=0)

        journal, records, cpu = Journal(Path(tempfolder) / "problems.jsonl"), [], time.process_time()
        async with aclosing(flow(source(), work, in_flight)) as groups:
            async for group in groups:
                for place, record in group:
                    journal.add(place, record)
                    records.append(record)
        ended = time.monotonic()
        cpu = time.process_time() - cpu
    busy = {name: await busy_times(port) for name, port in ports.items()}
    shares = {name: shares_of(busy[name], SCENARIOS[scenario][name].slots, drained_from[0], started) for name in ports}
    slowest = max(shares, key=lambda name: sum(e - b for b, e in busy[name]) / SCENARIOS[scenario][name].slots)
    return {
        "scenario": scenario,
        "slowest": slowest,
        "busy_share": shares[slowest]["busy_share"],
        "servers": shares,
        "drain_seconds": round(ended - drained_from[0], 1),
        "wall_seconds": round(ended - started, 1),
        "cpu_seconds": round(cpu, 1),
        "problems": len(records),
        "failed": sum(record.failed is not None for record in records),
        "demonstrations": sum(len(record.demonstrations) for record in records),
        "requests": sum(t.requests for t in traffic),
        "retries": dict(sum((t.retries for t in traffic), Counter())),
        "in_flight": in_flight,
        "shapes": {name: asdict(shape) for name, shape in SCENARIOS[scenario].items()},
    }


async def open_agents(stack: AsyncExitStack, ports: dict[str, int]) -> tuple[Agents, list[Traffic]]:
    traffic = [Traffic() for _ in ports]
    templates = load_templates()
    chats = []
    for name, counted in zip(("generator", "critic"), traffic, strict=False):
        settings = ServerSettings(url=f"http://127.0.0.1:{ports[name]}", model=name)
        chats.append(ServerChat(await stack.enter_async_context(HttpClient(settings, counted)), settings))
    reward = RewardServerSettings(url=f"http://127.0.0.1:{ports['reward']}", model="reward")
    client = await stack.enter_async_context(HttpClient(reward, traffic[-1]))
    agents = Agents(LLMGenerator(chats[0], templates), LLMCritic(chats[1], templates), ServerReward(client, reward))
    return agents, traffic


async def busy_times(port: int) -> list[tuple[float, float]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.split(b"Content-Length: ")[1].split()[0]))
    writer.close()
    return [(begun, ended) for begun, ended in json.loads(body)["busy"]]


def shares_of(busy: list[tuple[float, float]], slots: int, drained_from: float, started: float) -> dict[str, float]:
    """The busy share of a server between ramp-up and drain, and over the whole run."""
    changes = sorted([(begun, 1) for begun, _ in busy] + [(ended, -1) for _, ended in busy])
    levels = itertools.accumulate(change for _, change in changes)
    full = next((at for (at, _), level in zip(changes, levels, strict=True) if level >= slots), started)
    ended = max(end for _, end in busy)
    inside = sum(max(0.0, min(end, drained_from) - max(begun, full)) for begun, end in busy)
    return {
        "busy_share": round(inside / (slots * max(drained_from - full, 1e-9)), 4),
        "busy_share_with_ramp_up_and_drain": round(sum(e - b for b, e in busy) / (slots * (ended - started)), 4),
        "ramp_up_seconds": round(full - started, 1),
        "counted_seconds": round(drained_from - full, 1),
        "requests": len(busy),
        "mean_seconds": round(statistics.mean(e - b for b, e in busy), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40, help="problems are begun for so long, in each scenario")
    parser.add_argument(
        "--in-flight", type=int, default=SynthesisSettings().problems_in_flight, help="problems under way"
    )
    parser.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    parser.add_argument("--serve", choices=list(SCENARIOS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    results = []
    for scenario in SCENARIOS:
        command = [sys.executable, __file__, "--serve", scenario]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
            assert servers.stdin and servers.stdout
            try:
                ports = json.loads(servers.stdout.readline())
                results.append(asyncio.run(run(scenario, ports, options.seconds, options.in_flight)))
            finally:
                servers.stdin.close()
        print(json.dumps(results[-1], indent=2))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    worst = min(result["busy_share"] for result in results)
    print(f"the slowest server is busy {worst:.1%} of the time at least; required {REQUIRED:.0%}")
    sys.exit(worst < REQUIRED)


if __name__ == "__main__":
    main()
