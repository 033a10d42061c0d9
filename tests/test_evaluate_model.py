"""``satori evaluate --model`` and what reads its folders: resuming, regrading, comparing, the gold check."""

import asyncio
import json
import shutil
import weakref
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, PreTrainedTokenizerFast

from satori.cli import main
from satori.coat import encode_prompt
from satori.engines import any_model
from satori.engines.any_model import AnyModel, open_model
from satori.engines.base import EngineError, Sampling
from satori.engines.server_errors import ServerError
from satori.engines.torch_engine import TorchEngine
from satori.engines.vllm_engine import VllmSettings
from satori.evaluation import command
from satori.evaluation.analyses import analyse
from satori.evaluation.records import to_row
from satori.evaluation.runner import read_responses, regrade, respond
from satori.grading import Status
from satori.models import save
from satori.problems.arithmetic import Split, problem_stream
from satori.recipe import Recipe
from satori.report.analysis import analysis_document
from satori.report.markdown_page import render_markdown
from satori.run_folder import ArtifactError, write_jsonl
from satori.synthesis import opening
from satori.types import FinishReason

PROBLEMS = [("test", problem) for problem in islice(problem_stream(Split.VALIDATION, 0), 12)]


class Interrupted:
    """An engine that is stopped after a number of completions."""

    def __init__(self, engine, after):
        self.engine, self.after = engine, after

    def generate(self, prompts, sampling, seed, first=0):
        for number, found in enumerate(self.engine.generate(prompts, sampling, seed)):
            if number == self.after:
                raise KeyboardInterrupt
            yield found


@pytest.fixture
def engine(model, tokenizer):
    return TorchEngine(model, tokenizer.eos_token_id, rows=4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_interrupted_twice_and_resumed_equals_the_uninterrupted_run(engine, tokenizer, tmp_path, temperature):
    sampling = Sampling(temperature=temperature, max_new_tokens=12)

    def run(path, engine):
        return respond(engine, tokenizer, PROBLEMS, 2, sampling, 7, path)

    whole = run(tmp_path / "whole.jsonl", engine)
    path = tmp_path / "parts.jsonl"
    for after in (5, 9):
        with pytest.raises(KeyboardInterrupt):
            run(path, Interrupted(engine, after))
    saved = read_responses(path)
    assert 9 <= len(saved) < 24
    with path.open("a") as file:
        file.write('{"problem_id": "half a line')  # what kill -9 leaves
    assert run(path, engine) == whole
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_is_saved_is_not_generated_again(engine, tokenizer, tmp_path):
    path, sampling = tmp_path / "r.jsonl", Sampling(temperature=0, max_new_tokens=8)
    respond(engine, tokenizer, PROBLEMS[:5], 1, sampling, 0, path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    asked = []

    class Counting:
        def generate(self, prompts, sampling, seed, first=0):
            asked.extend(prompts)
            return engine.generate(prompts, sampling, seed)

    told = []
    respond(Counting(), tokenizer, PROBLEMS[:5], 1, sampling, 0, path, on_done=told.append)
    assert len(asked) == 2
    assert told == [3, 1, 1]


def test_a_prompt_without_room_for_a_response_is_kept_as_an_empty_one(engine, tokenizer, tmp_path):
    sampling = Sampling(temperature=0, max_new_tokens=8, context_length=300)
    long = replace(PROBLEMS[0][1], id="long", question="1+" * 200)
    found = respond(engine, tokenizer, [PROBLEMS[0], ("test", long)], 1, sampling, 0, tmp_path / "r.jsonl")
    assert [(r.problem_id, r.finished, r.tokens) for r in found][1] == ("long", False, 0)
    assert found[1].status is Status.NO_ANSWER
    results = analyse(found)
    assert (results["unanswered"], results["responses"]) == (1, 2)
    said = render_markdown(analysis_document("t", {"test": results}))
    assert "test: 1 of 2 prompts leave no room for a response" in said
    assert "no room" not in render_markdown(analysis_document("t", {"test": analyse(found[:1])}))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_response_has_the_room_that_its_prompt_leaves_and_is_the_same_up_to_there(
    engine, tokenizer, tmp_path, temperature
):
    wide = Sampling(temperature=temperature, max_new_tokens=30)
    prompts = [len(encode_prompt(tokenizer, problem.question)) for _, problem in PROBLEMS]
    narrow = wide.model_copy(update={"context_length": max(prompts) + 3})
    free = respond(engine, tokenizer, PROBLEMS, 1, wide, 7, tmp_path / "free.jsonl")
    found = respond(engine, tokenizer, PROBLEMS, 1, narrow, 7, tmp_path / "found.jsonl")
    assert len(set(prompts)) > 1
    for length, whole, cut in zip(prompts, free, found, strict=True):
        assert cut.tokens == min(whole.tokens, max(prompts) + 3 - length)
        assert whole.response.startswith(cut.response.removesuffix("\ufffd"))


def test_a_file_of_other_problems_is_refused(engine, tokenizer, tmp_path):
    path, sampling = tmp_path / "r.jsonl", Sampling(temperature=0, max_new_tokens=4)
    respond(engine, tokenizer, PROBLEMS[:3], 1, sampling, 0, path)
    with pytest.raises(ArtifactError, match="not asked for"):
        respond(engine, tokenizer, PROBLEMS[:2], 1, sampling, 0, path)


def test_a_broken_row_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"problem_id": "p"}\n')
    with pytest.raises(ArtifactError, match=r"r\.jsonl, line 1: missing key"):
        read_responses(path)


def test_an_end_token_of_its_own_ends_a_response_too(model, tokenizer):
    prompts, sampling = [[5, 6, 7]], Sampling(temperature=0, max_new_tokens=20)
    [(_, free)] = TorchEngine(model, tokenizer.eos_token_id).generate(prompts, sampling, 0)
    stop = free.token_ids[3]
    [(_, stopped)] = TorchEngine(model, tokenizer.eos_token_id, also_stop=[stop]).generate(prompts, sampling, 0)
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert stopped.finish_reason is FinishReason.STOP


@pytest.fixture(scope="module")
def checkpoint(embedded, tmp_path_factory):
    tokenizer, model = embedded
    path = tmp_path_factory.mktemp("models") / "random"
    save(model, tokenizer, path)
    return path


@pytest.fixture(scope="module")
def evaluated_folder(checkpoint, tmp_path_factory):
    """An evaluation of a random model by the command, and its arguments."""
    out = tmp_path_factory.mktemp("evaluations") / "random"
    arguments = [
        "evaluate",
        "--model",
        str(checkpoint),
        "--benchmarks",
        "tiny",
        "reasoning-gym:chain_sum,size=2,seed=1",
    ]
    arguments += ["--limit", "4", "--samples", "2", "--temperature", "1", "--max-new-tokens", "16", "--out", str(out)]
    assert main(arguments) == 0
    return out, arguments


def test_the_evaluation_folder_holds_everything(evaluated_folder):
    out, _ = evaluated_folder
    responses = read_responses(out / "responses.jsonl")
    names = ["tiny"] * 8 + ["reasoning-gym:chain_sum,size=2,seed=1"] * 4
    assert [r.set_name for r in responses] == names
    analysis = json.loads((out / "analysis.json").read_text())
    assert analysis["tiny"]["responses"] == 8
    assert analysis["tiny"]["sampling"]["samples"] == 2
    assert "<html" in (out / "results.html").read_text()
    assert "tiny" in (out / "results.md").read_text()
    assert json.loads((out / "evaluation.json").read_text())["samples"] == 2


def test_the_same_evaluation_again_changes_nothing_and_another_is_refused(evaluated_folder, capsys):
    out, arguments = evaluated_folder
    before = (out / "responses.jsonl").read_bytes()
    assert main(arguments) == 0
    assert (out / "responses.jsonl").read_bytes() == before
    assert main([*arguments, "--seed", "5"]) == 2
    assert "seed: 0 there, 5 asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--benchmarks", "gsm9k"], "did you mean gsm8k"),
        (["--model", "no-model"], "no-model is neither a checkpoint folder"),
        (["--reward-model", "no-judge"], "no-judge is neither a checkpoint folder"),
    ],
)
def test_a_command_that_was_wrong_does_not_stand_in_the_way_of_the_right_one(
    checkpoint, tmp_path, capsys, wrong, words
):
    out = tmp_path / "out"
    right = ["evaluate", "--model", str(checkpoint), "--benchmarks", "tiny", "--limit", "1", "--max-new-tokens", "2"]
    right += ["--out", str(out)]
    assert main([*right, *wrong]) == 2
    assert words in capsys.readouterr().err
    assert not (out / "responses.jsonl").exists()
    assert main(right) == 0


def test_a_context_smaller_than_the_limit_is_all_that_a_response_may_fill(checkpoint, tmp_path):
    out, longer = tmp_path / "out", ["--max-new-tokens", "5000"]
    right = ["evaluate", "--model", str(checkpoint), "--benchmarks", "tiny", "--limit", "1", "--out", str(out)]
    assert main([*right, *longer]) == 0
    [response] = read_responses(out / "responses.jsonl")
    assert 0 < response.tokens < 1024


def test_another_reward_model_scores_the_same_responses(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "load_judge", lambda name, on: None)
    monkeypatch.setattr(command, "score", lambda rs, name, dtype: [replace(r, score=float(name)) for r in rs])
    out = tmp_path / "out"
    arguments = ["evaluate", "--model", str(checkpoint), "--benchmarks", "tiny", "--limit", "1", "--out", str(out)]
    for chosen, score in ((["--reward-model", "1"], 1.0), (["--reward-model", "2"], 2.0), ([], None)):
        assert main([*arguments, "--max-new-tokens", "2", *chosen]) == 0
        [response] = read_responses(out / "responses.jsonl")
        assert response.score == score
        assert (response.response == "as it was left") == (score != 1.0)
        write_jsonl(out / "responses.jsonl", [to_row(replace(response, response="as it was left"))])


def test_regrading_sets_verdicts_right_without_the_model(evaluated_folder, tmp_path, capsys):
    out, _ = evaluated_folder
    folder = tmp_path / "copy"
    folder.mkdir()
    records = read_responses(out / "responses.jsonl")
    spoiled = [replace(records[0], status=Status.CORRECT, finished=True), *records[1:]]
    write_jsonl(folder / "responses.jsonl", map(to_row, spoiled))
    assert main(["regrade", str(folder)]) == 0
    assert "1 of 12 responses are graded differently now" in capsys.readouterr().out
    assert [r.status for r in read_responses(folder / "responses.jsonl")] == [r.status for r in records]


def test_regrading_where_nothing_was_evaluated_leaves_no_folder(tmp_path, capsys):
    assert main(["regrade", str(tmp_path / "typo")]) == 2
    assert "nothing was evaluated there" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_regrading_a_response_that_occurs_twice_is_refused_and_writes_nothing(evaluated_folder, tmp_path, capsys):
    [first, *_] = read_responses(evaluated_folder[0] / "responses.jsonl")
    spoiled = replace(first, answers=("spoiled",))
    write_jsonl(tmp_path / "responses.jsonl", map(to_row, [spoiled, spoiled]))
    assert main(["regrade", str(tmp_path)]) == 2
    assert f"responses.jsonl: {first.set_name}: two responses to problem" in capsys.readouterr().err
    assert read_responses(tmp_path / "responses.jsonl") == [spoiled, spoiled]


def test_regrading_graded_responses_changes_nothing(evaluated_folder):
    records = read_responses(evaluated_folder[0] / "responses.jsonl")
    assert regrade(records) == records


def test_comparing_folders(evaluated_folder, tmp_path, capsys):
    out, _ = evaluated_folder
    other = tmp_path / "other"
    other.mkdir()
    (other / "responses.jsonl").write_bytes((out / "responses.jsonl").read_bytes())
    assert main(["compare", str(out), str(other), "--save", str(tmp_path / "table")]) == 0
    assert "measured" in capsys.readouterr().out
    assert "Qwen2.5-Math-7B-Instruct" in (tmp_path / "table.md").read_text()
    assert "<html" in (tmp_path / "table.html").read_text()
    for share in ("0.5", "0.6"):
        assert main(["compare", str(out), "--save", str(tmp_path / f"cmp-{share}")]) == 0
    assert len(list(tmp_path.glob("cmp-0.[56].*"))) == 4
    assert main(["compare", str(out), "--save", str(tmp_path / "page.html")]) == 0
    assert {path.name for path in tmp_path.glob("page*")} == {"page.html", "page.md"}
    assert main(["compare", str(out), str(out)]) == 2
    assert "two runs are called 'random'" in capsys.readouterr().err
    assert main(["compare", str(tmp_path)]) == 2
    assert "nothing was evaluated there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "0"], "--samples"),
        (["--benchmarks", "gsm9k"], "did you mean gsm8k"),
        (["--data", "nowhere"], "nowhere is not a folder"),
        (["--rl.steps", "3"], "unknown option --rl.steps"),
        (["--vllm.max_model_len", "-3"], "--vllm.max_model_len: "),
        (["--vllm.max_len", "3"], "--vllm.max_len: "),
        (["--redo", "rl_1"], "--redo"),
        (["tiny"], "unexpected argument 'tiny'"),
        (
            ["--server", "nonsense", "--api", "chat", "--benchmarks", "tiny"],
            "url is no address such as http://localhost:8000/v1",
        ),
        (
            ["--server", "http://127.0.0.1:9", "--api", "chat", "--benchmarks", "tiny"],
            "no server answers at http://127.0.0.1:9/v1",
        ),
        (["--tokenizer", "somewhere"], "satori: a tokenizer of its own is for models on a server"),
        (["--key-variable", ""], "--key-variable: "),
    ],
)
def test_bad_options_are_named(checkpoint, tmp_path, capsys, arguments, words):
    assert main(["evaluate", "--model", str(checkpoint), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", [["compare", "anywhere"], ["gold-check"]])
@pytest.mark.parametrize("name", ["nodir/table.md", "."])
def test_a_table_that_cannot_be_saved_is_refused_before_anything_is_read(command, name, capsys):
    assert main([*command, "--save", name]) == 2
    assert f"--save {name}: expected a file's name in a folder that exists" in capsys.readouterr().err


def test_benchmarks_without_a_model_are_refused(tmp_path, capsys):
    assert main(["evaluate", "--out", str(tmp_path), "--benchmarks", "tiny"]) == 2
    assert "--benchmarks needs --model" in capsys.readouterr().err


def test_a_model_that_does_not_exist_is_named(tmp_path, capsys):
    arguments = [
        "evaluate",
        "--model",
        str(tmp_path / "no-model"),
        "--benchmarks",
        "tiny",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(arguments) == 2
    assert "no-model is neither a checkpoint folder nor a model" in capsys.readouterr().err


def test_a_broken_checkpoint_is_named(checkpoint, tmp_path, capsys):
    shutil.copytree(checkpoint, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"x" * 100)
    arguments = ["evaluate", "--model", str(tmp_path / "broken"), "--benchmarks", "tiny", "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    assert "broken is neither a checkpoint folder nor a model" in capsys.readouterr().err


def test_the_chat_api_asks_no_hub_for_the_name_of_a_servers_model(monkeypatch):
    monkeypatch.setattr(GenerationConfig, "from_pretrained", lambda name: pytest.fail(f"asked for {name}"))
    asked = AnyModel(model="gpt-4o-mini", server="http://127.0.0.1:9", api="chat")
    with pytest.raises(ServerError, match="no server answers"), open_model(asked):
        pass


def test_an_address_that_may_hold_a_key_is_neither_shown_nor_saved(tmp_path, capsys):
    out, server = tmp_path / "out", "http://bob:SECRET@127.0.0.1:9/v1"
    arguments = ["evaluate", "--model", "m", "--api", "chat", "--benchmarks", "tiny", "--out", str(out), "--server"]
    assert main([*arguments, server]) == 2
    said = capsys.readouterr().err
    assert "--server: url holds more than an address" in said
    assert "SECRET" not in said
    assert not out.exists()
    with pytest.raises(ValidationError) as caught:
        AnyModel(model="m", server=server)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("place", [{"engine": "vllm"}, {"server": "http://127.0.0.1:9"}])
def test_a_tokenizer_without_an_end_token_is_named(tmp_path, place):
    words = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path)
    with (
        pytest.raises(ArtifactError, match="names an end token: set eos_token"),
        open_model(AnyModel(model=str(tmp_path), **place)),
    ):
        pass


def test_the_model_is_let_go_before_its_responses_are_scored(checkpoint, tmp_path, monkeypatch):
    opened = []

    @contextmanager
    def remembered(asked):
        with open_model(asked) as model:
            opened.append(weakref.ref(model.engine.model))
            yield model
        opened.append("closed")

    def score(responses, name, dtype):
        assert opened[0]() is None
        assert opened[1:] == ["closed"]
        opened.append("scored")
        return responses

    monkeypatch.setattr(command, "open_model", remembered)
    monkeypatch.setattr(command, "load_judge", lambda name, on: None)
    monkeypatch.setattr(command, "score", score)
    arguments = ["--benchmarks", "tiny", "--limit", "1", "--max-new-tokens", "2", "--reward-model", "any"]
    assert main(["evaluate", "--model", str(checkpoint), "--out", str(tmp_path / "out"), *arguments]) == 0
    assert opened[-1] == "scored"


def test_a_reward_model_whose_tokenizer_has_no_end_token_is_named(monkeypatch):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")))
    monkeypatch.setattr(command, "load_any_reward_model", lambda name, dtype, on: (None, tokenizer))
    with pytest.raises(ArtifactError, match="some/model: its tokenizer names no end token: set eos_token"):
        command.score([], "some/model")


@pytest.mark.parametrize(("own", "dtype"), [({}, "float16"), ({"dtype": "bfloat16"}, "bfloat16")])
def test_vllm_is_opened_as_its_settings_say(checkpoint, monkeypatch, own, dtype):
    opened = []

    @contextmanager
    def engine(*given):
        opened.append(given[2])
        yield

    monkeypatch.setattr(any_model, "VllmEngine", engine)
    vllm = VllmSettings(max_model_len=99, tensor_parallel_size=2, dtype="float16")
    with open_model(AnyModel(model=str(checkpoint), engine="vllm", rows=7, vllm=vllm, **own)) as model:
        assert model.context_length == 99
    assert opened == [vllm.model_copy(update={"max_num_seqs": 7, "dtype": dtype})]


def test_a_local_agent_runs_on_the_engine_of_the_recipe(monkeypatch):
    asked = []

    def refuse(model):
        asked.append(model)
        raise EngineError("no GPU")

    async def open_agents():
        async with opening.open_agents(SimpleNamespace(recipe=recipe, seed=0)):
            pass

    monkeypatch.setattr(opening, "open_model", refuse)
    engine = {"kind": "vllm", "rows": 7, "vllm": {"max_model_len": 99, "dtype": "float16"}}
    recipe = Recipe(engine=engine, synthesis={"generator": {"kind": "chat", "checkpoint": "their-model"}})
    with pytest.raises(ArtifactError, match="no GPU"):
        asyncio.run(open_agents())
    assert asked == [AnyModel(model="their-model", engine="vllm", rows=7, vllm=recipe.engine.vllm)]


def test_the_gold_check_fails_where_rows_are_missing_and_names_a_missing_file(tmp_path, capsys):
    rows = [{"question": f"{n}+1?", "answer": f"so\n#### {n + 1}"} for n in range(3)]
    write_jsonl(tmp_path / "gsm8k_test.jsonl", rows)
    assert main(["gold-check", "--data", str(tmp_path), "--save", str(tmp_path / "gold.md")]) == 1
    assert "3 of 3" in (tmp_path / "gold.md").read_text()
    assert main(["gold-check", "--data", str(tmp_path), "--benchmarks", "math500"]) == 2
    assert "math500_test.jsonl" in capsys.readouterr().err
