"""The embedded base model: shipped as package data, or pretrained from nothing.

It stands where the paper has Qwen2.5-Math-7B: a model that solves some problems in plain steps and, asked to check a
given solution, finds the mistake and goes on from there; it has never seen a meta-action, and never checks unasked.
Pretraining mixes plain solutions with checking exercises from the training split; loss on the answers.
"""

import random
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pydantic import Field
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori import ranks
from satori.coat import render_prompt
from satori.config import Settings, derive_seed
from satori.models import save
from satori.optimizers import MuonWithAdamW
from satori.problems.arithmetic import pretraining_texts
from satori.run_folder import append_jsonl
from satori.scoring import PromptResponse, by_length, make_batch, policy_logprobs
from satori.stage import StageContext
from satori.tiny_model import build_model, build_tokenizer

SHIPPED_BASE = Path(__file__).parent / "assets" / "tiny_base"


class PretrainSettings(Settings):
    """The base model. The architecture and schedule count only where it is made from scratch."""

    from_scratch: bool = False
    """Pretrain now instead of taking the shipped weights (which this same code and these settings made)."""
    hidden_size: int = Field(default=128, gt=0)
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    steps: int = Field(default=1700, gt=0)
    tokens_per_step: int = Field(default=2500, gt=0)
    """Small steps learn far more a minute than large ones."""
    learning_rate: float = Field(default=4e-3, gt=0)
    check_share: float = Field(default=0.55, ge=0, le=1)
    """Share of checking exercises among the texts; the rest are plain solutions."""
    seed: int = 0
    """Of the weights and texts; apart from the recipe's seed, so that all seeds of a recipe share one base."""


def run_stage(context: StageContext) -> str:
    settings = context.recipe.pretrain
    if not settings.from_scratch:
        ranks.first_does(lambda: shutil.copytree(SHIPPED_BASE, context.folder, dirs_exist_ok=True))
        return "the shipped base model"
    return ranks.first_does(lambda: make_from_scratch(context))


def make_from_scratch(context: StageContext) -> str:
    """Build and pretrain the model; small enough for one rank."""
    settings = context.recipe.pretrain
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, settings.hidden_size, settings.layers, settings.heads, settings.seed)
    context.task.start(settings.steps)
    loss = 0.0
    for step, loss in enumerate(pretrain(model, tokenizer, settings)):
        context.task.advance()
        if step % 20 == 0 or step == settings.steps - 1:
            context.task.note(f"loss {loss:.3f}")
            append_jsonl(context.folder / "metrics.jsonl", {"step": step, "loss": loss})
            context.trackers.log({"step": step, "loss": loss})
    save(model, tokenizer, context.folder)
    return f"pretrained for {settings.steps} steps, loss {loss:.3f}"


def pretrain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: PretrainSettings) -> Iterator[float]:
    """Train in place; yields the loss of each step."""
    optimizer = MuonWithAdamW(model, settings.learning_rate)
    model.train()
    for step, sequences in enumerate(islice(text_batches(tokenizer, settings), settings.steps)):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * warmup_stable_decay(step, settings.steps)
        logprobs_N, _ = policy_logprobs(model, make_batch(sequences), temperature=1.0)
        loss = -logprobs_N.mean()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield float(loss.detach())
    model.eval()


def warmup_stable_decay(step: int, steps: int) -> float:
    """Up over 100 steps, level until 60% of the way, then down to a twentieth."""
    return min(1.0, (step + 1) / 100, max(0.05, (1 - step / steps) / 0.4))


def text_batches(tokenizer: PreTrainedTokenizerBase, settings: PretrainSettings) -> Iterator[list[PromptResponse]]:
    """Endless batches of similar length, each within the token budget."""
    texts = pretraining_texts(derive_seed(settings.seed, "pretrain"), settings.check_share)
    rng = random.Random(settings.seed)
    before, after = render_prompt(tokenizer, "\0").split("\0")
    while True:
        chunk = list(islice(texts, 512))
        contexts = [before + text.question + after + text.given for text in chunk]
        prompts = tokenizer(contexts, add_special_tokens=False)["input_ids"]
        answers = tokenizer([text.answer for text in chunk], add_special_tokens=False)["input_ids"]
        pairs = [(p, [*a, tokenizer.eos_token_id]) for p, a in zip(prompts, answers, strict=True)]
        batches = by_length([len(p) + len(a) for p, a in pairs], settings.tokens_per_step)
        rng.shuffle(batches)
        for indices in batches:
            yield [pairs[i] for i in indices]
