"""``satori tune``: format tuning (paper section 4.1, D.2).

The three meta-actions join the vocabulary, then the base model is fine-tuned on the demonstrations, loss on the
responses.
"""

from satori.base_model import prepare
from satori.coat import add_meta_actions, encode_prompt, meta_action_ids
from satori.models import load_any_policy, load_policy, load_tokenizer, save
from satori.run_folder import ArtifactError, read_jsonl
from satori.stage import StageContext
from satori.training import OptimizerSettings, fine_tune


class TuneSettings(OptimizerSettings):
    """Format tuning. Paper: learning rate 2e-5, batch 128, at most 2 epochs."""

    learning_rate: float = 2e-5
    epochs: float = 2
    checkpoint: str = ""
    """Take this format-tuned model (a checkpoint folder or a hub id, such as Satori-reasoning/Satori-SFT-7B) instead
    of tuning one."""


def run_stage(context: StageContext) -> str:
    if context.recipe.tune.checkpoint:
        return take_checkpoint(context)
    base = context.artifact("base")
    model, tokenizer = load_policy(base), load_tokenizer(base)
    new_tokens = add_meta_actions(model, tokenizer)
    sequences = []
    for record in read_jsonl(context.artifact("synthesis") / "demonstrations.jsonl"):
        response = tokenizer.encode(record["response"], add_special_tokens=False)
        sequences.append((encode_prompt(tokenizer, record["question"]), [*response, tokenizer.eos_token_id]))
    fine_tune(
        model,
        tokenizer,
        sequences,
        context.recipe.tune,
        context.folder,
        context.task,
        context.seed,
        context.trackers,
        new_tokens,
    )
    save(model, tokenizer, context.folder)
    return f"tuned on {len(sequences)} demonstrations"


def take_checkpoint(context: StageContext) -> str:
    """A model that was tuned elsewhere. Raises ArtifactError where its tokenizer splits the meta-actions."""
    name = context.recipe.tune.checkpoint
    model, tokenizer = load_any_policy(name, context.recipe.model.trust_remote_code, context.recipe.model.dtype)
    try:
        meta_action_ids(tokenizer)
    except ValueError as error:
        raise ArtifactError(f"{name} is not format-tuned: {error}") from error
    prepare(model, tokenizer)
    save(model, tokenizer, context.folder)
    return f"took {name}"
