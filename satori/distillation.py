"""``satori distill``: the policy's own solutions back into the base model (paper sections 4.2 and 6, D.3).

The trained policy solves training problems several times; of the problems it solves, the hardest ones (fewest correct
samples, then longest answers) give one correct trajectory each, and the *base* model is fine-tuned on those: the
parameters start over, the knowledge stays.
"""

import heapq
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from satori import ranks
from satori.coat import add_meta_action_tokens, add_meta_actions
from satori.config import derive_seed
from satori.models import load_policy, load_tokenizer, save
from satori.problems.arithmetic import Split
from satori.run_folder import ArtifactError, read_jsonl, write_jsonl
from satori.sampling import Response
from satori.stage import StageContext
from satori.training import OptimizerSettings, fine_tune


class DistillSettings(OptimizerSettings):
    """Distillation of a policy into the base model."""

    learning_rate: float = 2e-5
    epochs: float = 2
    problems: int = Field(default=240_000, gt=0)
    """Training problems the policy solves (paper: 240k)."""
    keep: int = Field(default=180_000, gt=0)
    """Correct trajectories kept, hardest first (paper: 180k)."""
    samples: int = Field(default=2, gt=0)
    """Samples per problem; their share of correct ones says how hard it is."""
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=2048, gt=0)


def run_stage(context: StageContext) -> str:
    settings, base = context.recipe.distill, context.artifact("base")
    check_vocabulary(base, context.artifact("rl_1"))
    path = context.folder / "trajectories.jsonl"
    if not ranks.first_does(path.exists):
        problems = context.draw_problems(Split.TRAIN, derive_seed(context.seed, "problems"), settings.problems)

        def solved(responses: Sequence[Response]) -> list[dict[str, Any]]:
            rng = random.Random(derive_seed(context.seed, "choose", responses[0].problem.id))
            return [describe(response, share) for share, response in one_correct(responses, rng)]

        records = context.sample_records("rl_1", problems, settings, context.seed, solved)
        write_jsonl(path, hardest(records, settings.keep))
    model, tokenizer = load_policy(base), load_tokenizer(base)
    new_tokens = add_meta_actions(model, tokenizer)
    sequences = [(record["prompt_ids"], record["token_ids"]) for record in read_jsonl(path)]
    if not sequences:
        raise ArtifactError(f"{path}: the policy solved no problem, nothing to distil")
    fine_tune(
        model, tokenizer, sequences, settings, context.folder, context.task, context.seed, context.trackers, new_tokens
    )
    save(model, tokenizer, context.folder)
    return f"distilled {len(sequences)} correct trajectories into the base model"


def check_vocabulary(base: Path, policy: Path) -> None:
    """Raise ArtifactError where a policy's token ids mean something else to the base model."""
    tokenizer = load_tokenizer(base)
    add_meta_action_tokens(tokenizer)
    if tokenizer.get_vocab() != load_tokenizer(policy).get_vocab():
        raise ArtifactError(
            f"the policy in {policy} and the base model with the meta-actions have different vocabularies: the base "
            "model cannot learn from its tokens. Where tune.checkpoint is set, give model.name the model that it was "
            "made from"
        )


def one_correct(responses: Sequence[Response], rng: random.Random) -> list[tuple[float, Response]]:
    """One correct response to a problem, with its share of correct ones; none where there is none."""
    correct = [response for response in responses if response.correct]
    return [(len(correct) / len(responses), rng.choice(correct))] if correct else []


def hardest(records: Iterable[dict[str, Any]], keep: int) -> list[dict[str, Any]]:
    """The ``keep`` hardest of the problems that were solved, hardest first: seldom right, then long."""
    return heapq.nsmallest(keep, records, key=lambda record: (record["correct_share"], -len(record["token_ids"])))


def describe(response: Response, share: float) -> dict[str, Any]:
    return {
        "id": response.problem.id,
        "level": response.problem.level,
        "correct_share": share,
        "response": response.text,
        "prompt_ids": list(response.prompt_ids),
        "token_ids": list(response.completion.token_ids),
    }
