"""``satori report``: summary.json, report.md and report.html from a finished run's artifacts."""

import json
from itertools import groupby
from pathlib import Path

from satori.coat import searches
from satori.evaluation.analyses import by_level, mean_plain_length, summarize
from satori.evaluation.records import EvaluatedResponse
from satori.evaluation.runner import read_responses
from satori.evaluation.stage import HARDER_SET, MAIN_SET, MODELS
from satori.recipe import dump_recipe
from satori.report.data import ReportData, SampleTrajectory
from satori.report.document import build_report
from satori.run_folder import MANIFEST, read_jsonl, write_text
from satori.stage import StageContext


def run_stage(context: StageContext) -> str:
    data = load_report_data(context)
    html, markdown = build_report(data)
    root = context.run.root
    for folder in (context.folder, root):
        write_text(folder / "report.html", html)
        write_text(folder / "report.md", markdown)
        write_text(folder / "summary.json", json.dumps(data.summary, indent=2) + "\n")
    return str(root / "report.html")


def load_report_data(context: StageContext) -> ReportData:
    recipe = context.recipe
    responses = {name: read_responses(context.artifact("evaluation") / f"{name}.jsonl") for name in MODELS}
    [counts] = read_jsonl(context.artifact("synthesis") / "counts.jsonl")
    main = [r for r in responses["base"] if r.set_name == MAIN_SET]
    return ReportData(
        title=f"Satori: {context.run.root.name}",
        recipe_yaml=dump_recipe(recipe),
        variant=recipe.variant.value,
        summary={
            "wall_seconds": round(sum(stage_seconds(context.run.root).values()), 1),
            "stages": {name: summarize(group, MAIN_SET) for name, group in responses.items()},
            "synthesis": counts["kinds"],
            "rm_at_8": json.loads((context.artifact("reward_model") / "rm_at_k.json").read_text()),
        },
        set_descriptions={
            MAIN_SET: "held-out problems" + ("" if recipe.problems.sources else " of the five trained levels"),
            HARDER_SET: "more operands than any trained level",
            recipe.evaluate.other_task: "a reasoning-gym task of a kind never trained on",
        },
        plain_length_by_level=dict(by_level(main, mean_plain_length)),  # type: ignore[arg-type]
        rl_metrics={name: list(read_jsonl(context.artifact(name) / "metrics.jsonl")) for name in ("rl_1", "rl_2")},
        synthesis_dropped=counts["dropped"],
        trajectories=choose_trajectories(responses),
        rm_samples=recipe.reward_model.samples,
    )


def stage_seconds(root: Path) -> dict[str, float]:
    """How long each finished stage of a run folder took."""
    manifests = [json.loads(path.read_text()) for path in sorted(root.glob(f"*/{MANIFEST}"))]
    return {manifest["stage"]: manifest["seconds"] for manifest in manifests}


def choose_trajectories(responses: dict[str, list[EvaluatedResponse]], each: int = 3) -> list[SampleTrajectory]:
    """A dozen responses to read: of every model the first of each level that reflect, then the first of any."""
    chosen = []
    for model, group in responses.items():
        main = [r for r in group if r.set_name == MAIN_SET]
        ranked = sorted(main, key=lambda r: (not searches(r.response), -r.level))
        hardest_first = [next(members) for _, members in groupby(ranked, key=lambda r: (searches(r.response), r.level))]
        chosen += [sample(model, r) for r in hardest_first[:each]]
    return chosen


def sample(model: str, response: EvaluatedResponse) -> SampleTrajectory:
    return SampleTrajectory(
        stage=model,
        set_name=response.set_name,
        level=response.level,
        question=response.question,
        gold=response.gold,
        response=response.response,
        correct=response.correct,
        answers=response.answers,
    )
