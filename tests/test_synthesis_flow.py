"""Many problems under way at once: the window and the waves, batches of local models, what one problem's failure is,
the journal, and the stage killed and resumed."""

import asyncio
import json
import random
import shutil
import threading
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from rich.console import Console

from satori.engines.base import EngineError, Sampling
from satori.engines.opening import EngineKind
from satori.engines.server_errors import Cause, ServerError
from satori.problems.arithmetic import solve
from satori.progress import Display
from satori.recipe import load_recipe
from satori.run_folder import ArtifactError, RunFolder
from satori.stage import StageContext
from satori.synthesis import stage as synthesis_stage
from satori.synthesis.agent_settings import AgentSettings
from satori.synthesis.agents import Agents, Mistake, PartialSolution, Unusable, Verification
from satori.synthesis.batching import Batcher, Batches, PromptTooLongError
from satori.synthesis.flow import flow, together, waves
from satori.synthesis.journal import Journal
from satori.synthesis.pipeline import CandidateSettings, Dropped, ProblemRecord, demonstrate
from satori.types import Completion, FinishReason, Problem

SAMPLING = Sampling(temperature=0.5, max_new_tokens=8)
PROBLEM = Problem("p", "Ann has 2 pens, buys 3, finds 4. How many pens?", "9", 1, solve((2, 3, 4)))
RIGHT = ("2+3=5.", "5+4=9. \\boxed{9}")
WRONG = ("2+3=6.", "6+4=10. \\boxed{10}")


async def gather_flow(groups):
    async with aclosing(groups):
        return [result async for group in groups for result in group]


# --- the window ---


class Work:
    """Work that takes a random time, and counts how much of it is under way."""

    def __init__(self, fail_at=None, slow_from=10**9):
        self.now, self.peak, self.cancelled, self.fail_at = 0, 0, 0, fail_at
        self.slow_from = slow_from
        self.random = random.Random(0)

    async def __call__(self, item):
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            if item == self.fail_at:
                raise ServerError("no such model", Cause.NOT_FOUND)
            await asyncio.sleep(60 if item >= self.slow_from else self.random.random() / 200)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        return item


def test_every_item_of_the_source_comes_out_once_and_no_more_than_the_window_are_under_way():
    work = Work()
    results = asyncio.run(gather_flow(flow(iter(range(100)), work, 7)))
    assert sorted(results) == list(range(100))
    assert results != sorted(results)
    assert work.peak == 7


def test_the_source_is_read_as_there_is_room():
    read = []

    def source():
        for item in range(1000):
            read.append(item)
            yield item

    async def first_three():
        seen = []
        async with aclosing(flow(source(), Work(), 5)) as groups:
            while len(seen) < 3:
                seen += await anext(groups)
        return len(seen)

    seen = asyncio.run(first_three())
    assert len(read) <= 5 + seen


def test_a_flow_that_is_left_leaves_nothing_running():
    work = Work(slow_from=1)

    async def leave():
        async with aclosing(flow(iter(range(100)), work, 9)) as groups:
            await anext(groups)
        return len(asyncio.all_tasks())

    assert asyncio.run(leave()) == 1
    assert work.now == 0
    assert work.cancelled > 0


def test_a_flow_that_is_cancelled_leaves_nothing_running():
    work = Work()

    async def cancel():
        running = asyncio.create_task(gather_flow(flow(iter(range(10_000)), work, 9)))
        await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return len(asyncio.all_tasks())

    assert asyncio.run(cancel()) == 1
    assert work.now == 0


def test_an_error_ends_the_flow_and_everything_in_it():
    work = Work(fail_at=20)
    with pytest.raises(ServerError, match="no such model"):
        asyncio.run(gather_flow(flow(iter(range(100)), work, 5)))
    assert work.now == 0


def test_results_that_are_there_together_with_an_error_come_out_before_it():
    async def work(item):
        if item == 1:
            raise ValueError("broken")
        return item

    async def collect():
        groups = flow(iter(range(3)), work, 3)
        found = await anext(groups)
        with pytest.raises(ValueError, match="broken"):
            await anext(groups)
        return found

    assert sorted(asyncio.run(collect())) == [0, 2]


def test_the_next_wave_starts_when_the_last_has_ended():
    log = []

    async def work(item):
        log.append(("start", item))
        await asyncio.sleep((10 - item) / 1000)
        log.append(("end", item))
        return item

    async def run():
        async with Batches(seed=0) as batches:
            return [group async for group in waves(iter(range(5)), work, 2, batches)]

    assert asyncio.run(run()) == [[0, 1], [2, 3], [4]]
    assert [item for what, item in log if what == "end"] == [1, 0, 3, 2, 4]
    for wave in ((0, 1), (2, 3)):
        assert max(log.index(("end", i)) for i in wave) < log.index(("start", wave[-1] + 1))


def test_together_gives_results_in_order_and_ends_all_where_one_fails():
    async def run():
        work = Work()
        assert await together(work(item) for item in range(5)) == [0, 1, 2, 3, 4]
        failing = Work(fail_at=2)
        with pytest.raises(ServerError):
            await together(failing(item) for item in range(5))
        return failing

    assert asyncio.run(run()).now == 0


# --- batches ---


class CountingEngine:
    """Answers with the prompt, the place in the batch and the batch's seed; remembers its batches."""

    def __init__(self, seconds=0.0, fail=False):
        self.batches, self.seconds, self.fail, self.now, self.peak = [], seconds, fail, 0, 0

    def generate(self, prompts, sampling, seed, first=0):
        self.batches.append(([tuple(p) for p in prompts], sampling, seed))
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            for index in reversed(range(len(prompts))):
                time.sleep(self.seconds)
                if self.fail:
                    raise RuntimeError("out of memory")
                yield index, Completion((*prompts[index], index, seed % 1000), FinishReason.STOP)
        finally:
            self.now -= 1


def ask_in_batches(engine, ask, seed=0, **options):
    async def run():
        async with Batches(seed) as batches:
            return await ask(Batcher(batches, engine, **options), batches)

    return asyncio.run(run())


def test_all_who_wait_are_answered_by_one_batch():
    engine = CountingEngine()
    found = ask_in_batches(
        engine, lambda front, _: together(front.complete([9 - i], SAMPLING, seed=i) for i in range(5))
    )
    assert [prompts for prompts, *_ in engine.batches] == [[(5,), (6,), (7,), (8,), (9,)]]
    assert [completion.token_ids[:2] for completion in found] == [(9, 4), (8, 3), (7, 2), (6, 1), (5, 0)]


def test_a_batch_waits_for_those_who_are_on_their_way_to_a_question():
    """Tasks within tasks that ask after many turns of the event loop, and work in another thread."""
    engine = CountingEngine()

    async def slow_to_ask(front, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await together([front.complete([turns], SAMPLING, seed=0)])

    async def ask(front, batches):
        async def from_a_thread():
            await batches.while_out(asyncio.to_thread(time.sleep, 0.05))
            return await front.complete([99], SAMPLING, seed=0)

        return await together([*(slow_to_ask(front, turns) for turns in (0, 3, 20)), from_a_thread()])

    ask_in_batches(engine, ask)
    assert [prompts for prompts, *_ in engine.batches] == [[(0,), (3,), (20,), (99,)]]


def test_batches_do_not_depend_on_who_asks_first():
    def batches_of(order):
        engine = CountingEngine()

        async def twice(front, prompt):
            completion = await front.complete([prompt], SAMPLING, seed=prompt)
            return await front.complete(completion.token_ids, SAMPLING, seed=prompt)

        found = ask_in_batches(engine, lambda front, _: together(twice(front, prompt) for prompt in order))
        return engine.batches, sorted(completion.token_ids for completion in found)

    assert batches_of(range(20)) == batches_of(random.Random(1).sample(range(20), 20))


def test_samples_of_one_prompt_are_told_apart_by_their_seeds():
    engine = CountingEngine()
    found = ask_in_batches(engine, lambda front, _: together(front.complete([7], SAMPLING, seed) for seed in (3, 1, 2)))
    assert [completion.token_ids[1] for completion in found] == [2, 0, 1]


def test_each_batch_has_a_seed_of_the_run_the_wave_and_its_number():
    def seeds(seed, *, first_wave=0):
        engine = CountingEngine()

        async def ask(front, batches):
            for wave in range(first_wave, 2):
                batches.start_wave(wave)
                for _ in range(2):
                    await front.complete([1], SAMPLING, seed=0)

        ask_in_batches(engine, ask, seed)
        return [seed for *_, seed in engine.batches]

    assert len(set(seeds(0))) == 4
    assert not set(seeds(0)) & set(seeds(1))
    assert seeds(0, first_wave=1) == seeds(0)[2:]  # a run that goes on at the second wave


def test_requests_with_other_sampling_settings_go_in_a_batch_of_their_own_after_the_larger_one():
    engine = CountingEngine()
    other = Sampling(temperature=0.1, max_new_tokens=8)
    ask_in_batches(
        engine,
        lambda front, _: together(front.complete([i], other if i % 3 == 0 else SAMPLING, seed=0) for i in range(5)),
    )
    assert [(prompts, sampling) for prompts, sampling, _ in engine.batches] == [
        ([(1,), (2,), (4,)], SAMPLING),
        ([(0,), (3,)], other),
    ]
    assert engine.peak == 1


def test_an_engine_that_fails_fails_those_who_asked():
    async def ask(front, _):
        return await asyncio.gather(*(front.complete([i], SAMPLING, 0) for i in range(3)), return_exceptions=True)

    assert [str(error) for error in ask_in_batches(CountingEngine(fail=True), ask)] == ["out of memory"] * 3


def test_a_prompt_that_does_not_fit_is_refused_and_the_others_are_answered():
    async def ask(front, _):
        prompts = ([1] * 3, [1] * 2)
        return await asyncio.gather(*(front.complete(p, SAMPLING, 0) for p in prompts), return_exceptions=True)

    refused, answered = ask_in_batches(CountingEngine(), ask, context_length=10)
    assert isinstance(refused, PromptTooLongError)
    assert "3 tokens" in str(refused) and "10" in str(refused)
    assert answered.token_ids[:2] == (1, 1)


def test_who_was_cancelled_is_not_asked_for():
    engine = CountingEngine()

    async def ask(front, _):
        leaving = asyncio.create_task(front.complete([1], SAMPLING, 0))
        staying = asyncio.create_task(front.complete([2], SAMPLING, 0))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    ask_in_batches(engine, ask)
    assert [prompts for prompts, *_ in engine.batches] == [[(2,)]]


def test_a_run_that_is_left_ends_the_batch_that_is_running():
    engine = CountingEngine(seconds=0.02)
    started = time.monotonic()

    async def ask(front, _):
        asking = asyncio.create_task(together(front.complete([i], SAMPLING, 0) for i in range(500)))  # 10 s of work
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    ask_in_batches(engine, ask)
    assert time.monotonic() - started < 3
    assert engine.now == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("satori")]


# --- one problem ---


class Agent:
    """Generator, critic and reward model in one. Solves and goes on with fixed texts; waits a random time for each."""

    def __init__(self, solutions=(RIGHT, RIGHT, WRONG, WRONG), rest=RIGHT[1:], reason="It holds.", wrong="2+3 is 5."):
        self.solutions, self.rest, self.reason, self.wrong = list(solutions), rest, reason, wrong
        self.delays = None
        self.fails = {}

    async def wait(self, what):
        if self.delays is not None:
            await asyncio.sleep(self.delays.random() / 100)
        if what in self.fails:
            raise self.fails[what]

    async def solve(self, problem, samples, seed):
        await self.wait("solve")
        return self.solutions

    async def continue_from(self, partial, seed):
        await self.wait("continue")
        return self.rest

    async def verify(self, partial, seed):
        await self.wait("verify")
        return Verification(f"{self.reason} ({seed})") if len(partial.steps) == 1 else Unusable("silent")

    async def find_mistake(self, partial, reviewed_from, seed):
        await self.wait("mistake")
        return Mistake(0, f"{self.wrong} ({seed})", direction="", corrected="2+3=5.")

    async def score(self, solution):
        await self.wait("score")
        return 0.0


def record_of(agent, problem=PROBLEM, seed=0):
    settings = CandidateSettings(samples=4)
    return asyncio.run(demonstrate(problem, Agents(agent, agent, agent), settings, seed))


def test_a_problem_comes_to_the_same_whatever_the_order_in_which_agents_answer():
    expected = record_of(Agent())
    assert len(expected.demonstrations) == 3
    for number in range(3):
        agent = Agent()
        agent.delays = random.Random(number)
        assert record_of(agent) == expected


def test_problems_and_seeds_share_no_randomness():
    other = Problem("q", PROBLEM.question, "9", 1, PROBLEM.solution)
    texts = [
        {d.response for d in record_of(Agent(), problem, seed).demonstrations if d.kind != "I"}
        for problem, seed in ((PROBLEM, 0), (PROBLEM, 1), (other, 0))
    ]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]


@pytest.mark.parametrize("what", ["solve", "continue", "verify", "mistake", "score"])
def test_a_problem_whose_agent_gives_up_says_so(what):
    agent = Agent()
    agent.fails = {what: ServerError("no answer within 600 s", Cause.TIMEOUT)}
    assert record_of(agent) == ProblemRecord(PROBLEM, failed=Cause.TIMEOUT)


def test_a_prompt_too_long_for_a_local_model_fails_its_problem_alone():
    agent = Agent()
    agent.fails = {"continue": PromptTooLongError("too long")}
    assert record_of(agent).failed is Cause.CONTEXT


def test_an_error_that_concerns_every_problem_is_raised():
    agent = Agent()
    agent.fails = {"verify": ServerError("refused", Cause.KEY)}
    with pytest.raises(ServerError, match="refused"):
        record_of(agent)


LEAK = "The ground truth says 5."
CHINESE = "我们把这两个数字加起来就得到了答案。"


@pytest.mark.parametrize(
    ("words", "reason"),
    [(LEAK, Dropped.LEAKED), (CHINESE, Dropped.OTHER_LANGUAGE), ("<|explore|>", Dropped.SPECIAL_TOKEN)],
)
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda words: Agent(solutions=[(words, *RIGHT), (words, *WRONG), RIGHT]), 2),
        (lambda words: Agent(solutions=[WRONG, RIGHT], wrong=words), 1),
        (lambda words: Agent(solutions=[RIGHT] * 4, reason=words), None),
        (lambda words: Agent(solutions=[WRONG, WRONG], rest=(words, *RIGHT[1:])), 2),
    ],
    ids=["solution", "mistake", "verification", "continuation"],
)
def test_words_that_must_not_be_learned_reach_no_demonstration(make, count, words, reason):
    record = record_of(make(words))
    assert not [d for d in record.demonstrations if words in d.response]
    assert record.dropped[reason] == count or (count is None and record.dropped[reason] >= 1)
    clean = record_of(make("Well then."))
    assert not set(Dropped) & {Dropped.LEAKED, Dropped.OTHER_LANGUAGE, Dropped.SPECIAL_TOKEN} & set(clean.dropped)


@pytest.mark.parametrize("question", ["2+3+4=?", r"\frac{4}{2}+3+4=?", "x=2, y=3+4, x+y=?"])
def test_a_question_in_figures_alone_is_asked_in_the_language_of_the_prompt(question):
    problem = Problem("p", question, "9", 1, PROBLEM.solution)
    record = record_of(Agent(solutions=[(CHINESE, *RIGHT), RIGHT]), problem)
    assert record.dropped[Dropped.OTHER_LANGUAGE] == 1
    problem = Problem("p", "2+3+4等于几？", "9", 1, PROBLEM.solution)
    record = record_of(Agent(solutions=[(CHINESE, *RIGHT)]), problem)
    assert "I" in [d.kind for d in record.demonstrations]


def test_a_leak_made_of_two_steps_is_found_when_they_stand_together():
    agent = Agent(solutions=[("2+3=5. This is the ground", "truth, so 5+4=9. \\boxed{9}")] * 4, reason="It holds.")
    assert record_of(agent).demonstrations == ()
    agent = Agent(solutions=[WRONG], wrong="Not the ground", rest=("truth. \\boxed{9}",))
    agent.find_mistake = lambda partial, reviewed_from, seed: _mistake("2+3 is 5.", "Think of the ground", None)
    record = record_of(agent)
    assert record.demonstrations == ()
    assert record.dropped == {Dropped.LEAKED: 1}


async def _mistake(reason, direction, corrected):
    return Mistake(0, reason, direction, corrected)


def test_blank_steps_are_no_steps():
    record = record_of(Agent(solutions=[("", RIGHT[0], " \n", RIGHT[1])], reason="Good."))
    [plain] = [d.response for d in record.demonstrations if d.kind == "I"]
    assert plain == "2+3=5.<|continue|> 5+4=9. \\boxed{9}"


def test_a_score_that_is_no_number_never_wins():
    agent = Agent(solutions=[("9 first. \\boxed{9}",), ("9 second. \\boxed{9}",)])

    async def score(solution):
        return float("nan") if "first" in solution.steps[0] else -5.0

    agent.score = score
    [plain] = [d.response for d in record_of(agent).demonstrations if d.kind == "I"]
    assert "second" in plain


# --- the journal ---


def written(path, places):
    journal = Journal(path)
    for place in places:
        journal.add(place, ProblemRecord(Problem(f"p{place}", "?", "1")))
    return path.read_bytes()


def source(count):
    return (Problem(f"p{place}", "?", "1") for place in range(count))


def test_a_journal_knows_the_problems_without_a_record(tmp_path):
    written(tmp_path / "j", [3, 0, 1])
    assert [place for place, _ in Journal(tmp_path / "j").missing(source(6))] == [2, 4, 5]


def test_a_line_cut_short_is_dropped_wherever_it_was_cut(tmp_path):
    path = tmp_path / "j"
    content = written(path, [0, 1, 2])
    starts = [0, *(i + 1 for i, byte in enumerate(content) if byte == 10)]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = sum(start <= length for start in starts) - 1
        assert len(Journal(path)) == whole
        assert path.read_bytes() == content[: starts[whole]]


def test_a_wave_that_was_not_recorded_to_its_end_is_forgotten(tmp_path):
    content = written(tmp_path / "j", range(5))
    journal = Journal(tmp_path / "j")
    assert journal.keep_whole_waves(2) == 2
    assert [place for place, _ in journal.missing(source(6))] == [4, 5]
    assert (tmp_path / "j").read_bytes() == b"".join(content.splitlines(keepends=True)[:4])


def test_a_source_that_has_changed_is_refused(tmp_path):
    written(tmp_path / "j", [0, 1])
    with pytest.raises(ArtifactError, match="'p1' and is 'other' now"):
        list(Journal(tmp_path / "j").missing([Problem("p0", "?", "1"), Problem("other", "?", "1")]))


def test_a_broken_line_within_is_named(tmp_path):
    (tmp_path / "j").write_bytes(b'{"place": 0, "id": "p0"}\n{"pl\n')
    with pytest.raises(ArtifactError, match="line 2"):
        Journal(tmp_path / "j")


# --- the stage ---


SERVED = {"url": "http://localhost:8000/v1", "model": "m"}


@pytest.fixture
def context(tmp_path):
    """Makes the stage's context in a run folder of its own, with the shipped base model."""
    made = []

    def make(*more, **settings):
        root = tmp_path / str(len(made))
        shutil.copytree(Path(str(resources.files("satori"))) / "assets/tiny_base", root / "base")
        (root / "work").mkdir()
        overrides = {"demonstrations": 12, "problems_per_chunk": 6, **settings}
        recipe = load_recipe("tiny", [*more, *((f"synthesis.{k}", str(v)) for k, v in overrides.items())])
        task = Display(Console(quiet=True)).task("synthesis")
        made.append(StageContext("synthesis", recipe, root / "work", RunFolder(root), 5, task))
        return made[-1]

    return make


def outcome(context):
    """The stage's files, and its line."""
    said = synthesis_stage.run_stage(context)
    return {path.name: path.read_text() for path in context.folder.iterdir()} | {"said": said}


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_local_agents_make_the_same_again_and_after_a_kill_at_any_moment(context):
    whole = outcome(context())
    lines = whole["problems.jsonl"].splitlines(keepends=True)
    assert len(lines) > 6
    assert "demonstrations" in whole["said"]
    made = records(whole["demonstrations.jsonl"])
    assert len(made) == 12
    assert len({record["kind"] for record in made}) > 2
    for kept in (0, 3, 6, 7):
        again = context()
        cut = "".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2]
        (again.folder / "problems.jsonl").write_text(cut)
        assert outcome(again) == whole


def test_no_demonstration_is_an_error_that_says_what_became_of_the_problems(context):
    with pytest.raises(ArtifactError, match="no demonstration came of 2 problems: 8 solution without an answer"):
        synthesis_stage.run_stage(context(problems_per_chunk=2, max_chunks=1, max_new_tokens=1))


def test_released_demonstrations_without_one_of_use_are_an_error_with_the_counts(context, tmp_path):
    (tmp_path / "ft.jsonl").write_text('{"query": "1+1?", "response": " "}\n')
    with pytest.raises(ArtifactError, match=r"ft\.jsonl has no demonstration .*: 0 of 1 rows .*response is empty"):
        synthesis_stage.run_stage(context(released=f"{{path: {tmp_path}/ft.jsonl}}"))


def test_a_source_without_a_usable_row_is_an_error_with_the_counts(context, tmp_path):
    (tmp_path / "words.jsonl").write_text('{"question": "How many?", "answer": "many"}\n')
    source = f"[{{path: {tmp_path}/words.jsonl, answer_kind: number}}]"
    with pytest.raises(ArtifactError, match=r"words\.jsonl \(train\): 0 of 1 rows used; 1 left out"):
        synthesis_stage.run_stage(context(("problems.sources", source)))


def test_another_seed_makes_others(context):
    one, other = context(), context()
    assert (
        outcome(one)["demonstrations.jsonl"]
        != outcome(StageContext(other.stage, other.recipe, other.folder, other.run, 6, other.task))[
            "demonstrations.jsonl"
        ]
    )


class Elsewhere(Agent):
    """Solves the embedded problems right, at a random pace, but every third fails; counts what it was asked."""

    def __init__(self, seed):
        super().__init__()
        self.delays, self.asked = random.Random(seed), []

    async def solve(self, problem, samples, seed):
        self.asked.append(problem.id)
        await self.wait("solve")
        if int(problem.answer) % 3 == 0:
            raise ServerError("no answer", Cause.TIMEOUT)
        return [problem.solution]

    async def continue_from(self, partial, seed):
        await self.wait("continue")
        return partial.problem.solution[len(partial.steps) :]


def elsewhere(monkeypatch, seed):
    agent = Elsewhere(seed)

    @asynccontextmanager
    async def open_agents(context):
        yield Agents(agent, agent, agent)

    monkeypatch.setattr(synthesis_stage, "open_agents", open_agents)
    return agent


def test_agents_elsewhere_make_the_same_demonstrations_however_fast_each_problem_goes(context, monkeypatch):
    found = []
    for seed in range(3):
        elsewhere(monkeypatch, seed)
        found.append(outcome(context(problems_in_flight=5, demonstrations=20)))
        counts = json.loads(found[-1]["counts.jsonl"])
        assert counts["failed"]["timeout"] > 0
    assert len({result["problems.jsonl"] for result in found}) > 1
    assert len({result["demonstrations.jsonl"] for result in found}) == 1
    assert len({result["counts.jsonl"] for result in found}) == 1


def test_agents_elsewhere_are_not_asked_again_for_problems_that_have_ended(context, monkeypatch):
    elsewhere(monkeypatch, 0)
    whole = outcome(context(problems_in_flight=5, demonstrations=20))
    lines = whole["problems.jsonl"].splitlines(keepends=True)
    kept = len(lines) // 2
    again = context(problems_in_flight=5, demonstrations=20)
    (again.folder / "problems.jsonl").write_text("".join(lines[:kept]) + lines[kept][:20])
    agent = elsewhere(monkeypatch, 1)
    resumed = outcome(again)
    assert resumed["demonstrations.jsonl"] == whole["demonstrations.jsonl"]
    ended = {record["id"] for record in records("".join(lines[:kept])) if not record["failed"]}
    assert not ended & set(agent.asked)
    ids = [record["id"] for record in records(resumed["problems.jsonl"])]
    assert len(ids) == len(set(ids))


def test_the_stage_ends_where_the_problems_do(context, monkeypatch):
    elsewhere(monkeypatch, 0)
    found = outcome(context(demonstrations=1000, problems_per_chunk=4, max_chunks=3))
    assert sorted(record["place"] for record in records(found["problems.jsonl"])) == list(range(12))
    assert "(asked for 1000)" in found["said"]
    assert "problems failed" in found["said"]


def test_an_error_that_concerns_every_problem_ends_the_stage_and_keeps_what_is_there(context, monkeypatch):
    agent = elsewhere(monkeypatch, 0)
    work = context(problems_in_flight=2, demonstrations=1000)

    async def solve(problem, samples, seed):
        if len(agent.asked) == 9:
            raise ServerError("no server answers", Cause.UNREACHABLE)
        return await Elsewhere.solve(agent, problem, samples, seed)

    agent.solve = solve
    with pytest.raises(ServerError, match="no server answers"):
        synthesis_stage.run_stage(work)
    assert 7 <= len(records((work.folder / "problems.jsonl").read_text())) <= 9


def test_a_server_in_lasting_trouble_ends_the_stage_which_goes_on_with_the_same_problems(context, monkeypatch):
    agent = elsewhere(monkeypatch, 0)
    work = context(problems_in_flight=2, demonstrations=5)

    async def down(problem, samples, seed):
        raise ServerError("503", Cause.SERVER)

    agent.solve = down
    with pytest.raises(ServerError, match="20 problems in a row failed, the last one by a server error"):
        synthesis_stage.run_stage(work)
    elsewhere(monkeypatch, 0)
    found = outcome(work)
    assert "5 demonstrations," in found["said"]
    assert "server error" not in found["counts.jsonl"]
    places = [record["place"] for record in records(found["problems.jsonl"])]
    assert sorted(places) == sorted(set(places))
    assert 0 in places


def test_two_models_in_this_process_are_more_than_vllm_runs(context):
    work = context(**{"critic.kind": "chat", "critic.checkpoint": "some/model"})
    engine = work.recipe.engine.model_copy(update={"kind": EngineKind.VLLM})
    two = replace(work, recipe=work.recipe.model_copy(update={"engine": engine}))
    with pytest.raises(EngineError, match="generator and critic are two models here, and vLLM runs one"):
        synthesis_stage.run_stage(two)


@pytest.mark.parametrize(
    ("agents", "here"),
    [
        ({}, {""}),
        ({"critic": {"kind": "chat"}}, {""}),
        ({"critic": {"kind": "chat", "checkpoint": "other"}}, {"", "other"}),
        ({"critic": {"kind": "chat", "server": SERVED}}, {""}),
        ({"generator": {"kind": "chat", "server": SERVED}}, set()),
        (
            {"generator": {"kind": "chat", "checkpoint": "one"}, "critic": {"kind": "chat", "checkpoint": "one"}},
            {"one"},
        ),
    ],
)
def test_which_models_an_engine_runs_for_the_agents(agents, here):
    assert AgentSettings(**agents).models_here() == here


def test_servers_that_answer_nothing_leave_no_empty_artifact_of_a_short_source(context, monkeypatch):
    agent = elsewhere(monkeypatch, 0)
    agent.fails = {"solve": ServerError("503: see its log.", Cause.SERVER)}
    work = context(demonstrations=5, problems_per_chunk=4, max_chunks=3)
    with pytest.raises(ServerError, match="12 problems in a row failed, the last one by a server error: 503: see its"):
        synthesis_stage.run_stage(work)
    elsewhere(monkeypatch, 0)
    assert "5 demonstrations," in outcome(work)["said"]


@pytest.mark.parametrize("status", [400, 403])
def test_a_problem_that_a_server_refuses_fails_alone_and_many_of_them_end_the_stage(context, monkeypatch, status):
    cause = Cause.KEY if status == 403 else Cause.REFUSED
    agent = elsewhere(monkeypatch, 0)
    refused = []

    async def solve(problem, samples, seed):
        if len(refused) < 1 or len(agent.asked) > 9:
            refused.append(problem.id)
            raise ServerError("it is not allowed to ask that.", cause, status=status)
        return await Elsewhere.solve(agent, problem, samples, seed)

    agent.solve = solve
    work = context(problems_in_flight=2, demonstrations=30)
    with pytest.raises(ServerError, match=f"20 problems in a row failed, the last one by a {cause}: it is not allowed"):
        synthesis_stage.run_stage(work)
    assert len(agent.asked) == 10
    again = elsewhere(monkeypatch, 0)
    assert "30 demonstrations," in outcome(work)["said"]
    assert refused[0] in again.asked


def test_a_partial_solution_knows_what_the_review_covers():
    asked = []
    agent = Agent(solutions=[WRONG])

    async def continue_from(partial, seed):
        asked.append(partial)
        return RIGHT[1:]

    agent.continue_from = continue_from
    record_of(agent)
    [partial] = asked
    assert partial == PartialSolution(PROBLEM, RIGHT[:1], partial.review, reviewed=1)
