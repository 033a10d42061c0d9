"""``satori synthesize``: demonstrations from the base model, the checker and the likelihood.

Works through the training problems in chunks until it has as many demonstrations as asked for; each finished chunk is
a file, so an interrupted run goes on at the next chunk. The variant without meta-actions takes the same number of
plain demonstrations, correct solutions only.
"""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from pydantic import Field

from satori.config import derive_seed
from satori.engines.base import Sampling
from satori.engines.torch_engine import TorchEngine
from satori.models import load_policy, load_tokenizer
from satori.problems.arithmetic import Split, problem_stream
from satori.run_folder import read_jsonl, write_jsonl
from satori.stage import StageContext
from satori.synthesis.embedded import ColumnCritic, LikelihoodReward, SampledGenerator
from satori.synthesis.pipeline import CandidateSettings, Demonstration, Kind, synthesize
from satori.types import Problem, Variant


class SynthesisSettings(CandidateSettings):
    """Demonstration synthesis."""

    demonstrations: int = Field(default=10_000, gt=0)
    """How many to make (paper: demonstrations for 10k questions)."""
    max_plain_share: float = Field(default=1.0, ge=0, le=1)
    """At most this share of the demonstrations is of kind I, without a reflection. A small model tuned on as many
    plain demonstrations as there are others never reflects when it decodes greedily."""
    max_level_share: float = Field(default=1.0, gt=0, le=1)
    """At most this share is of one difficulty level: hard problems yield fewer demonstrations than easy ones."""
    temperature: float = Field(default=0.3, ge=0)
    """Of the generator (paper: 0.3)."""
    max_new_tokens: int = Field(default=2048, gt=0)
    """Of the generator (paper: 2048)."""
    problems_per_chunk: int = Field(default=200, gt=0)
    max_chunks: int = Field(default=200, gt=0)
    """Stop after so many chunks even where demonstrations are missing."""


def run_stage(context: StageContext) -> str:
    settings, variant = context.recipe.synthesis, context.recipe.variant
    base = context.artifact("base")
    model, tokenizer = load_policy(base), load_tokenizer(base)
    engine = TorchEngine(model, tokenizer.eos_token_id, context.recipe.engine.rows)
    sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
    generator = SampledGenerator(engine, tokenizer, sampling)
    agents = generator, ColumnCritic(), LikelihoodReward(model, tokenizer)
    chunks = context.folder / "chunks"
    chunks.mkdir(exist_ok=True)
    kept: list[dict[str, object]] = []
    counts: Counter[str] = Counter()
    context.task.start(settings.demonstrations)
    for number, problems in _chunks(settings, context.seed):
        path = chunks / f"{number:05d}.jsonl"
        if not path.exists():
            demonstrations, dropped = synthesize(problems, *agents, settings, derive_seed(context.seed, number))
            write_jsonl(path, [{"dropped": dict(dropped)}, *(_record(d) for d in demonstrations)])
        header, *records = read_jsonl(path)
        counts.update(header["dropped"])
        kept = keep(kept + records, variant, settings)
        context.task.start(settings.demonstrations, done=min(len(kept), settings.demonstrations))
        if len(kept) >= settings.demonstrations:
            break
    kept = kept[: settings.demonstrations]
    kinds = Counter(str(record["kind"]) for record in kept)
    write_jsonl(context.folder / "demonstrations.jsonl", kept)
    write_jsonl(
        context.folder / "counts.jsonl",
        [{"kinds": {kind.value: kinds[kind] for kind in Kind}, "dropped": dict(counts)}],
    )
    shown = " ".join(f"{kind}:{n}" for kind, n in sorted(kinds.items()))
    short = "" if len(kept) == settings.demonstrations else f" (asked for {settings.demonstrations})"
    return f"{len(kept)} demonstrations{short}, {shown}"


def keep(records: list[dict[str, object]], variant: Variant, settings: SynthesisSettings) -> list[dict[str, object]]:
    """The demonstrations to train on, in order: of plain ones and of each level as many as the settings allow. The
    variant without meta-actions has plain ones only."""
    most_plain = settings.demonstrations if variant is Variant.COT else share(settings.max_plain_share, settings)
    most_of_level = share(settings.max_level_share, settings)
    kept: list[dict[str, object]] = []
    levels: Counter[object] = Counter()
    plain = 0
    for record in records:
        is_plain = record["kind"] == Kind.PLAIN
        too_many = plain >= most_plain if is_plain else variant is Variant.COT
        if too_many or levels[record["level"]] >= most_of_level:
            continue
        kept.append(record)
        plain += is_plain
        levels[record["level"]] += 1
    return kept


def share(part: float, settings: SynthesisSettings) -> int:
    """A part of the demonstrations asked for, as a number."""
    return math.floor(part * settings.demonstrations + 1e-9)


def _chunks(settings: SynthesisSettings, seed: int) -> Iterator[tuple[int, list[Problem]]]:
    stream = problem_stream(Split.TRAIN, derive_seed(seed, "problems"))
    for number in range(settings.max_chunks):
        yield number, list(islice(stream, settings.problems_per_chunk))


def _record(demonstration: Demonstration) -> dict[str, object]:
    problem = demonstration.problem
    return {
        "id": problem.id,
        "level": problem.level,
        "kind": demonstration.kind.value,
        "question": problem.question,
        "answer": problem.answer,
        "response": demonstration.response,
    }
