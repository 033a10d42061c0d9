"""The command line: ``satori run RECIPE`` for everything, one subcommand a stage, ``satori recipes``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_EPILOG = """\
Settings are changed by their dotted key: --rl.reflection_bonus 0, --seed 1, --variant cot.
`satori recipes NAME` prints a recipe with every setting; docs for each: `satori recipes --explain`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0 done, 2 bad input, 130 interrupted."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    # Imported here so that --help answers at once.
    from satori.recipe import RecipeError
    from satori.run_folder import ArtifactError

    try:
        return int(options.handler(options, read_overrides(rest)))
    except (RecipeError, ArtifactError, UsageError) as error:
        print(f"satori: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsatori: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


class UsageError(ValueError):
    """The command line cannot be read."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="satori",
        description="Teach a language model to search by itself: Chain of Action Thought, from demonstrations to PPO.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    everything = _stage_parser(commands, "run", "every stage in order, from nothing to a report", None)
    everything.add_argument("recipe", help="a shipped recipe's name, or a YAML file")
    for command, text in _STAGE_HELP.items():
        stage = _stage_parser(commands, command, text, command)
        stage.add_argument("recipe", nargs="?", help="default: the recipe the run folder was made with, else tiny")
        if command == "rl":
            stage.add_argument("--round", type=int, choices=(1, 2), default=1, help="default: 1")
    recipes = commands.add_parser("recipes", help="list the recipes; print one; explain every setting")
    recipes.add_argument("name", nargs="?", help="print this recipe with every setting")
    recipes.add_argument("--explain", action="store_true", help="what every setting means, with its default")
    recipes.set_defaults(handler=show_recipes)
    return parser


_STAGE_HELP = {
    "pretrain": "the base model: shipped weights, or --pretrain.from_scratch true",
    "synthesize": "COAT demonstrations from generator, critic and reward model",
    "tune": "format tuning: supervised fine-tuning on the demonstrations",
    "reward-model": "preference pairs from the tuned model, and the outcome reward model",
    "restarts": "the restart buffers of Algorithm 1",
    "rl": "PPO with restart and explore; --round 2 for the second round",
    "distill": "the policy's hardest correct trajectories back into the base model",
    "evaluate": "every model on held-out and out-of-domain problems",
    "report": "summary.json, report.md and report.html",
}


def _stage_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, command: str | None
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the run folder (default: runs/RECIPE)")
    parser.add_argument(
        "--redo", action="append", default=[], metavar="STAGE", help="make this artifact and what follows from it again"
    )
    parser.set_defaults(handler=run_stages, command=command)
    return parser


def read_overrides(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """``--key value`` and ``--key=value`` pairs. Raises UsageError for anything else."""
    pairs, rest = [], list(arguments)
    while rest:
        key = rest.pop(0)
        if not key.startswith("--") or key == "--":
            raise UsageError(f"unexpected argument {key!r}; settings are given as --section.key value")
        if "=" in key:
            key, _, value = key.partition("=")
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"{key} has no value")
        pairs.append((key.removeprefix("--"), value))
    return pairs


def run_stages(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from satori.pipeline import STAGES, run
    from satori.progress import Display
    from satori.recipe import load_recipe

    out = options.out or Path("runs") / Path(options.recipe or "tiny").stem
    source = options.recipe or (str(out / "recipe.yaml") if (out / "recipe.yaml").exists() else "tiny")
    recipe = load_recipe(source, overrides)
    chosen = [stage for stage in STAGES if options.command in (None, stage.command)]
    if options.command == "rl":
        chosen = [chosen[options.round - 1]]
    with Display() as display:
        run(recipe, out, chosen, options.redo, display)
    return 0


def show_recipes(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from satori.recipe import Recipe, dump_recipe, explain, load_recipe, recipe_files

    if options.explain:
        print(explain(Recipe))
    elif options.name:
        print(dump_recipe(load_recipe(options.name, overrides)), end="")
    else:
        for name in recipe_files():
            print(f"{name:<24} {load_recipe(name).description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
