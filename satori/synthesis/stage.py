"""``satori synthesize``: demonstrations from generator, critic and reward model.

Works on the training problems until it has as many demonstrations as asked for; what became of each problem is written
when it has ended, so an interrupted run goes on where it was. The variant without meta-actions takes the same number of
plain demonstrations, correct solutions only.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing
from itertools import islice

from satori.authors.ft_data import ReleasedDemonstrations, read_demonstrations
from satori.config import derive_seed
from satori.engines.server_errors import Cause, ServerError
from satori.problems.arithmetic import Split
from satori.run_folder import ArtifactError, write_jsonl
from satori.stage import StageContext
from satori.synthesis.agents import Agents
from satori.synthesis.flow import flow, waves
from satori.synthesis.journal import Harvest, Journal, Place, SynthesisSettings
from satori.synthesis.opening import open_agents
from satori.synthesis.pipeline import ProblemRecord, demonstrate
from satori.types import Problem

__all__ = ["SynthesisSettings", "run_stage"]

_HOPELESS = 20
"""Problems that may fail in a row, or as many as are under way at a time if that is more."""


def run_stage(context: StageContext) -> str:
    released = context.recipe.synthesis.released
    harvest = make_demonstrations(context) if released is None else take_released(context, released)
    write_jsonl(context.folder / "demonstrations.jsonl", harvest.kept)
    counts = {"kinds": harvest.kinds(), "dropped": dict(harvest.dropped), "failed": dict(harvest.failed)}
    write_jsonl(context.folder / "counts.jsonl", [{"problems": harvest.problems, **counts}])
    short = "" if harvest.enough else f" (asked for {context.recipe.synthesis.demonstrations})"
    return f"{len(harvest.kept)} demonstrations{short}, {_outcome(harvest)}"


def take_released(context: StageContext, released: ReleasedDemonstrations) -> Harvest:
    """The authors' demonstrations, as many as the recipe asks for. Raises SourceError where they cannot be read, and
    ArtifactError where none is of use."""
    harvest = Harvest(context.recipe.variant, context.recipe.synthesis)
    stream = read_demonstrations(released)
    for record in stream:
        harvest.offer(record)
        if harvest.enough:
            break
    if not harvest.kept:
        raise ArtifactError(f"{released.where} has no demonstration for this recipe: {stream.counts}")
    context.task.say(f"{released.where}: {stream.counts}")
    return harvest


def make_demonstrations(context: StageContext) -> Harvest:
    """Demonstrations of the recipe's problems. Raises ArtifactError where not one came of them."""
    with closing(context.problems(Split.TRAIN, derive_seed(context.seed, "problems"))) as problems:
        harvest = asyncio.run(_work(context, problems))
    if not harvest.kept:
        lost = ", ".join(f"{count} {why}" for why, count in (harvest.dropped + harvest.failed).most_common())
        raise ArtifactError(f"no demonstration came of {harvest.problems} problems: {lost or 'none that may be kept'}")
    return harvest


async def _work(context: StageContext, problems: Iterator[Problem]) -> Harvest:
    """Go on from what an interrupted run has left until there is enough, or no more problem. Raises ServerError where
    so many problems in a row failed, or all there are, that a server must be in lasting trouble."""
    settings = context.recipe.synthesis
    journal = Journal(context.folder / "problems.jsonl")
    harvest = Harvest(context.recipe.variant, settings)
    async with open_agents(context) as agents, aclosing(_records(context, problems, agents, journal)) as groups:
        for line in journal.lines():
            harvest.add(line)
        context.task.start(settings.demonstrations, done=len(harvest.kept))
        started, in_a_row, worked_on = time.monotonic(), 0, 0
        limit = max(_HOPELESS, settings.problems_in_flight)
        while not harvest.enough and (group := await anext(groups, None)):
            before = len(harvest.kept)
            for place, record in group:
                harvest.add(journal.add(place, record))
                worked_on += 1
                in_a_row = 0 if record.failed in (None, Cause.CONTEXT) else in_a_row + 1
                if in_a_row == limit:
                    raise _lasting_trouble(in_a_row, record)
            context.task.advance(len(harvest.kept) - before)
            speed = agents.output_tokens() / max(time.monotonic() - started, 1e-9)
            context.task.note(f"{speed:.0f} tokens/s, {_outcome(harvest)}")
        if in_a_row and in_a_row == worked_on and not len(journal):
            raise _lasting_trouble(in_a_row, record)
    return harvest


def _lasting_trouble(in_a_row: int, last: ProblemRecord) -> ServerError:
    assert last.failed
    return ServerError(
        f"synthesis: {in_a_row} problems in a row failed, the last one by a {last.failed}: {last.trouble} The same "
        "command works on them again and goes on.",
        last.failed,
    )


def _records(
    context: StageContext, problems: Iterator[Problem], agents: Agents, journal: Journal
) -> AsyncGenerator[list[tuple[int, ProblemRecord]], None]:
    """What becomes of the problems that have no record yet, in groups that end together."""
    settings = context.recipe.synthesis
    chosen = islice(problems, settings.problems_per_chunk * settings.max_chunks)

    async def work(item: Place) -> tuple[int, ProblemRecord]:
        place, problem = item
        return place, await demonstrate(problem, agents, settings, context.seed)

    journal.forget_failures()
    if agents.batches is None:
        return flow(journal.missing(chosen), work, settings.problems_in_flight)
    done = journal.keep_whole_waves(settings.problems_per_chunk)
    return waves(journal.missing(chosen), work, settings.problems_per_chunk, agents.batches, done)


def _outcome(harvest: Harvest) -> str:
    """The demonstrations of each kind, and the problems that failed."""
    shown = " ".join(f"{kind}:{count}" for kind, count in harvest.kinds().items() if count)
    failed = harvest.failed.total()
    return shown + (f", {failed} problems failed" if failed else "")
