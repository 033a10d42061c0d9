"""Recipes: YAML files over the typed settings of every stage, with overrides from the command line.

A recipe names only what differs from the defaults, and the defaults are the paper's. Round 2 of reinforcement
learning takes what it does not name from round 1. A section ``smoke`` may hold small sizes under the same keys.
"""

import difflib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from satori.base_model import BaseModelSettings
from satori.config import Settings
from satori.distillation import DistillSettings
from satori.engines.opening import EngineSettings
from satori.evaluation.stage import EvaluateSettings
from satori.format_tuning import TuneSettings
from satori.pretraining import PretrainSettings
from satori.problems.recipe_problems import ProblemSettings
from satori.reinforcement.stage import RestartStageSettings, RLSettings
from satori.reward_model import RewardModelSettings
from satori.synthesis.stage import SynthesisSettings
from satori.tracking import TrackingSettings
from satori.types import Variant

SMOKE = "smoke"


class RecipeError(ValueError):
    """A recipe file or an override is wrong; the message names file, key and what was expected."""


class Recipe(Settings):
    """A whole run."""

    description: str = ""
    seed: int = Field(default=0, ge=0)
    variant: Variant = Variant.COAT
    """`cot` runs the same pipeline without reflect and explore (paper table 3)."""
    threads: int = Field(default=0, ge=0)
    """CPU threads for PyTorch; 0 leaves its own choice."""
    rank_timeout_s: float = Field(default=1800.0, gt=0)
    """With several ranks: how long they wait for one that does not answer before the run ends and names it."""
    engine: EngineSettings = EngineSettings()
    tracking: TrackingSettings = TrackingSettings()
    model: BaseModelSettings = BaseModelSettings()
    problems: ProblemSettings = ProblemSettings()
    pretrain: PretrainSettings = PretrainSettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    tune: TuneSettings = TuneSettings()
    reward_model: RewardModelSettings = RewardModelSettings()
    restarts: RestartStageSettings = RestartStageSettings()
    rl: RLSettings = RLSettings()
    distill: DistillSettings = DistillSettings()
    rl_2: RLSettings = RLSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


def recipe_files() -> dict[str, Path]:
    """The shipped recipes by name."""
    folder = Path(str(resources.files("satori") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name_or_path: str, overrides: Sequence[tuple[str, str]] = (), smoke: bool = False) -> Recipe:
    """A shipped recipe by name, or one by the path of its file, with (dotted key, YAML value) overrides.

    ``smoke`` takes the small sizes of the recipe's section of that name: every stage, in minutes. Raises RecipeError
    naming the file and the key.
    """
    files = recipe_files()
    path = files.get(name_or_path, Path(name_or_path))
    if not path.is_file() and path.parent.name == "recipes":  # its place in the repository
        path = files.get(path.stem, path)
    if not path.is_file():
        raise RecipeError(
            f"no recipe {name_or_path!r}: neither a file nor one of {', '.join(files)}; settings come after it"
        )
    values = _read_yaml(path)
    small = values.pop(SMOKE, None)
    if smoke:
        if not isinstance(small, dict):
            raise RecipeError(f"{path}: no section {SMOKE}, which --smoke takes its sizes from")
        values = _merge(values, small)
    for key, text in overrides:
        _set(values, key, _parse_value(key, text))
    if isinstance(values.get("rl", {}), dict) and isinstance(values.get("rl_2", {}), dict):
        values["rl_2"] = _merge(values.get("rl", {}), values.get("rl_2", {}))
    return _validate(values, str(path))


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; loads to the same recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that is none
        raise RecipeError(f"{path}: not valid YAML in UTF-8: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected sections and keys, found {type(values).__name__}")
    return {key: {} if value is None else value for key, value in values.items()}  # an empty section is a section


def _parse_value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise RecipeError(f"--{key}: {text!r} is not a value: {error}") from error


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:  # a section that is left out is written as null
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise RecipeError(f"--{key}: {section} is a value, not a section")
    values[last] = value


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def _validate(values: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        inherited = {("rl_2", *problem["loc"][1:]) for problem in problems if problem["loc"][0] == "rl"}
        lines = [_explain(problem) for problem in problems if problem["loc"] not in inherited]
        raise RecipeError(f"{source}: " + "; ".join(lines)) from error


def _explain(problem: Any) -> str:
    """One line for one validation error: the key, what is wrong, what was expected."""
    key = ".".join(str(part) for part in problem["loc"])
    section: Any = Recipe
    for part in problem["loc"][:-1]:
        section = getattr(section, "model_fields", {}).get(part)
        section = section and section.annotation
    if problem["type"] != "extra_forbidden":
        found = "" if _may_hold_a_key(problem) else f" (found {problem['input']!r})"
        return f"{key}: {problem['msg']}{found}"
    if not isinstance(section, type) or not issubclass(section, Settings):  # within a list
        return f"{key}: unknown key"
    near = difflib.get_close_matches(str(problem["loc"][-1]), section.model_fields, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(section.model_fields)}"
    return f"{key}: unknown key{hint}"


def _may_hold_a_key(problem: Any) -> bool:
    """Whether what was found may hold a server's key or password, which no message repeats."""
    found, path = problem["input"], problem["loc"]
    return isinstance(found, dict) or not {"url", "extra_fields"}.isdisjoint(path) or path[-1] == "server"


def explain(section: type[Settings], prefix: str = "") -> str:
    """Every setting of a section with its default and meaning, one a line."""
    lines = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            lines.append(explain(kind, f"{prefix}{name}."))
        else:
            meaning = " ".join((field.description or "").split())
            lines.append(f"--{prefix}{name} {_as_yaml(field.default)}".ljust(48) + f" {meaning}".rstrip())
    return "\n".join(lines)


def _as_yaml(default: Any) -> str:
    """A default as it can be given on the command line."""
    value = getattr(default, "value", default)
    return value if isinstance(value, str) and value else json.dumps(value)
