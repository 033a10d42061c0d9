"""``satori evaluate --model``, ``regrade``, ``compare`` and ``gold-check``: any model on any benchmarks.

An evaluation folder holds ``evaluation.json`` (what was asked), ``responses.jsonl`` (every response, graded),
``analysis.json`` (every analysis, by benchmark) and the same for reading in ``results.md`` and ``results.html``. The
model's prompts are those of training (paper section 1), one template for all benchmarks; greedy and one sample unless
asked otherwise (paper D.4).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import Field
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.benchmarks.base import Loaded, ProblemSet
from satori.benchmarks.gold_check import GoldCheck, check_gold
from satori.benchmarks.registry import GROUPS, parse_benchmarks
from satori.benchmarks.rows import BenchmarkError, MissingFileError
from satori.coat import TokenizerError, encode_prompt, meta_action_ids
from satori.engines.any_model import AnyModel, OpenModel, open_model
from satori.engines.base import Sampling
from satori.evaluation.analyses import analyse
from satori.evaluation.compare import Run, compare
from satori.evaluation.records import EvaluatedResponse, by_problem, to_row
from satori.evaluation.runner import read_responses, regrade, respond
from satori.grading import grade_all
from satori.models import TorchType, load_any_reward_model
from satori.progress import Display
from satori.report.analysis import analysis_document
from satori.report.comparison import comparison_document
from satori.report.gold import gold_document
from satori.report.html_page import render_html
from satori.report.markdown_page import render_markdown
from satori.report.terminal import render_terminal
from satori.run_folder import ArtifactError, RunFolder, differences, read_record, write_jsonl, write_text
from satori.scoring import reward_logits
from satori.types import Problem

RESPONSES = "responses.jsonl"
ASKED = "evaluation.json"


class Evaluation(AnyModel):
    """What is asked of ``satori evaluate --model``."""

    benchmarks: tuple[str, ...] = ("all",)
    data: str | None = None
    """A folder of benchmark files; without one they come from the hub."""
    samples: int = Field(default=1, gt=0)
    temperature: float = Field(default=0.0, ge=0.0)
    max_new_tokens: int = Field(default=2048, gt=0)
    limit: int | None = Field(default=None, gt=0)
    """Only the first so many problems of each benchmark."""
    reward_model: str | None = None
    """A checkpoint folder or hub id; scores every response, for best-of-k."""
    seed: int = Field(default=0, ge=0)


def evaluate_model(asked: Evaluation, out: Path, console: Console) -> None:
    """Evaluate a model and write the evaluation folder; a folder of the same evaluation is completed.

    What is asked is written down when nothing of it can be mistaken any more. Raises ArtifactError for a folder of
    another evaluation, BenchmarkError for benchmarks that cannot be loaded.
    """
    with RunFolder(out).held():
        _refuse_another(asked, out)
        sets = [(one, one.load(Path(asked.data) if asked.data else None)) for one in parse_benchmarks(asked.benchmarks)]
        for one, loaded in sets:
            for complaint in loaded.complaints:
                console.print(f"{one.name}: {complaint}", markup=False)
        problems = [(one.name, problem) for one, loaded in sets for problem in loaded.problems[: asked.limit]]
        if asked.reward_model:
            load_judge(asked.reward_model, on=torch.device("meta"))  # now rather than after hours
        with open_model(asked) as opened:
            write_text(out / ASKED, json.dumps(asked.model_dump(mode="json"), indent=2) + "\n")
            _note_split_actions(asked.model, opened.tokenizer, console)
            responses = _respond(asked, opened, problems, out, console)
        del opened  # closed, and its model let go: a GPU may not hold a reward model beside it
        responses = [replace(r, score=None) for r in responses]  # a score may be another reward model's
        write_jsonl(out / RESPONSES, map(to_row, responses))
        if asked.reward_model:
            console.print(f"scoring with {asked.reward_model}", markup=False, highlight=False)
            responses = score(responses, asked.reward_model, asked.dtype)
            write_jsonl(out / RESPONSES, map(to_row, responses))
        write_results(responses, out, console)


def _respond(
    asked: Evaluation, opened: OpenModel, problems: Sequence[tuple[str, Problem]], out: Path, console: Console
) -> list[EvaluatedResponse]:
    """The responses to all problems."""
    sampling = Sampling(
        temperature=asked.temperature, max_new_tokens=asked.max_new_tokens, context_length=opened.context_length
    )
    with Display(console) as display:
        task = display.task("evaluate")
        task.start(len(problems) * asked.samples)
        responses = respond(
            opened.engine,
            opened.tokenizer,
            problems,
            asked.samples,
            sampling,
            asked.seed,
            out / RESPONSES,
            task.advance,
        )
        task.finish(f"{len(responses)} responses")
    return responses


def _note_split_actions(model: str, tokenizer: PreTrainedTokenizerBase, console: Console) -> None:
    """Say so where a model cannot have been trained on meta-actions: it may be an ordinary one, or the wrong folder."""
    try:
        meta_action_ids(tokenizer)
    except TokenizerError as error:
        console.print(f"note: {model} is evaluated as an ordinary model: {error}", markup=False, highlight=False)


def _refuse_another(asked: Evaluation, out: Path) -> None:
    """Refuse a folder of responses to something else; they do not depend on the reward model."""
    path = out / ASKED
    if not path.exists() or not (out / RESPONSES).exists():
        return
    wanted = asked.model_dump(mode="json")
    found = read_record(path.read_bytes(), str(path)) | {"reward_model": wanted["reward_model"]}
    if lines := differences(found, wanted):
        raise ArtifactError(f"{out} holds another evaluation ({'; '.join(lines)}); use another --out")


def load_judge(
    name: str, dtype: TorchType = "auto", on: torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, int]:
    """A reward model, its tokenizer and its end token; on the device ``meta`` only to see that all is there. Raises
    ArtifactError where ``name`` is no reward model, or its tokenizer has no end token."""
    model, tokenizer = load_any_reward_model(name, dtype, on)
    if not isinstance(tokenizer.eos_token_id, int):
        raise ArtifactError(f"{name}: its tokenizer names no end token: set eos_token in its tokenizer_config.json")
    return model, tokenizer, tokenizer.eos_token_id


def score(responses: Sequence[EvaluatedResponse], name: str, dtype: TorchType = "auto") -> list[EvaluatedResponse]:
    """The responses with the logits of a reward model, which reads their text in its own tokens. See
    :func:`load_judge`."""
    model, tokenizer, end_token = load_judge(name, dtype)
    end = [end_token]
    sequences = [
        (
            encode_prompt(tokenizer, r.question),
            tokenizer.encode(r.response, add_special_tokens=False) + (end if r.finished else []) or end,
        )
        for r in responses
    ]
    logits = reward_logits(model, sequences)
    return [replace(r, score=logit) for r, logit in zip(responses, logits, strict=True)]


def write_results(responses: Sequence[EvaluatedResponse], out: Path, console: Console) -> None:
    """Analyses and tables of an evaluation's responses, into its folder and onto the terminal."""
    sets = by_set(responses)
    results = {name: analyse(group) for name, group in sets.items()}
    write_text(out / "analysis.json", json.dumps(results, indent=2) + "\n")
    document = analysis_document(f"Satori: {out.name}", results)
    write_text(out / "results.html", render_html(document))
    write_text(out / "results.md", render_markdown(document))
    console.print(render_terminal(document))
    console.print(render_terminal(comparison_document(compare([Run(out.name, sets)]), "Beside the paper")))


def regrade_folder(out: Path, console: Console) -> None:
    """Grade an evaluation's saved responses again, and write its results anew; no model is needed.

    Raises ArtifactError, with nothing written, where the responses are missing or broken, or one occurs twice.
    """
    path = out / RESPONSES
    if not path.exists():
        raise ArtifactError(f"{path} does not exist: nothing was evaluated there")
    with RunFolder(out).held():
        before = read_responses(path)
        try:
            by_problem(before)
        except ValueError as error:
            raise ArtifactError(f"{path}: {error}") from error
        after = regrade(before)
        changed = [
            (old, new)
            for old, new in zip(before, after, strict=True)
            if (old.status, old.answers) != (new.status, new.answers)
        ]
        write_jsonl(path, map(to_row, after))
        write_results(after, out, console)
    console.print(f"{len(changed)} of {len(after)} responses are graded differently now")
    for old, new in changed[:20]:
        line = f"{new.set_name} {new.problem_id} sample {new.sample}: {old.status} -> {new.status}"
        console.print(line, markup=False, highlight=False)


def compare_folders(folders: Sequence[Path], out: Path | None, console: Console) -> None:
    """The paper's tables with a row for every folder, and paired tests between them.

    Both ``out``.md and ``out``.html are written, whether ``out`` ends in one of them or in neither.
    """
    runs = [run for folder in folders for run in read_runs(folder)]
    try:
        document = comparison_document(compare(runs))
    except ValueError as error:
        raise ArtifactError(f"cannot compare these folders: {error}") from error
    if out:
        name = out.stem if out.suffix in (".md", ".html") else out.name
        write_text(out.with_name(f"{name}.html"), render_html(document))
        write_text(out.with_name(f"{name}.md"), render_markdown(document))
    console.print(render_terminal(document))


def read_runs(folder: Path) -> list[Run]:
    """The run of an evaluation folder, or one for every model of a pipeline's run folder."""
    if (folder / RESPONSES).exists():
        return [Run(folder.name, by_set(read_responses(folder / RESPONSES)))]
    files = sorted((folder / "evaluation").glob("*.jsonl"))
    if not files:
        raise ArtifactError(f"{folder} holds neither {RESPONSES} nor evaluation/*.jsonl: nothing was evaluated there")
    return [Run(f"{folder.name}/{path.stem}", by_set(read_responses(path))) for path in files]


def by_set(responses: Sequence[EvaluatedResponse]) -> Mapping[str, list[EvaluatedResponse]]:
    sets: dict[str, list[EvaluatedResponse]] = {}
    for response in responses:
        sets.setdefault(response.set_name, []).append(response)
    return sets


def check_gold_answers(words: Sequence[str], data: Path | None, out: Path | None, console: Console) -> bool:
    """Grade every benchmark's own gold answers, and others' in their place. True where all rates are reached.

    A benchmark of a group (``all``) that the folder has no file for is said to be left out; one asked for by name must
    be there.
    """
    named = [word for text in words for word in text.split(",") if word not in GROUPS]
    sets: list[tuple[ProblemSet, Loaded]] = []
    missing: list[str] = []
    for one in parse_benchmarks(words):
        try:
            sets.append((one, one.load(data)))
        except MissingFileError:
            if one.name in named:
                raise
            missing.append(one.name)
    if not sets:
        raise BenchmarkError(f"{data} holds none of the benchmarks asked for")
    check: GoldCheck = check_gold(sets, grade_all)
    document = gold_document(check, missing)
    if out:
        write_text(out, render_markdown(document))
    console.print(render_terminal(document))
    return check.passed
