"""How long the stages take, as a roofline. Training computes at a share of the peak: 2 floating-point operations a
parameter and token forward, 4 backward, 2 more where activations are computed again. Generation reads all weights in
each decoding step, and every sequence's cache.

What it leaves out: attention's own products, padding, communication, handing weights to the engine, grading, waiting
for the slowest rank, checkpoints.
"""

from dataclasses import dataclass

from satori.engines.opening import EngineKind
from satori.lora import LoraSettings
from satori.planning.figures import Line, PlanSettings, billions
from satori.planning.memory import cache, compute_bytes, engine_bytes, token_bytes
from satori.planning.shapes import Shape
from satori.recipe import Recipe
from satori.recompute import Recompute
from satori.reinforcement.stage import RLSettings
from satori.training import OptimizerSettings


def flops(again: Recompute, lora: LoraSettings) -> int:
    """Floating-point operations a parameter and token of an update. Weights that stand still need no gradients."""
    return 2 + (0 if again is False else 2) + (2 if lora.rank else 4)


def computing(machine: PlanSettings, bytes_each: int = 2) -> tuple[float, str]:
    """Operations a second of all GPUs, and the formula."""
    peak = machine.peak_tflops if bytes_each == 2 else machine.peak_tflops_float32
    return machine.gpus * peak * 1e12 * machine.mfu, f"({machine.gpus} x {peak:g} TFLOP/s x {machine.mfu:g})"


@dataclass(frozen=True)
class Generation:
    """The time of some responses, and where it goes."""

    lines: list[Line]
    seconds: float


def generation(recipe: Recipe, shape: Shape, machine: PlanSettings, responses: int, most: int) -> Generation:
    """So many responses, shared by all GPUs, none longer than ``most``. A step of decoding gives each row one token;
    when the last rows have begun, the longest response is still to come."""
    width, token = engine_bytes(recipe, shape), token_bytes(recipe, shape)
    mean = min(machine.mean_response, most)
    mine = max(1.0, responses / machine.gpus)
    rows = min(mine, recipe.engine.rows, _rows_that_fit(recipe, shape, machine, mean))
    steps = mean * mine / rows + most - mean
    rate = machine.bandwidth * 1e9 * machine.bandwidth_share
    of_rate = f"({machine.bandwidth:g} GB/s x {machine.bandwidth_share:g})"
    weights = steps * shape.parameters * width / rate
    held = machine.mean_prompt + mean / 2
    read = mine * mean * held * token / rate
    speed, of_speed = computing(machine, width)
    compute = 2 * shape.parameters * responses * mean / speed
    prompts = 2 * shape.parameters * responses * machine.mean_prompt / speed
    decoding = max(weights + read, compute)
    seconds = prompts + decoding
    parameters = billions(shape.parameters)
    lines = [
        Line("steps of decoding", f"{mean:g} x {mine:,.0f} / {rows:g} rows + {most} - {mean:g}", steps, "steps"),
        Line("reading the weights", f"{steps:,.0f} steps x {parameters} x {width} B / {of_rate}", weights, "s"),
        Line(
            "reading the cache",
            f"{mine:,.0f} x {mean:g} tokens x {held:g} before each x {token / 1e3:g} kB / {of_rate}",
            read,
            "s",
        ),
        Line(
            "computing, if that is longer",
            f"2 x {parameters} x {responses * mean:,.0f} tokens / {of_speed}",
            compute,
            "s",
        ),
        Line("prompts", f"2 x {parameters} x {responses * machine.mean_prompt:,.0f} tokens / {of_speed}", prompts, "s"),
        Line("generation", "reading or computing, and prompts", seconds, "s"),
        Line("tokens generated", f"{responses * mean:,.0f} / {seconds:.1f} s", responses * mean / seconds, "a second"),
    ]
    return Generation(lines, seconds)


def _rows_that_fit(recipe: Recipe, shape: Shape, machine: PlanSettings, mean: float) -> float:
    """Sequences of mean length in vLLM's cache; the torch sampler takes what the rows need."""
    if recipe.engine.kind is not EngineKind.VLLM:
        return float(recipe.engine.rows)
    held = next(line.value for line in cache(recipe, recipe.rl, shape, machine) if line.unit == "tokens")
    return max(1.0, held // (machine.mean_prompt + mean))


def step(recipe: Recipe, settings: RLSettings, shape: Shape, machine: PlanSettings) -> list[Line]:
    """The parts of a step of reinforcement learning; all of it in the last line."""
    generated = generation(recipe, shape, machine, settings.rollouts_per_step, settings.max_new_tokens)
    mean = machine.mean_prompt + min(machine.mean_response, settings.max_new_tokens)
    tokens = settings.rollouts_per_step * mean
    policy, scalar = shape.parameters, shape.scalar_parameters
    critic = scalar if settings.estimator == "gae" else 0
    both, before = policy + critic, (policy if settings.old_logprobs == "trainer" else 0) + critic
    speed, of_speed = computing(machine, compute_bytes(settings.precision))
    scores = 2 * scalar * tokens / speed if settings.use_reward_model else 0.0
    reading = 2 * before * tokens / speed
    each = flops(settings.recompute_activations, settings.lora) * settings.epochs
    update = each * both * tokens / speed
    total = generated.seconds + scores + reading + update
    read = f"{tokens:,.0f} tokens"
    return [
        *generated.lines,
        Line("reward model's scores", f"2 x {billions(scalar)} x {read} / {of_speed}", scores, "s"),
        Line("log-probabilities and values", f"2 x {billions(before)} x {read} / {of_speed}", reading, "s"),
        Line("update", f"{each} x {billions(both)} x {read} / {of_speed}", update, "s"),
        Line("tokens trained on", f"{tokens:,.0f} / {update:.1f} s", tokens / update, "a second"),
        Line("a step", "generation + scores + log-probabilities + update", total, "s"),
    ]


def whole_run(recipe: Recipe, shape: Shape, machine: PlanSettings) -> list[Line]:
    """Hours of the stages that this model works in. Synthesis is its servers' and evaluation is left out."""
    pairs = recipe.reward_model.problems * recipe.reward_model.pairs_per_problem
    lines = []
    if not recipe.tune.checkpoint:
        count = recipe.synthesis.demonstrations
        lines.append(_training("format tuning", recipe.tune, shape.parameters, count, machine))
    if not recipe.reward_model.checkpoint:
        settings = recipe.reward_model
        asked = settings.problems * settings.samples
        lines += [
            _sampling("preference pairs: responses", asked, settings.max_new_tokens, recipe, shape, machine),
            _training("reward model, at most", settings, shape.scalar_parameters, 2 * pairs, machine),
        ]
    if recipe.restarts.released is None:
        asked = recipe.restarts.problems * recipe.restarts.samples
        lines.append(_sampling("restarts: responses", asked, recipe.restarts.max_new_tokens, recipe, shape, machine))
    lines.append(_round("reinforcement learning, round 1", recipe.rl, recipe, shape, machine))
    asked = recipe.distill.problems * recipe.distill.samples
    lines += [
        _sampling("distillation: responses", asked, recipe.distill.max_new_tokens, recipe, shape, machine),
        _training("distillation, at most", recipe.distill, shape.parameters, recipe.distill.keep, machine),
        _round("reinforcement learning, round 2", recipe.rl_2, recipe, shape, machine),
    ]
    hours = sum(line.value for line in lines)
    return [*lines, Line("all of it", "without synthesis and evaluation", hours, "hours")]


def _training(title: str, settings: OptimizerSettings, parameters: int, sequences: int, machine: PlanSettings) -> Line:
    tokens = sequences * settings.epochs * (machine.mean_prompt + machine.mean_response)
    speed, of_speed = computing(machine, compute_bytes(settings.precision))
    each = flops(settings.recompute_activations, settings.lora)
    formula = f"{each} x {billions(parameters)} x {tokens:,.0f} tokens / {of_speed}"
    return Line(title, formula, each * parameters * tokens / speed / 3600, "hours")


def _sampling(title: str, responses: int, most: int, recipe: Recipe, shape: Shape, machine: PlanSettings) -> Line:
    made = generation(recipe, shape, machine, responses, most)
    tokens = responses * min(machine.mean_response, most)
    formula = f"{tokens:,.0f} tokens / {tokens / made.seconds:,.0f} a second"
    return Line(title, formula, made.seconds / 3600, "hours")


def _round(title: str, settings: RLSettings, recipe: Recipe, shape: Shape, machine: PlanSettings) -> Line:
    seconds = step(recipe, settings, shape, machine)[-1].value
    return Line(title, f"{settings.steps} steps x {seconds:.0f} s", settings.steps * seconds / 3600, "hours")
