"""What is in the memory of one GPU in each stage that trains.

Counted as this code uses it, on several ranks: models that train and the reward model sharded over all of them (FSDP2),
their gradients and moments too; the layers that compute are whole, in the type that they compute in; the engine is
whole on every rank. On one rank nothing is sharded.

Legend of formulas: P parameters of a model, N ranks, H hidden width, I width of the MLP, L layers.
"""

import sys

from satori.engines.opening import EngineKind
from satori.head import CHUNK_LOGITS
from satori.optimizers import OptimizerKind
from satori.planning.figures import Line, PlanSettings, billions
from satori.planning.shapes import Shape
from satori.precision import Precision
from satori.recipe import Recipe
from satori.recompute import Recompute
from satori.reinforcement.stage import RLSettings
from satori.training import OptimizerSettings, largest_divisor

_FLOAT32 = 4
_TRL_CHUNK = 4096 * 32768
"""Numbers of the tile in which TRL's fused head computes, at most."""


def weight_bytes(recipe: Recipe, shape: Shape) -> int:
    """Of one weight, gradient or moment: models are trained in the type that they are saved in."""
    return {"auto": shape.saved_bytes, "float32": 4, "bfloat16": 2}[recipe.model.dtype]


def compute_bytes(precision: Precision) -> int:
    """Of a number in a matrix product on a GPU."""
    return 4 if precision == "float32" else 2


def longest_asked(recipe: Recipe, settings: RLSettings) -> int:
    """Tokens that a prompt, its restart prefix and a response may have together."""
    restarts = settings.starts.positive or settings.starts.negative
    prompt = recipe.restarts.max_prompt_tokens if restarts else 0
    return max(prompt, recipe.problems.max_prompt_tokens) + settings.max_new_tokens


# --- models that train ------------------------------------------------------------------------------------------


def trained(
    name: str,
    parameters: int,
    width: int,
    gpus: int,
    adapters: int = 0,
    optimizer: OptimizerKind = OptimizerKind.ADAMW,
) -> list[Line]:
    """Weights, gradients and moments of a sharded model; with adapters only these have gradients and moments."""
    weights = f"{billions(parameters)} x {width} B / {gpus}"
    lines = [Line(f"{name}: weights", weights, parameters * width / gpus / 1e9)]
    learning, kind = (adapters, _FLOAT32) if adapters else (parameters, width)
    each, formula = learning * kind / gpus / 1e9, f"{billions(learning)} x {kind} B / {gpus}"
    if adapters:
        lines.append(Line(f"{name}: adapters", formula, each))
    moments, word = (1, "one moment") if optimizer is OptimizerKind.MUON else (2, "two moments")
    return [
        *lines,
        Line(f"{name}: gradients", formula, each),
        Line(f"{name}: {word}", f"{moments} x {formula}", moments * each),
    ]


def together_at_work(shape: Shape, bytes_each: int, gpus: int, head: bool) -> list[Line]:
    """What is whole while a model trains: its ends and two layers, one of them on its way; and their gradients, in the
    type that they are computed in and in float32, in which they are summed."""
    if gpus == 1:
        if bytes_each == _FLOAT32:
            return []
        copies = shape.parameters * bytes_each / 1e9
        return [Line("copies of all weights to compute", f"{billions(shape.parameters)} x {bytes_each} B", copies)]
    ends = shape.vocabulary_matrix * (2 if head and not shape.tied else 1)
    pair = 2 * shape.layer_parameters
    whole = Line(
        "embeddings, head, two layers, whole",
        f"({billions(ends)} + 2 x {billions(shape.layer_parameters)}) x {bytes_each} B",
        (ends + pair) * bytes_each / 1e9,
    )
    layers = f"2 x {billions(shape.layer_parameters)} x ({bytes_each} + 4) B"
    sums = Line("gradients of two layers", layers, pair * (bytes_each + _FLOAT32) / 1e9)
    if not head:
        return [whole, sums]
    of_head = f"{billions(shape.vocabulary_matrix)} x ({bytes_each} + 4) B"
    size = shape.vocabulary_matrix * (bytes_each + _FLOAT32) / 1e9
    return [whole, sums, Line("gradient of the head", of_head, size)]


def activations(shape: Shape, tokens: int, bytes_each: int, again: Recompute) -> list[Line]:
    """Of one micro-batch. A layer keeps 4 I + 10 H numbers of a token: both norms (in float32), queries, keys, values,
    attention, and the gate, its activation, the other half and their product in the MLP."""
    inside = f"(4 x {shape.intermediate} + 10 x {shape.hidden})"
    layer = (4 * shape.intermediate + 10 * shape.hidden) * bytes_each * tokens / 1e9
    slopes = Line(
        "gradients inside one layer, about",
        f"3 x {shape.intermediate} x {tokens} tokens x {bytes_each} B",
        3 * shape.intermediate * tokens * bytes_each / 1e9,
    )
    if again is False:
        kept = f"{shape.layers} x {inside} x {tokens} tokens x {bytes_each} B"
        return [Line("kept in all layers", kept, shape.layers * layer), slopes]
    return [
        Line(
            "layer inputs kept",
            f"{shape.layers} x {shape.hidden} x {tokens} tokens x {bytes_each} B",
            shape.layers * shape.hidden * tokens * bytes_each / 1e9,
        ),
        Line("kept in one layer, computed again", f"{inside} x {tokens} tokens x {bytes_each} B", layer),
        slopes,
    ]


def supervised(
    recipe: Recipe, settings: OptimizerSettings, shape: Shape, machine: PlanSettings, sequences: int = 1
) -> list[Line]:
    """A stage that TRL trains, when all examples of a micro-batch are of full length. ``sequences`` of an example: two
    of a preference pair, which a model without output head reads."""
    gpus, number = machine.gpus, compute_bytes(settings.precision)
    width = weight_bytes(recipe, shape)
    if gpus > 1 and number == 2 and not settings.lora.rank:
        width = _FLOAT32  # accelerate keeps what is sharded and trained in it
    head = sequences == 1
    parameters = shape.parameters if head else shape.scalar_parameters
    own = max(1, settings.batch_size // gpus)
    micro = largest_divisor(own, settings.micro_batch_size)
    adapters = shape.adapter_parameters(settings.lora)
    lines = trained("model", parameters, width, gpus, adapters, settings.optimizer)
    if gpus > 1 and own > micro and not adapters:
        title = "gradients, whole until the last of " + str(own // micro)
        lines.append(Line(title, f"{billions(parameters)} x {number} B", parameters * number / 1e9))
    most = recipe.problems.max_prompt_tokens + _new_tokens(recipe)
    tokens = micro * sequences * min(most, shape.context or most)
    lines += together_at_work(shape, number, gpus, head)
    lines += activations(shape, tokens, number, settings.recompute_activations)
    if head:
        lines.append(Line("TRL's chunked head, at most", "4096 x 32768 numbers x 4 B", _TRL_CHUNK * 4 / 1e9))
    return lines


def _new_tokens(recipe: Recipe) -> int:
    return max(recipe.synthesis.max_new_tokens, recipe.reward_model.max_new_tokens, recipe.distill.max_new_tokens)


# --- reinforcement learning -------------------------------------------------------------------------------------


def resting(recipe: Recipe, settings: RLSettings, shape: Shape, gpus: int) -> list[Line]:
    """What stays all the time: policy and critic with their moments, the reward model."""
    width = weight_bytes(recipe, shape)
    lines = [line for line in _learner(settings, shape, width, gpus) if not line.title.endswith("gradients")]
    return lines + _reward_model(settings, shape, width, gpus)


def updating(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """While the policy is updated; the critic's turn takes a little less."""
    width, number = weight_bytes(recipe, shape), compute_bytes(settings.precision)
    tokens = max(settings.tokens_per_micro_batch, _full_length(recipe, settings, shape))
    return [
        *_learner(settings, shape, width, machine.gpus),
        *_reward_model(settings, shape, width, machine.gpus),
        *_engine_beside(recipe, settings, shape, machine),
        *together_at_work(shape, number, machine.gpus, head=True),
        *activations(shape, tokens, number, settings.recompute_activations),
        Line("chunked head", f"3 x {CHUNK_LOGITS} logits x 4 B", 3 * CHUNK_LOGITS * 4 / 1e9),
    ]


def rollouts(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """While the engine samples. On one GPU the reward model reads what is finished meanwhile."""
    lines = [*resting(recipe, settings, shape, machine.gpus), *engine(recipe, settings, shape, machine)]
    return lines + _scoring(recipe, settings, shape, machine) if machine.gpus == 1 else lines


def scoring(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """While the reward model reads the responses and the engine sleeps."""
    lines = [*resting(recipe, settings, shape, machine.gpus), *_engine_beside(recipe, settings, shape, machine)]
    return lines + _scoring(recipe, settings, shape, machine)


def _scoring(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """What the reward model needs to compute."""
    lines: list[Line] = []
    width = compute_bytes(settings.precision)
    tokens = max(settings.tokens_per_micro_batch, _full_length(recipe, settings, shape))
    if not settings.use_reward_model:
        return lines
    if machine.gpus > 1:
        whole = shape.vocabulary_matrix + 2 * shape.layer_parameters
        formula = f"({billions(shape.vocabulary_matrix)} + 2 x {billions(shape.layer_parameters)}) x {width} B"
        lines.append(Line("reward model: what is whole", formula, whole * width / 1e9))
    inside = 3 * shape.intermediate + 6 * shape.hidden
    formula = f"(3 x {shape.intermediate} + 6 x {shape.hidden}) x {tokens} tokens x {width} B"
    return [*lines, Line("reward model: one layer, about", formula, inside * tokens * width / 1e9)]


def _learner(settings: RLSettings, shape: Shape, width: int, gpus: int) -> list[Line]:
    adapters = shape.adapter_parameters(settings.lora)
    lines = trained("policy", shape.parameters, width, gpus, adapters, settings.optimizer)
    if settings.estimator == "gae":
        return lines + trained("critic", shape.scalar_parameters, width, gpus, adapters, settings.optimizer)
    weights = f"{billions(shape.scalar_parameters)} x {width} B / {gpus}"
    return [*lines, Line("critic, unused: weights", weights, shape.scalar_parameters * width / gpus / 1e9)]


def _reward_model(settings: RLSettings, shape: Shape, width: int, gpus: int) -> list[Line]:
    if not settings.use_reward_model:
        return []
    formula = f"{billions(shape.scalar_parameters)} x {width} B / {gpus}"
    return [Line("reward model: weights", formula, shape.scalar_parameters * width / gpus / 1e9)]


def _full_length(recipe: Recipe, settings: RLSettings, shape: Shape) -> int:
    return min(longest_asked(recipe, settings), shape.context or sys.maxsize)


# --- the engine -------------------------------------------------------------------------------------------------


def engine(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """What the engine holds while it samples: vLLM its share of the GPU, the torch sampler a copy of the policy and
    the cache of its rows at their mean length."""
    if recipe.engine.kind is EngineKind.VLLM:
        share = recipe.engine.vllm_share
        formula = f"{share:g} x {machine.gpu_memory:g} GB (gpu_memory_utilization)"
        return [Line("engine: weights and cache", formula, share * machine.gpu_memory)]
    rows = min(recipe.engine.rows, -(-settings.rollouts_per_step // machine.gpus))
    length, token = machine.mean_prompt + machine.mean_response, token_bytes(recipe, shape)
    cache = Line("engine: cache", f"{rows} rows x {length:g} tokens x {token / 1e3:g} kB", rows * length * token / 1e9)
    return [*_engine_beside(recipe, settings, shape, machine), cache]


def _engine_beside(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """What the engine keeps while models train: vLLM sleeps, the torch sampler keeps its copy."""
    if recipe.engine.kind is EngineKind.VLLM:
        return [] if recipe.engine.vllm.sleep_mode else engine(recipe, settings, shape, machine)
    if machine.gpus == 1 and not settings.lora.rank:  # it samples from the policy itself
        return []
    width = weight_bytes(recipe, shape)
    return [
        Line("engine: copy of the policy", f"{billions(shape.parameters)} x {width} B", shape.parameters * width / 1e9)
    ]


def engine_bytes(recipe: Recipe, shape: Shape) -> int:
    """Of a weight or a number of the cache in the engine."""
    if recipe.engine.kind is EngineKind.TORCH or recipe.engine.vllm.dtype == "auto":
        return weight_bytes(recipe, shape)
    return 4 if recipe.engine.vllm.dtype == "float32" else 2


def token_bytes(recipe: Recipe, shape: Shape) -> int:
    """A token's keys and values in all layers."""
    return shape.layers * shape.cache_width * engine_bytes(recipe, shape)


def cache(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """Of vLLM: how many tokens and sequences it holds at a time."""
    width, token = engine_bytes(recipe, shape), token_bytes(recipe, shape)
    given = recipe.engine.vllm_share * machine.gpu_memory
    weights = shape.parameters * width / recipe.engine.vllm.tensor_parallel_size / 1e9
    room = max(0.0, given - weights - machine.engine_extra)
    length = _full_length(recipe, settings, shape)
    return [
        Line("engine: weights", f"{billions(shape.parameters)} x {width} B", weights),
        Line("cache", f"{given:g} GB - {weights:.1f} GB - {machine.engine_extra:g} GB (--engine-extra)", room),
        Line(
            "a token's keys and values", f"{shape.layers} layers x {shape.cache_width} x {width} B", token / 1e3, "kB"
        ),
        Line("tokens at a time", f"cache / {token / 1e3:g} kB", room * 1e9 // token, "tokens"),
        Line("sequences of full length", f"tokens / {length}", room * 1e9 // token // length, "sequences"),
    ]
