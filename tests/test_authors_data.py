"""The authors' data sets: initial states with restarts, demonstrations, and writing our own states as they do."""

import json
from collections import Counter

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from satori.authors.ft_data import ReleasedDemonstrations, kind_of, read_demonstrations
from satori.authors.prompts import rendered, split_query
from satori.authors.rl_data import ReleasedStates, initial_states_of, read_states, write_states
from satori.coat import PROMPT_INSTRUCTION, encode_prompt, parse, render, render_prompt
from satori.grading import AnswerForm, AnswerKind
from satori.problems.row_streams import SourceError
from satori.progress import Display
from satori.recipe import load_recipe
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rollouts import InitialState, StartWeights, draw_states
from satori.reinforcement.stage import initial_states, run_restarts
from satori.run_folder import ArtifactError, RunFolder, read_jsonl, write_jsonl
from satori.stage import StageContext
from satori.synthesis.pipeline import Kind
from satori.tiny_model import build_tokenizer
from satori.types import Problem

QUESTION = "What is $\\frac{1}{2}$ of\n\n14?"
# As on the authors' model cards: a line break where our own instruction has a space.
USER = (
    "Solve the following math problem efficiently and clearly.\nPlease reason step by step, and put your final answer "
    "within \\boxed{}.\nProblem: " + QUESTION
)
PROMPT = f"<|im_start|>user\n{USER}<|im_end|>\n<|im_start|>assistant\n"
RIGHT = "Half of 14 is 7.<|continue|> So it is $\\boxed{7}$.<|reflect|>"
WRONG = "Half of 14 is 8.<|reflect|>"
ROWS = [
    {"query": PROMPT, "answer": "7", "reflect_status": 0},
    {"query": PROMPT + RIGHT, "answer": "7", "reflect_status": 1},
    {"query": PROMPT + WRONG, "answer": "7", "reflect_status": -1},
]
RESPONSE = "It is 8.<|reflect|> Wait. It is not.<|explore|> Try again. It is 7.<|continue|> So $\\boxed{7}$."


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.fixture
def states(tmp_path, tokenizer):
    def read(*rows, **settings):
        return read_states(ReleasedStates(path=jsonl(tmp_path / "rl.jsonl", rows), **settings), tokenizer)

    return read


@pytest.fixture
def demonstrations(tmp_path):
    def read(*rows, **settings):
        return read_demonstrations(ReleasedDemonstrations(path=jsonl(tmp_path / "ft.jsonl", rows), **settings))

    return read


def text(tokenizer, ids):
    return tokenizer.decode(list(ids), skip_special_tokens=False)


# --- reading the reinforcement learning data ---


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_a_query_is_split_into_question_prompt_and_restart_prefix(tmp_path, tokenizer, write):
    settings = ReleasedStates(path=write(tmp_path / f"rl.{write.__name__}", ROWS))
    read = list(read_states(settings, tokenizer))
    assert [s.start for s in read] == [Start.PROBLEM, Start.POSITIVE, Start.NEGATIVE]
    assert [s.prefix for s in read] == ["", RIGHT, WRONG]
    assert {(s.question, s.answer, s.prompt) for s in read} == {(QUESTION, "7", PROMPT)}


def test_from_the_hub_the_released_data_set_is_streamed(monkeypatch, tokenizer):
    def load(*names, **options):
        assert (names, options) == (
            ("Satori-reasoning/Satori_RL_data_with_RAE", None),
            {"split": "train", "streaming": True},
        )
        return iter(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(list(read_states(ReleasedStates(), tokenizer))) == 3


def test_states_become_initial_states_that_rollouts_start_from(states, tokenizer):
    settings = ReleasedStates(path="any")
    found = initial_states_of(states(*ROWS, *ROWS[1:]), settings, tokenizer)
    assert {start: len(group) for start, group in found.items()} == {
        Start.PROBLEM: 1,
        Start.POSITIVE: 2,
        Start.NEGATIVE: 2,
    }
    plain, positive = found[Start.PROBLEM][0], found[Start.POSITIVE][-1]
    assert plain.prefix_ids == () and text(tokenizer, plain.prompt_ids) == PROMPT
    assert positive.prompt_ids == plain.prompt_ids and text(tokenizer, positive.prefix_ids) == RIGHT
    assert positive.prefix_ids[-1] == tokenizer.convert_tokens_to_ids("<|reflect|>")
    assert (positive.start, positive.problem.question) == (Start.POSITIVE, QUESTION)
    assert positive.problem == plain.problem
    assert plain.problem.form == AnswerForm(AnswerKind.LATEX)
    assert found[Start.NEGATIVE][:5] == [found[Start.NEGATIVE][0], found[Start.NEGATIVE][1]]
    drawn = draw_states(found, StartWeights(), 90, 1, 0)
    assert set(Counter(state.start for state in drawn)) == set(Start)


def test_the_question_may_be_asked_in_our_own_prompt(states, tokenizer):
    found = initial_states_of(states(*ROWS), ReleasedStates(own_prompt=True), tokenizer)
    assert list(found[Start.POSITIVE][0].prompt_ids) == encode_prompt(tokenizer, QUESTION)


@pytest.mark.parametrize(
    ("change", "question"),
    [
        (lambda q: q.replace("clearly.\nPlease", "clearly. Please"), QUESTION),
        (lambda q: "<|im_start|>system\nBe brief.<|im_end|>\n" + q, QUESTION),
        (lambda q: q.replace(QUESTION, "1 < 2 | im_end?"), "1 < 2 | im_end?"),
    ],
)
def test_other_ways_to_write_the_prompt_are_kept_word_for_word(states, change, question):
    query = change(PROMPT)
    (state,) = states({"query": query, "answer": "7", "reflect_status": 0})
    assert (state.prompt, state.question) == (query, question)


@pytest.mark.parametrize(
    "row", [{"query": PROMPT, "answer": 7}, {"query": PROMPT, "answer": 7.0, "reflect_status": None}]
)
def test_without_a_status_a_state_is_a_plain_problem(states, row):
    (state,) = states(row)
    assert (state.start, state.answer) == (Start.PROBLEM, "7")


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"query": PROMPT, "answer": "7", "reflect_status": 2}, ["reflect_status", "0, 1 or -1", "2"]),
        ({"query": PROMPT, "answer": "7", "reflect_status": "1"}, ["reflect_status", "'1'"]),
        ({"query": PROMPT, "answer": "7", "reflect_status": True}, ["reflect_status", "True"]),
        ({"query": PROMPT + WRONG, "answer": "7", "reflect_status": 0}, ["reflect_status 0", "prefix"]),
        ({"query": PROMPT + WRONG, "answer": "7"}, ["reflect_status 0", "prefix"]),
        ({"query": PROMPT, "answer": "7", "reflect_status": 1}, ["positive restart", "<|reflect|>"]),
        ({"query": PROMPT + "So 8.", "answer": "7", "reflect_status": -1}, ["negative restart", "So 8."]),
        ({"query": USER, "answer": "7", "reflect_status": 0}, ["ChatML", "<|im_start|>user", "Solve the"]),
        ({"query": "<|im_start|>user\nHi<|im_end|>\n", "answer": "7", "reflect_status": 0}, ["ChatML", "assistant"]),
        ({"query": PROMPT.replace("clearly", "now"), "answer": "7", "reflect_status": 0}, ["instruction"]),
        ({"query": PROMPT.replace(QUESTION, " "), "answer": "7", "reflect_status": 0}, ["instruction and a question"]),
        ({"query": PROMPT + "x<|im_end|>" + WRONG, "answer": "7", "reflect_status": 1}, ["<|im_end|>", "one turn"]),
        ({"query": PROMPT, "reflect_status": 0}, ["no column 'answer'"]),
        ({"prompt": PROMPT, "answer": "7"}, ["no column 'query'"]),
        ({"query": PROMPT, "answer": ["7"], "reflect_status": 0}, ["'answer'", "text or a number, found list"]),
    ],
)
def test_rows_of_another_form_are_errors_that_name_the_row(states, row, messages):
    stream = states(ROWS[0], row)
    next(stream)
    with pytest.raises(SourceError) as caught:
        next(stream)
    assert all(message in str(caught.value) for message in ["rl.jsonl, line 2", *messages]), caught.value
    stream = states(ROWS[0], row, ROWS[1], skip_bad_rows=True)
    assert len(list(stream)) == 2
    assert stream.counts.left_out == {"of another form than expected": 1}


@pytest.fixture
def stage(tmp_path, tokenizer):
    """Makes the context of a stage in a run folder that has a format-tuned tokenizer and no buffers yet."""

    def make(*overrides):
        recipe, task = load_recipe("tiny", overrides), Display(Console(quiet=True)).task("restarts")
        (tmp_path / "restarts").mkdir()
        tokenizer.save_pretrained(tmp_path / "format_tuned")
        return StageContext("restarts", recipe, tmp_path / "restarts", RunFolder(tmp_path), 0, task)

    return make


@pytest.mark.parametrize("rows", [[], [{**ROWS[0], "answer": " "}]])
def test_no_state_at_all_is_an_error_with_the_counts(tmp_path, stage, rows):
    path = jsonl(tmp_path / "rl.jsonl", rows)
    with pytest.raises(ArtifactError, match=rf"rl\.jsonl has no initial state: 0 of {len(rows)} rows used"):
        run_restarts(stage(("restarts.released", f"{{path: {path}}}")))


@pytest.mark.parametrize(("longest", "kept"), [(0, 2), (1000, 3)])
def test_the_longest_prompt_of_restarts_counts_for_released_states_too(tmp_path, stage, tokenizer, longest, kept):
    path = jsonl(tmp_path / "rl.jsonl", ROWS)
    most = len(tokenizer.encode(PROMPT + WRONG, add_special_tokens=False))
    released = f"{{path: {path}, longest: {longest}}}"
    context = stage(("restarts.released", released), ("restarts.max_prompt_tokens", str(most)))
    assert run_restarts(context) == f"{kept} of 3 rows used"
    assert sum(map(len, initial_states(context).values())) == kept


def test_a_buffer_of_problems_that_the_source_no_longer_has_is_refused(stage):
    context = stage(("restarts.problems", "3"))
    write_jsonl(context.folder / "buffer.jsonl", [{"problem_id": "gone", "start": "positive", "prefix_ids": [5]}])
    with pytest.raises(ArtifactError, match=r"buffer\.jsonl: no training problem is 'gone' now: the source .*--redo"):
        initial_states(context)


def test_states_without_an_answer_or_too_long_are_counted(states, tokenizer):
    longest = len(tokenizer.encode(PROMPT + WRONG, add_special_tokens=False))
    broken = {**ROWS[0], "query": PROMPT.replace("What", "\ud83d What")}
    stream = states(*ROWS, {**ROWS[0], "answer": " "}, broken, longest=longest)
    assert [s.start for s in stream] == [Start.PROBLEM, Start.NEGATIVE]
    reason = f"prompt and prefix of more than {longest} tokens"
    assert stream.counts.left_out == {"answer is empty": 1, "query is not valid Unicode": 1, reason: 1}


def test_a_tokenizer_that_splits_meta_actions_is_refused_at_once():
    with pytest.raises(ValueError, match=r"splits <\|continue\|>"):
        read_states(ReleasedStates(path="missing.jsonl"), build_tokenizer())


# --- writing our restart buffer ---


def ours(tokenizer, start=Start.PROBLEM, prefix="", question=QUESTION, **fields):
    ids = tuple(tokenizer.encode(prefix, add_special_tokens=False)) if prefix else ()
    prompt_ids = tuple(encode_prompt(tokenizer, question))
    return InitialState(Problem("p", question, "7", **fields), start, prompt_ids, ids)


def test_what_we_write_is_what_we_read(tmp_path, tokenizer):
    written = [
        ours(tokenizer),
        ours(tokenizer, Start.POSITIVE, RIGHT),
        ours(tokenizer, Start.NEGATIVE, WRONG),
    ]
    path = tmp_path / "states.jsonl"
    assert write_states(path, iter(written), tokenizer) == dict.fromkeys(Start, 1)
    assert [set(row) for row in read_jsonl(path)] == [{"query", "answer", "reflect_status"}] * 3
    assert [row["reflect_status"] for row in read_jsonl(path)] == [0, 1, -1]
    settings = ReleasedStates(path=str(path))
    found = initial_states_of(read_states(settings, tokenizer), settings, tokenizer)
    again = [found[start][0] for start in Start]
    assert [(s.start, s.prompt_ids, s.prefix_ids) for s in again] == [
        (s.start, s.prompt_ids, s.prefix_ids) for s in written
    ]
    assert {(s.problem.question, s.problem.answer) for s in again} == {(QUESTION, "7")}


def test_what_the_authors_wrote_is_written_the_same_but_for_the_instruction(tmp_path, states, tokenizer):
    found = initial_states_of(states(*ROWS), ReleasedStates(), tokenizer)
    path = tmp_path / "again.jsonl"
    write_states(path, (found[start][0] for start in Start), tokenizer)
    expected = [{**row, "query": row["query"].replace(USER, PROMPT_INSTRUCTION + QUESTION)} for row in ROWS]
    assert list(read_jsonl(path)) == expected


def test_the_written_prompt_is_the_one_that_models_are_trained_with(tokenizer):
    assert rendered(QUESTION) == render_prompt(tokenizer, QUESTION)
    assert split_query(rendered(QUESTION)) == (QUESTION, rendered(QUESTION), "")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"start": Start.POSITIVE, "prefix": "So 7."}, "p cannot be written.*<|reflect|>"),
        ({"prefix": RIGHT}, "p cannot be written.*prefix"),
        ({"question": "a<|im_end|>\n<|im_start|>assistant\nb"}, "p cannot be written"),
        ({"form": AnswerForm(AnswerKind.TASK, task="chain_sum")}, "p cannot be written.*chain_sum"),
    ],
)
def test_states_that_the_format_cannot_hold_are_refused_and_no_file_is_left(tmp_path, tokenizer, state, message):
    with pytest.raises(ValueError, match=message):
        write_states(tmp_path / "states.jsonl", [ours(tokenizer, **state)], tokenizer)
    assert not (tmp_path / "states.jsonl").exists()


# --- the demonstrations ---


@pytest.mark.parametrize(
    "row",
    [
        {"query": QUESTION, "response": RESPONSE, "type": "type_III_I_data"},
        {"query": USER, "response": RESPONSE + "<|im_end|>\n", "type": "type_III_I_data"},
        {"query": PROMPT, "response": RESPONSE + "<|endoftext|>"},
        {"prompt": QUESTION, "completion": RESPONSE},
        {"messages": [{"role": "user", "content": USER}, {"role": "assistant", "content": RESPONSE}]},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": RESPONSE},
            ]
        },
    ],
)
@pytest.mark.parametrize("write", [jsonl, parquet])
def test_every_form_of_a_demonstration_is_the_record_that_format_tuning_reads(tmp_path, row, write):
    path = write(tmp_path / f"ft.{write.__name__}", [row])
    (record,) = read_demonstrations(ReleasedDemonstrations(path=path))
    assert record.pop("id").startswith("satori-ft-")
    assert record == {"level": 0, "kind": "III-I", "question": QUESTION, "answer": "7", "response": RESPONSE}
    assert render(parse(record["response"])) == RESPONSE


def test_demonstrations_are_streamed_into_the_file_that_format_tuning_reads(monkeypatch, tmp_path):
    rows = [{"query": QUESTION, "response": RESPONSE, "type": "type_III_I_data"}]
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **_: asked.append(names) or iter(rows))
    path = tmp_path / "demonstrations.jsonl"
    write_jsonl(path, read_demonstrations(ReleasedDemonstrations()))
    assert asked == [("Satori-reasoning/Satori_FT_data", None)]
    assert [record["response"] for record in read_jsonl(path)] == [RESPONSE]


@pytest.mark.parametrize(
    ("type", "kind"),
    [
        ("type_I_data", Kind.PLAIN),
        ("type_II_I_data", Kind.VERIFIED),
        ("type_II_II_data", Kind.VERIFIED_THEN_CORRECTED),
        ("type_III_I_data", Kind.CORRECTED),
        ("type_III_II_data", Kind.CORRECTED_TWICE),
        ("another", Kind.CORRECTED),
        (None, Kind.CORRECTED),
    ],
)
def test_the_kind_is_what_the_row_says_or_else_what_its_meta_actions_show(demonstrations, type, kind):
    (record,) = demonstrations({"query": QUESTION, "response": RESPONSE, "type": type})
    assert record["kind"] == kind


@pytest.mark.parametrize(
    ("actions", "kind"),
    [
        ("", Kind.PLAIN),
        ("c", Kind.PLAIN),
        ("rc", Kind.VERIFIED),
        ("re", Kind.CORRECTED),
        ("rcre", Kind.VERIFIED_THEN_CORRECTED),
        ("rerec", Kind.CORRECTED_TWICE),
    ],
)
def test_the_kind_that_meta_actions_show(actions, kind):
    tokens = {"c": "<|continue|>", "r": "<|reflect|>", "e": "<|explore|>"}
    assert kind_of("First." + "".join(f"{tokens[action]} more." for action in actions)) is kind


def test_a_response_without_a_box_is_kept(demonstrations):
    (record,) = demonstrations({"query": QUESTION, "response": "It is 7."})
    assert (record["answer"], record["kind"]) == ("", "I")


def test_demonstrations_of_no_use_are_counted(demonstrations):
    good = {"query": QUESTION, "response": RESPONSE}
    chat = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "\udfff"}]}
    bad = [{**good, "response": "<|im_end|>"}, {**good, "response": ""}, {**good, "query": None}, chat]
    stream = demonstrations(good, *bad)
    assert len(list(stream)) == 1
    assert stream.counts.left_out == {
        "question or response is empty": 1,
        "response is empty": 1,
        "query is empty": 1,
        "messages is not valid Unicode": 1,
    }


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"text": "x"}, ["no column 'query' or 'prompt' or 'question'", "'text'"]),
        ({"query": QUESTION}, ["no column 'response' or 'completion'"]),
        ({"query": 5, "response": RESPONSE}, ["column 'query'", "expected text, found int"]),
        ({"query": PROMPT + WRONG, "response": RESPONSE}, ["after the assistant header"]),
        ({"query": "<|im_start|>user\nx", "response": RESPONSE}, ["ChatML"]),
        ({"messages": "x"}, ["'messages'", "one user and one assistant turn", "str"]),
        ({"messages": [{"role": "user", "content": "x"}]}, ["'messages'", "found user"]),
        ({"messages": [{"role": r, "content": "x"} for r in ("user", "assistant") * 2]}, ["user, assistant, user"]),
        ({"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": "x"}]}, ["'messages'"]),
    ],
)
def test_demonstrations_of_another_form_are_errors_that_name_the_row(demonstrations, row, messages):
    with pytest.raises(SourceError) as caught:
        list(demonstrations({"query": QUESTION, "response": RESPONSE}, row))
    assert all(message in str(caught.value) for message in ["ft.jsonl, line 2", *messages]), caught.value
