"""Synthesis with chat models on servers that fail in every way: every problem ends in one record, nothing that must not
be learned reaches a demonstration, and a killed run goes on without losing or repeating a problem."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from itertools import cycle

import pytest
import yaml
from scripted_server import HANG_UP, Say, ScriptedServer, chat_answer
from small_run import run

from satori.cli import main
from satori.coat import check_steps, parse

PROBLEMS = 24
TIMEOUT = 0.5
STALL = 1.0
"""Seconds for which a server stops answering: longer than a request is waited for."""
LEAKS = (
    "The ground truth is another one.",
    "According to the answer key this is so.",
    "The reference solution says the same.",
    "As the hint suggests, one goes on from here.",
)
FORBIDDEN = ("ground truth", "answer key", "reference solution", "hint suggests")
FOREIGN = "我们把这些数字一个一个地加起来，就得到了这道题的答案。"
BROKEN = ("429", "500", "503", "slow", "hung up", "cut", "garbage", "no choices")
WRONG_WORDS = ("empty", "foreign", "leak", "truncated", "token")
TURNS = ("broken", "broken", "wrong words", *("",) * 7)
"""Ten answers; in turn, so that every fault occurs however few requests there are."""


class FaultyServer:
    """Answers as ``say`` does, but for three in ten answers, and for a while in the middle."""

    def __init__(self, say, seed, stall_at=None):
        self.say, self.random, self.stall_at = say, random.Random(seed), stall_at
        self.faults, self.stalled_until = Counter(), 0.0
        self.broken_ways, self.wrong_words = cycle(BROKEN), cycle(WRONG_WORDS)
        self.turns = cycle(self.random.sample(TURNS, len(TURNS)))
        self.server = ScriptedServer(self.answer)

    async def answer(self, request):
        if request.number == self.stall_at:
            self.stalled_until = time.monotonic() + STALL
        if time.monotonic() < self.stalled_until:
            self.faults["stalled"] += 1
            await asyncio.sleep(10)
        await asyncio.sleep(self.random.random() / 50)
        turn = next(self.turns)
        if turn == "broken":
            fault = next(self.broken_ways)
            self.faults[fault] += 1
            return await self.broken(fault)
        fault = next(self.wrong_words) if turn == "wrong words" else ""
        self.faults[fault] += 1
        return self.say(request.body, fault, self.random)

    async def broken(self, fault):
        if fault == "slow":
            await asyncio.sleep(10)
        status = {"429": Say(429, {"error": "busy"}, {"Retry-After": "1"}), "500": Say(500), "503": Say(503, b"<html>")}
        others = {"hung up": HANG_UP, "cut": Say(200, b'{"choices": [', missing=50), "garbage": Say(200, b"{]")}
        return {**status, **others, "no choices": {"choices": []}}.get(fault, HANG_UP)


def prompt_of(body):
    return body["messages"][-1]["content"]


def numbers(prompt):
    return [int(n) for n in re.findall(r"\d+", re.search(r"Problem:\n(.*)", prompt)[1])]


def with_fault(text, fault, rng):
    """An answer with words in it that must not be learned, or cut short."""
    if fault == "truncated":
        return chat_answer(text[: len(text) // 2], "length")
    first, _, rest = text.rpartition(" ")
    words = {"empty": "", "foreign": f"{FOREIGN * 3} {text}", "leak": f"{first} {rng.choice(LEAKS)} {rest}"}
    return chat_answer(words.get(fault, f"{first} <|explore|> {rest}" if fault else text))


def generate(body, fault, rng):
    prompt = prompt_of(body)
    total = sum(numbers(prompt))
    off = rng.choice((0, 0, 1, 10))
    last = f"Step 2: One number after the other gives the sum, which is \\boxed{{{total + off}}}"
    if "Steps so far" in prompt:
        return with_fault(last, fault, rng)
    return with_fault(f"Step 1: All numbers of the problem have to be added up.\n\n{last}", fault, rng)


def criticise(body, fault, rng):
    prompt = prompt_of(body)
    if fault == "empty" and rng.random() < 0.5:
        return chat_answer(rng.choice(("STEP: all of them", "I think that it is fine.", "STEP: 1\nSTEP: 2", "{}")))
    if "NOT VERIFIED" in prompt:
        return with_fault("VERIFIED: What has to be added up is all that the problem names.", fault, rng)
    last = len(re.findall(r"^Step \d+:", prompt, re.MULTILINE))
    text = f"STEP: {last}\nWHY: The sum was not carried out with care.\nDIRECTION: Add the numbers once more."
    return with_fault(text, fault, rng)


def classify(body, fault, rng):
    value = {"empty": [], "foreign": ["1.0"], "leak": [float("nan")], "truncated": [1.0, 2.0]}.get(
        fault, [rng.random()]
    )
    return {"data": [{"probs": value}]}


@pytest.fixture
def servers():
    made = {
        "generator": FaultyServer(generate, 1, stall_at=100),
        "critic": FaultyServer(criticise, 2, stall_at=60),
        "reward_model": FaultyServer(classify, 3, stall_at=50),
    }
    yield made
    for faulty in made.values():
        faulty.server.stop()


@pytest.fixture
def arguments(servers, tmp_path):
    """The command line of a run over the servers; its base model is there."""
    kinds = {"generator": "chat", "critic": "chat", "reward_model": "server"}
    connection = {"first_wait": 0.01, "longest_wait": 0.1, "timeout": TIMEOUT, "attempts": 4, "concurrency": 32}
    agents = {
        name: {
            "kind": kinds[name],
            "server": {"url": f"http://127.0.0.1:{faulty.server.port}", "model": name, **connection},
        }
        for name, faulty in servers.items()
    }
    limits = {"demonstrations": 10_000, "problems_per_chunk": PROBLEMS, "max_chunks": 1, "problems_in_flight": 6}
    few = {"samples": 3, "correct": 2, "incorrect": 2}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"threads": 1, "synthesis": {**limits, **few, **agents}}))
    arguments = ["--recipe", str(recipe), "--out", str(tmp_path / "run")]
    assert main(["pretrain", *arguments]) == 0
    return ["synthesize", *arguments]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check(folder):
    """Every problem has one record, and no demonstration holds what must not be learned; returns the records."""
    records = lines(folder / "problems.jsonl")
    assert sorted(record["place"] for record in records) == list(range(PROBLEMS))
    assert len({record["id"] for record in records}) == PROBLEMS
    demonstrations = [d for record in records for d in record["demonstrations"]]
    assert all(not record["demonstrations"] for record in records if record["failed"])
    for demonstration in demonstrations:
        text = " ".join(demonstration["response"].lower().split())
        assert not [words for words in FORBIDDEN if words in text]
        assert not re.search("[\u4e00-\u9fff]", text)
        check_steps(parse(demonstration["response"]))
    kept = lines(folder / "demonstrations.jsonl")
    in_order = sorted(records, key=lambda record: record["place"])
    assert kept == [d for record in in_order for d in record["demonstrations"]]
    return records


def test_with_servers_that_fail_every_problem_ends_in_one_record_and_nothing_forbidden_is_learned(
    servers, arguments, tmp_path
):
    assert main(arguments) == 0
    folder = tmp_path / "run/synthesis"
    records = check(folder)
    for name, faulty in servers.items():
        missing = {*BROKEN, *WRONG_WORDS, "stalled"} - set(faulty.faults)
        assert not missing, name
        wrong = faulty.faults.total() - faulty.faults[""]
        assert wrong > 0.25 * faulty.faults.total()
    [counts] = lines(folder / "counts.jsonl")
    assert counts["problems"] == PROBLEMS
    assert sum(counts["failed"].values()) == sum(record["failed"] is not None for record in records)
    assert set(counts["failed"]) <= {"rate limit", "server error", "timeout", "cut connection", "unusable answer"}
    assert sum(counts["kinds"].values()) > PROBLEMS
    dropped = counts["dropped"]
    assert dropped["a text that gives away the known answer was seen"] > 0
    assert dropped["a text in another language than the question"] > 0
    assert dropped["a plain text with a meta-action or other special token in it"] > 0
    assert [reason for reason in dropped if reason.startswith("critic: ")]


def test_killed_in_the_middle_and_resumed_no_problem_is_lost_or_worked_on_twice(
    servers, arguments, processes, tmp_path
):
    journal = tmp_path / "run/.partial/synthesis/problems.jsonl"
    process = processes.Process(target=run, args=(arguments,))
    process.start()
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= PROBLEMS // 3):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.join()
    generator = servers["generator"].server
    before, whole = len(generator.requests), journal.read_bytes().rpartition(b"\n")[0].splitlines()
    assert PROBLEMS // 3 <= len(whole) < PROBLEMS
    with journal.open("ab") as file:
        file.write(b'{"place": 23, "id": "sum')  # a kill within a line is rare
    assert main(arguments) == 0
    check(tmp_path / "run/synthesis")
    resumed = (tmp_path / "run/synthesis/problems.jsonl").read_bytes().splitlines()
    ended = [line for line in whole if json.loads(line)["failed"] is None]
    assert resumed[: len(ended)] == ended
    done = {d["question"] for line in whole for d in json.loads(line)["demonstrations"]}
    asked = {re.search(r"Problem:\n(.*)", prompt_of(r.body))[1] for r in generator.requests[before:]}
    assert done
    assert not done & asked
