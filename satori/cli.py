"""The command line: ``satori run RECIPE`` for everything, one subcommand a stage, ``satori recipes``."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from satori.config import Settings

S = TypeVar("S", bound="Settings")
_ENGINES = ("torch", "vllm")
_EPILOG = """\
Settings are changed by their dotted key: --rl.reflection_bonus 0, --seed 1, --tracking.kinds tensorboard.
`satori recipes NAME` prints a recipe with every setting; docs for each: `satori recipes --explain`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    # Imported here so that --help answers at once.
    from satori.benchmarks.rows import BenchmarkError
    from satori.coat import TokenizerError
    from satori.engines.base import EngineError
    from satori.engines.server_errors import ServerError
    from satori.ranks import ElsewhereError, RankError
    from satori.recipe import RecipeError
    from satori.run_folder import ArtifactError
    from satori.synthesis.llm.templates import TemplateError
    from satori.tracking import TrackingError

    try:
        return int(options.handler(options, read_overrides(rest)))
    except (
        ArtifactError,
        BenchmarkError,
        EngineError,
        RankError,
        RecipeError,
        ServerError,
        TemplateError,
        TokenizerError,
        TrackingError,
        UsageError,
    ) as error:
        print(f"satori: {error}", file=sys.stderr)
        return 2
    except ElsewhereError:
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"satori: {error}. Make room on the disk; the same command goes on from here", file=sys.stderr)
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
        stage.add_argument("--recipe", help="default: the recipe the run folder was made with, else tiny")
        if command == "rl":
            stage.add_argument("--round", type=int, choices=(1, 2), default=1, help="default: 1")
        if command == "evaluate":
            _add_model_options(stage)
    _add_evaluation_commands(commands)
    talk = commands.add_parser("chat", help="ask a model; its reflect and explore steps are coloured as they come")
    talk.add_argument("--model", required=True, help="a checkpoint folder or a hub id")
    talk.add_argument("--engine", choices=_ENGINES, help="what runs the model here: torch (default), or vllm")
    _add_server_options(talk)
    talk.add_argument("--temperature", type=float, help="default: 0, greedy")
    talk.add_argument("--max-new-tokens", type=int, help="default: 1024")
    talk.add_argument("--seed", type=int, help="of sampled answers (default: 0)")
    talk.add_argument("--show-tokens", action="store_const", const=True, help="each token by itself, with its id")
    talk.add_argument("--trust-remote-code", action="store_const", const=True, help="run code that the model brings")
    talk.add_argument_group("vLLM", "its settings, such as --vllm.max_model_len 4096 (satori recipes --explain)")
    talk.set_defaults(handler=chat_with_model)
    planned = commands.add_parser(
        "plan",
        help="what a recipe needs on so many GPUs: memory and time, with the arithmetic",
        description="Estimates memory and time of a recipe on so many GPUs, and shows the arithmetic. Runs nothing. "
        "The assumptions are printed, and each is an option (--mfu 0.3, --mean-response 1200).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    planned.add_argument("recipe", help="a shipped recipe's name, or a YAML file")
    for name, kind, text in _PLAN_OPTIONS:
        planned.add_argument(name, type=kind, metavar="N", help=text)
    planned.set_defaults(handler=plan_run)
    recipes = commands.add_parser("recipes", help="list the recipes; print one; explain every setting")
    recipes.add_argument("name", nargs="?", help="print this recipe with every setting")
    recipes.add_argument("--explain", action="store_true", help="what every setting means, with its default")
    recipes.set_defaults(handler=show_recipes)
    return parser


_PLAN_OPTIONS = (
    ("--gpus", int, "default: 8"),
    ("--gpu-memory", float, "GB of one (default: 80)"),
    ("--peak-tflops", float, "dense bfloat16 peak of one (default: 989, H100 SXM)"),
    ("--peak-tflops-float32", float, "its float32 peak (default: 67, H100 SXM)"),
    ("--mfu", float, "share of the peak that training reaches (default: 0.35)"),
    ("--bandwidth", float, "memory bandwidth of one, GB/s (default: 3350, H100 SXM)"),
    ("--bandwidth-share", float, "share of it that generation reaches (default: 0.5)"),
    ("--engine-extra", float, "GB that vLLM needs beside weights and cache (default: 3)"),
    ("--mean-prompt", float, "tokens of a prompt with its restart prefix (default: 300)"),
    ("--mean-response", float, "tokens of a response (default: 900)"),
)
_STAGE_HELP = {
    "pretrain": "the base model: shipped weights, or --pretrain.from_scratch true",
    "synthesize": "COAT demonstrations from generator, critic and reward model",
    "tune": "format tuning: supervised fine-tuning on the demonstrations",
    "reward-model": "preference pairs from the tuned model, and the outcome reward model",
    "restarts": "the restart buffers of Algorithm 1",
    "rl": "PPO with restart and explore; --round 2 for the second round",
    "distill": "the policy's hardest correct trajectories back into the base model",
    "evaluate": "every model on held-out and out-of-domain problems; with --model, any model on any benchmarks",
    "report": "summary.json, report.md and report.html",
}


def _stage_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, command: str | None
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the run folder (default: runs/RECIPE, or runs/RECIPE-smoke)")
    parser.add_argument(
        "--redo", action="append", default=[], metavar="STAGE", help="make this artifact and what follows from it again"
    )
    parser.add_argument("--engine", choices=_ENGINES, help="what samples from the models (--engine.kind; else torch)")
    parser.add_argument("--smoke", action="store_true", help="the recipe's small sizes: every stage, in minutes")
    parser.set_defaults(handler=run_stages, command=command)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "any model on any benchmarks (greedy, one sample, as in the paper)",
        "With --engine vllm, its settings too, such as --vllm.max_model_len 4096.",
    )
    group.add_argument("--model", help="a checkpoint folder or a hub id; --out defaults to evaluations/NAME")
    _add_server_options(group)
    group.add_argument(
        "--benchmarks",
        nargs="+",
        metavar="NAME",
        help="all (default), maths, ood, gsm8k, math500, ..., tiny, reasoning-gym:NAME[,size=N,seed=S]",
    )
    group.add_argument("--data", metavar="DIR", help="benchmark files in their authors' formats (default: the hub)")
    group.add_argument("--samples", type=int, metavar="K", help="responses a problem: pass@k, majority@k (default: 1)")
    group.add_argument("--temperature", type=float, help="default: 0, greedy")
    group.add_argument("--max-new-tokens", type=int, help="default: 2048")
    group.add_argument("--limit", type=int, metavar="N", help="only the first N problems of each benchmark")
    group.add_argument("--reward-model", metavar="NAME", help="checkpoint folder or hub id; scores for best-of-k")
    group.add_argument("--seed", type=int, help="of sampled responses (default: 0)")
    group.add_argument("--rows", type=int, help="sequences generated at a time (default: 64)")
    group.add_argument(
        "--trust-remote-code", action="store_const", const=True, help="run code that comes with the model"
    )


def _add_server_options(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--server", metavar="URL", help="an OpenAI-compatible server that runs it; --model is its name there"
    )
    group.add_argument("--api", help="how to ask the server: completion-ids (default), completion-text, chat")
    group.add_argument("--tokenizer", metavar="DIR", help="of a model on a server, where --model is not its hub id")
    group.add_argument("--key-variable", metavar="NAME", help="environment variable with the server's key")
    group.add_argument("--concurrency", type=int, metavar="N", help="requests in flight at a time (default: 256)")


def _add_evaluation_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    regrade = commands.add_parser("regrade", help="grade an evaluation's saved responses again, without the model")
    regrade.add_argument("folder", type=Path, help="an evaluation folder")
    regrade.set_defaults(handler=regrade_responses)
    compare = commands.add_parser("compare", help="the paper's tables with rows of your runs, and paired tests")
    compare.add_argument("folders", type=Path, nargs="+", help="evaluation folders, or run folders")
    compare.add_argument("--save", type=Path, metavar="NAME", help="also write NAME.md and NAME.html")
    compare.set_defaults(handler=compare_runs)
    gold = commands.add_parser("gold-check", help="does the grader take the benchmarks' own answers for right?")
    gold.add_argument("--benchmarks", nargs="+", metavar="NAME", default=["all"], help="default: all that are there")
    gold.add_argument("--data", type=Path, metavar="DIR", help="benchmark files (default: the hub)")
    gold.add_argument("--save", type=Path, metavar="FILE", help="also write the table as Markdown")
    gold.set_defaults(handler=check_gold)


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


_MODEL_OPTIONS = (
    "engine",
    "server",
    "api",
    "tokenizer",
    "key_variable",
    "concurrency",
    "benchmarks",
    "data",
    "samples",
    "temperature",
    "max_new_tokens",
    "limit",
    "reward_model",
    "seed",
    "rows",
)


def evaluate_any_model(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from rich.console import Console

    from satori.evaluation.command import Evaluation, evaluate_model

    if options.recipe or options.redo:
        raise UsageError("--model evaluates one model by itself; a recipe or --redo does not go with it")
    asked = _from_options(Evaluation, options, ("model", *_MODEL_OPTIONS, "trust_remote_code"), overrides)
    evaluate_model(asked, options.out or Path("evaluations") / Path(options.model).name, Console(stderr=True))
    return 0


def chat_with_model(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from rich.console import Console

    from satori.chat import ChatSettings, chat, read_questions

    console = Console()
    names = (
        *("model", "engine", "server", "api", "tokenizer", "key_variable", "concurrency", "trust_remote_code"),
        *("temperature", "max_new_tokens", "seed", "show_tokens"),
    )
    chat(_from_options(ChatSettings, options, names, overrides), console, read_questions(console))
    return 0


def regrade_responses(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from rich.console import Console

    from satori.evaluation.command import regrade_folder

    _refuse_overrides(overrides)
    regrade_folder(options.folder, Console())
    return 0


def compare_runs(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from rich.console import Console

    from satori.evaluation.command import compare_folders

    _refuse_overrides(overrides)
    _refuse_unwritable(options.save)
    compare_folders(options.folders, options.save, Console())
    return 0


def check_gold(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from rich.console import Console

    from satori.evaluation.command import check_gold_answers

    _refuse_overrides(overrides)
    _refuse_unwritable(options.save)
    return 0 if check_gold_answers(options.benchmarks, options.data, options.save, Console()) else 1


def _from_options(
    settings: "type[S]",
    options: argparse.Namespace,
    names: Sequence[str],
    overrides: Sequence[tuple[str, str]] = (),
) -> "S":
    """Settings from the options that are given, those of vLLM as ``--vllm.name value``. Raises UsageError naming the
    first that does not fit."""
    from pydantic import ValidationError

    given = {name: getattr(options, name) for name in names}
    of_vllm = {key.removeprefix("vllm."): value for key, value in overrides if key.startswith("vllm.")}
    _refuse_overrides([pair for pair in overrides if not pair[0].startswith("vllm.")])
    if of_vllm:
        given["vllm"] = of_vllm
    try:
        return settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        [first, *_] = error.errors()
        if not first["loc"]:  # about several options
            raise UsageError(first["msg"].removeprefix("Value error, ")) from error
        option = ".".join(str(part) for part in first["loc"])
        option = option if "." in option else option.replace("_", "-")
        raise UsageError(f"--{option}: {first['msg']} (found {first['input']!r})") from error


def _refuse_overrides(overrides: Sequence[tuple[str, str]]) -> None:
    if overrides:
        raise UsageError(f"unknown option --{overrides[0][0]}")


def _refuse_unwritable(save: Path | None) -> None:
    if save and (save.is_dir() or not save.parent.is_dir()):
        raise UsageError(f"--save {save}: expected a file's name in a folder that exists")


def run_stages(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    if options.command == "evaluate":
        if options.model:
            return evaluate_any_model(options, overrides)
        own = {"seed", "engine"}  # of a run folder's stages too
        if given := [name for name in _MODEL_OPTIONS if getattr(options, name) is not None and name not in own]:
            raise UsageError(f"--{given[0].replace('_', '-')} needs --model")
        if options.seed is not None:
            overrides = [*overrides, ("seed", str(options.seed))]
    from satori.pipeline import STAGES, run
    from satori.progress import Display
    from satori.recipe import load_recipe

    small = "-smoke" if options.smoke else ""
    out = options.out or Path("runs") / (Path(options.recipe or "tiny").stem + small)
    source = options.recipe or (str(out / "recipe.yaml") if (out / "recipe.yaml").exists() else "tiny")
    if options.engine:
        overrides = [*overrides, ("engine.kind", options.engine)]
    recipe = load_recipe(source, overrides, options.smoke and source != str(out / "recipe.yaml"))
    chosen = [stage for stage in STAGES if options.command in (None, stage.command)]
    if options.command == "rl":
        chosen = [chosen[options.round - 1]]
    with Display(quiet=int(os.environ.get("RANK", "0")) > 0) as display:
        run(recipe, out, chosen, options.redo, display)
    return 0


def plan_run(options: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    from satori.planning.command import plan
    from satori.planning.figures import PlanSettings
    from satori.recipe import load_recipe

    machine = _from_options(PlanSettings, options, tuple(PlanSettings.model_fields))
    for line in plan(load_recipe(options.recipe, overrides), machine):
        print(line)
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
