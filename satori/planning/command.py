"""``satori plan``: what a recipe needs on so many GPUs, with the arithmetic. Estimates; nothing is measured.

Memory is in :mod:`satori.planning.memory`, time in :mod:`satori.planning.times`. A tenth of a GPU's memory is kept free
for what is not counted.
"""

from collections.abc import Callable, Iterator

from satori.engines.opening import EngineKind
from satori.planning.figures import Line, PlanSettings, billions, verdict
from satori.planning.memory import cache, longest_asked, rollouts, scoring, supervised, updating, weight_bytes
from satori.planning.shapes import Shape, shape_of
from satori.planning.times import step, whole_run
from satori.recipe import Recipe
from satori.reinforcement.stage import RLSettings

Section = tuple[str, list[Line]]
Count = Callable[[Recipe, RLSettings, Shape, PlanSettings], list[Line]]


def plan(recipe: Recipe, machine: PlanSettings) -> Iterator[str]:
    """The plan, line by line. Raises RecipeError where the model's shape is not known."""
    shape = shape_of(recipe.model.name)
    tied = "the head is the embeddings' matrix" if shape.tied else f"a head of {billions(shape.vocabulary_matrix)}"
    layers = f"{shape.layers} layers of {billions(shape.layer_parameters)}"
    yield f"{shape.name}: {billions(shape.parameters)} parameters"
    yield f"  {layers}, embeddings of {billions(shape.vocabulary_matrix)}, {tied}"
    yield f"  critic and reward model: {billions(shape.scalar_parameters)}, one row for a head"
    yield f"{machine.gpus} GPUs of {machine.gpu_memory:g} GB. All of it is an estimate; assumptions at the end."
    yield from (f"warning: {text}" for text in warnings(recipe, shape, machine))
    for title, lines in memory(recipe, shape, machine):
        yield f"\nMemory of a GPU: {title}"
        yield from map(str, lines)
        yield verdict(lines, machine)
    if recipe.engine.kind is EngineKind.VLLM:
        yield "\nWithin the engine's share of a GPU"
        yield from map(str, cache(recipe, recipe.rl, shape, machine))
    for title, lines in both_rounds(step, recipe, shape, machine):
        yield f"\nTime of a step, {title}"
        yield from map(str, lines)
    yield "\nTime of a run"
    yield from map(str, whole_run(recipe, shape, machine))
    yield "\nAssumptions (each is a flag)"
    for name, value in machine.model_dump().items():
        yield f"  --{name.replace('_', '-'):<20} {value:g}"


def memory(recipe: Recipe, shape: Shape, machine: PlanSettings) -> list[Section]:
    """What is in a GPU's memory together, by stage."""
    tuned, distilled = (supervised(recipe, own, shape, machine) for own in (recipe.tune, recipe.distill))
    if recipe.tune.checkpoint:
        sections = [("distillation", distilled)]
    elif tuned == distilled:
        sections = [("format tuning and distillation", tuned)]
    else:
        sections = [("format tuning", tuned), ("distillation", distilled)]
    if not recipe.reward_model.checkpoint:
        sections.append(("reward model", supervised(recipe, recipe.reward_model, shape, machine, sequences=2)))
    parts: list[tuple[str, Count]] = [("while the engine samples", rollouts), ("while the policy is updated", updating)]
    if machine.gpus > 1:  # on one, responses are scored while others are sampled
        parts.insert(1, ("while responses are scored", scoring))
    for moment, part in parts:
        found = both_rounds(part, recipe, shape, machine)
        sections += [(f"{rounds}, {moment}", lines) for rounds, lines in found]
    return sections


def both_rounds(count: Count, recipe: Recipe, shape: Shape, machine: PlanSettings) -> list[Section]:
    """What is counted for each round of reinforcement learning; once where it is the same."""
    first, second = (count(recipe, settings, shape, machine) for settings in (recipe.rl, recipe.rl_2))
    return [("both rounds", first)] if first == second else [("round 1", first), ("round 2", second)]


def warnings(recipe: Recipe, shape: Shape, machine: PlanSettings) -> Iterator[str]:
    """What a recipe should not ask for on this machine."""
    if weight_bytes(recipe, shape) == 2:
        yield "weights in bfloat16 lose small updates (--model.dtype float32 keeps them)"
    for name in ("tune", "reward_model", "distill"):
        size = getattr(recipe, name).batch_size
        if size % machine.gpus:
            yield f"{name}.batch_size is {size}: {machine.gpus} ranks cannot have equal shares of it"
    for name, settings in (("rl", recipe.rl), ("rl_2", recipe.rl_2)):
        asked = longest_asked(recipe, settings)
        if shape.context and asked > shape.context:
            yield (
                f"{name}: prompt, prefix and response may have {asked} tokens together, the model's context is "
                f"{shape.context}: a longer one ends the run"
            )
