"""``satori plan``: what a recipe needs on so many GPUs, with the arithmetic. Estimates, nothing is measured.

Memory is counted as this code uses it: policy, critic and reward model sharded over all ranks (FSDP2); weights,
gradients and two moments in the type of the weights; of activations each layer's input, the rest computed again; the
engine whole on every rank. Time is a roofline: generation reads weights and cache from memory for every token,
training computes at an assumed share of the peak.

What it leaves out: the allocator's slack (a tenth is kept free for it), communication, synthesis and its servers,
waiting.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from satori.base_model import EMBEDDED, SMOLLM2
from satori.config import Settings
from satori.head import CHUNK_LOGITS
from satori.pretraining import SHIPPED_BASE
from satori.recipe import Recipe, RecipeError
from satori.reinforcement.stage import RLSettings

_FREE_SHARE = 0.1
_KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-Math-7B": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    },
    "Qwen/Qwen2.5-0.5B-Instruct": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    SMOLLM2: {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""The shapes of the models that our recipes name, as their config.json gives them."""


class PlanSettings(Settings):
    """The machine, and what is assumed of it."""

    gpus: int = Field(default=8, gt=0)
    gpu_memory: float = Field(default=80.0, gt=0)
    """GB of one GPU."""
    peak_tflops: float = Field(default=989.0, gt=0)
    """Dense bfloat16 peak of one GPU (989: H100 SXM)."""
    mfu: float = Field(default=0.35, gt=0, le=1)
    """Share of the peak that training reaches."""
    bandwidth: float = Field(default=3350.0, gt=0)
    """Memory bandwidth of one GPU in GB/s (3350: H100 SXM)."""
    bandwidth_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the bandwidth that generation reaches."""
    mean_prompt: float = Field(default=300.0, gt=0)
    """Tokens of a prompt with its restart prefix."""
    mean_response: float = Field(default=900.0, gt=0)
    """Tokens of a response."""


@dataclass(frozen=True)
class Shape:
    """What of a model counts for memory and time."""

    name: str
    parameters: int
    head: int
    """Of the output head; 0 where it is the embeddings' matrix."""
    layers: int
    hidden: int
    layer_parameters: int
    """Of one layer."""
    cache_width: int
    """Numbers that a token leaves in the cache of keys and values of one layer."""

    @property
    def with_scalar_head(self) -> int:
        """Parameters of a critic or reward model made from it."""
        return self.parameters - self.head + self.hidden


@dataclass(frozen=True)
class Line:
    """One figure with its arithmetic."""

    title: str
    sum: str
    value: float
    unit: str = "GB"

    def __str__(self) -> str:
        return f"  {self.title:<36} {self.value:>9,.1f} {self.unit:<9} = {self.sum}"


def shape_of(name: str) -> Shape:
    """The shape of a recipe's model. Raises RecipeError where it is neither a folder nor a model known here."""
    if name == EMBEDDED:
        return measure(name, AutoConfig.from_pretrained(SHIPPED_BASE))
    if (Path(name) / "config.json").exists():
        return measure(name, AutoConfig.from_pretrained(name))
    if name not in _KNOWN:
        raise RecipeError(
            f"model.name: the shape of {name} is not known here; give --model.name a folder with its config.json, "
            f"or one of {', '.join(_KNOWN)}"
        )
    return measure(name, AutoConfig.for_model(**_KNOWN[name]))


def measure(name: str, config: PretrainedConfig) -> Shape:
    """Counts the parameters of a model that is never built."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight or bool(config.tie_word_embeddings)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        name=name,
        parameters=sum(p.numel() for p in model.parameters()) - (head.numel() if _counted_twice(model, tied) else 0),
        head=0 if tied else head.numel(),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        layer_parameters=sum(p.numel() for p in model.base_model.layers[0].parameters()),
        cache_width=2 * config.num_key_value_heads * size,
    )


def _counted_twice(model: torch.nn.Module, tied: bool) -> bool:
    """Whether a tied matrix has two names and no common tensor yet, as on the meta device."""
    return tied and model.get_output_embeddings().weight is not model.get_input_embeddings().weight  # type: ignore[operator]


def plan(recipe: Recipe, machine: PlanSettings) -> Iterator[str]:
    """The plan, line by line. Raises RecipeError where the model's shape is not known."""
    shape = shape_of(recipe.model.name)
    layer = billions(shape.layer_parameters)
    yield f"{shape.name}: {billions(shape.parameters)} parameters, {shape.layers} layers of {layer}"
    yield f"{machine.gpus} GPUs of {machine.gpu_memory:g} GB. All of it is an estimate; assumptions at the end."
    width = 2 if recipe.model.dtype == "bfloat16" else 4
    if width == 2:
        yield "warning: weights in bfloat16 lose small updates (model.dtype: float32 keeps them)"
    for title, lines in (
        ("Format tuning and distillation, a GPU", supervised(recipe, shape, machine, width)),
        ("Reinforcement learning, a GPU while it trains", training(recipe.rl, shape, machine, width)),
        ("Reinforcement learning, a GPU while it samples", sampling(recipe, shape, machine, width)),
    ):
        yield f"\n{title}"
        yield from map(str, lines)
        if lines[-1].unit == "GB":  # the engine takes what is left
            yield verdict(sum(line.value for line in lines), machine)
    for title, settings in (("Time of round 1", recipe.rl), ("Time of round 2", recipe.rl_2)):
        yield f"\n{title}"
        yield from map(str, duration(settings, shape, machine))
    yield "\nAssumptions (each is a flag)"
    for name, value in machine.model_dump().items():
        yield f"  --{name.replace('_', '-'):<18} {value:g}"


def billions(count: float) -> str:
    return f"{count / 1e9:.2f}e9" if count >= 1e8 else f"{count / 1e6:.2f}e6"


def trained(name: str, parameters: int, width: int, gpus: int) -> list[Line]:
    """Weights, gradients and Adam's two moments of a sharded model."""
    each = parameters * width / gpus / 1e9
    formula = f"{billions(parameters)} x {width} B / {gpus}"
    return [
        Line(f"{name}: weights", formula, each),
        Line(f"{name}: gradients", formula, each),
        Line(f"{name}: two moments", f"2 x {formula}", 2 * each),
    ]


def gathered(shape: Shape, tokens: int) -> list[Line]:
    """What is whole or kept while one micro-batch is computed, in bfloat16, its layers computed again."""
    root = shape.parameters - shape.layers * shape.layer_parameters
    kept = shape.layers * shape.hidden * tokens * 2
    inside = 20 * shape.hidden * tokens * 2
    return [
        Line(
            "embeddings, head, two layers, whole",
            f"({billions(root)} + 2 x {billions(shape.layer_parameters)}) x 2 B",
            (root + 2 * shape.layer_parameters) * 2 / 1e9,
        ),
        Line("layer inputs kept", f"{shape.layers} x {shape.hidden} x {tokens} tokens x 2 B", kept / 1e9),
        Line("inside one layer, about", f"20 x {shape.hidden} x {tokens} tokens x 2 B", inside / 1e9),
        Line("chunked head", f"3 x {CHUNK_LOGITS} logits x 4 B", 3 * CHUNK_LOGITS * 4 / 1e9),
    ]


def supervised(recipe: Recipe, shape: Shape, machine: PlanSettings, width: int) -> list[Line]:
    per_gpu = max(1, min(recipe.tune.micro_batch_size, recipe.tune.batch_size // machine.gpus))
    tokens = int(per_gpu * (machine.mean_prompt + machine.mean_response))
    return [*trained("model", shape.parameters, width, machine.gpus), *gathered(shape, tokens)]


def training(settings: RLSettings, shape: Shape, machine: PlanSettings, width: int) -> list[Line]:
    scalar = shape.with_scalar_head
    return [
        *trained("policy", shape.parameters, width, machine.gpus),
        *(trained("critic", scalar, width, machine.gpus) if settings.estimator == "gae" else ()),
        *_reward_model(settings, scalar, width, machine.gpus),
        *gathered(shape, settings.tokens_per_micro_batch),
    ]


def sampling(recipe: Recipe, shape: Shape, machine: PlanSettings, width: int) -> list[Line]:
    """While responses are sampled the trained models stay, without gradients; the engine has the rest."""
    settings, scalar, gpus = recipe.rl, shape.with_scalar_head, machine.gpus
    both = shape.parameters + (scalar if settings.estimator == "gae" else 0)
    resting = Line(
        "policy and critic with moments", f"3 x {billions(both)} x {width} B / {gpus}", 3 * both * width / gpus / 1e9
    )
    engine = Line("engine: weights in bfloat16", f"{billions(shape.parameters)} x 2 B", shape.parameters * 2 / 1e9)
    lines = [resting, *_reward_model(settings, scalar, width, gpus), engine]
    room = machine.gpu_memory * (1 - _FREE_SHARE) - sum(line.value for line in lines)
    token = shape.layers * shape.cache_width * 2
    length = recipe.problems.max_prompt_tokens + settings.max_new_tokens
    return [
        *lines,
        Line("room for the cache", "the rest, less a tenth", max(room, 0.0)),
        Line("a token's keys and values", f"{shape.layers} layers x {shape.cache_width} x 2 B", token / 1e3, "kB"),
        Line(
            "sequences at a time, of full length",
            f"room / ({length} tokens x {token / 1e3:g} kB)",
            max(room, 0.0) * 1e9 // (length * token),
            "sequences",
        ),
    ]


def _reward_model(settings: RLSettings, parameters: int, width: int, gpus: int) -> list[Line]:
    if not settings.use_reward_model:
        return []
    formula = f"{billions(parameters)} x {width} B / {gpus}"
    return [Line("reward model: weights", formula, parameters * width / gpus / 1e9)]


def verdict(needed: float, machine: PlanSettings) -> str:
    usable = machine.gpu_memory * (1 - _FREE_SHARE)
    left = usable - needed
    word = f"fits, {left:.1f} GB left" if left >= 0 else f"DOES NOT FIT, {-left:.1f} GB too much"
    return f"  {'together':<36} {needed:>9,.1f} GB          of {usable:g} GB usable: {word}"


def duration(settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """Seconds of a step's parts, and the hours of a round."""
    gpus, rollouts = machine.gpus, settings.rollouts_per_step
    new, read = rollouts * machine.mean_response, rollouts * (machine.mean_prompt + machine.mean_response)
    rows = max(1.0, rollouts / gpus)
    cache = shape.layers * shape.cache_width * 2 * (machine.mean_prompt + machine.mean_response / 2)
    per_token = (shape.parameters * 2 / rows + cache) / (machine.bandwidth * 1e9 * machine.bandwidth_share)
    generate = new * per_token / gpus
    speed = machine.peak_tflops * 1e12 * machine.mfu * gpus
    critic = 1 if settings.estimator == "gae" else 0
    passes = 8 * (1 + critic) * settings.epochs
    scores = 2 * (1 + critic + settings.use_reward_model)
    train, score = passes * shape.parameters * read / speed, scores * shape.parameters * read / speed
    step = generate + score + train
    computing = f"({gpus} x {machine.peak_tflops:g} TFLOP/s x {machine.mfu:g})"
    flops = f"{billions(shape.parameters)} x {read:,.0f} tokens / {computing}"
    return [
        Line(
            "generation",
            f"{new:,.0f} tokens x ({billions(shape.parameters)} x 2 B / {rows:g} rows + {cache / 1e6:.1f} MB of cache) "
            f"/ ({gpus} x {machine.bandwidth:g} GB/s x {machine.bandwidth_share:g})",
            generate,
            "s",
        ),
        Line("log-probs, values, scores", f"{scores} x {flops}", score, "s"),
        Line("update, layers computed again", f"{passes} x {flops}", train, "s"),
        Line("tokens generated", f"{new:,.0f} / {generate:.1f} s", new / generate, "a second"),
        Line("tokens trained on", f"{read:,.0f} / {train:.1f} s", read / train, "a second"),
        Line("a step", "generation + scores + update", step, "s"),
        Line("the round", f"{settings.steps} steps x {step:.0f} s", settings.steps * step / 3600, "hours"),
    ]
