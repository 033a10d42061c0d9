"""Benchmarks: reading rows of both forms, counts, errors, names, reasoning-gym, the check on the gold."""

import json
from dataclasses import replace

import pytest
import reasoning_gym

from satori.benchmarks.base import Loaded
from satori.benchmarks.gold_check import NO_ANSWER, boxed, check_benchmark, check_gold, different_pairs
from satori.benchmarks.registry import BENCHMARKS, MATHS, OUT_OF_DOMAIN, ReasoningGymSet, parse_benchmarks
from satori.benchmarks.rows import BenchmarkError, UnusableRow, plain_number
from satori.grading.forms import AnswerForm, AnswerKind, Grade, Status
from satori.problems.out_of_domain import reasoning_gym_problems
from satori.types import Problem

GSM8K_ROW = {"question": "A pen costs 2,000. Two pens?", "answer": "2*2,000 = <<2*2000=4000>>4,000\n#### 4,000"}
MATH_ROW = {"problem": "Halve $x$.", "answer": "\\frac{x}{2}", "level": 3, "unique_id": "test/algebra/1.json"}
OLYMPIAD_ROW = {
    "id": 7,
    "context": None,
    "question": "Find all such $n$.",
    "final_answer": ["$69$,$84$"],
    "is_multiple_answer": True,
    "unit": None,
    "error": None,
}
FOLIO_ROW = {"premises": ["All cats purr.", "Tom is a cat."], "conclusion": "Tom purrs.", "label": "True"}
BOARDGAME_ROW = {"story": "The cat has a card. Does the cat sing?", "label": "disproved", "proof": "Rule1."}
CRUX_ROW = {"code": "def f(x):\n    return x + '!'\n", "input": "'a'", "output": "'a!'", "id": "sample_0"}
STRATEGY_ROW = {"qid": "ab12", "question": "Can a cat bark?", "answer": False, "facts": ["Dogs bark."]}
TABLE = {"columns": ["team", "wins\n[n]"], "data": [["reds | blues", "3"], ["greens", None]]}
TABLE_ROW = {"id": "f0", "qtype": "FactChecking", "table": TABLE, "question": "Who won?", "answer": "reds | blues"}
MMLU_ROW = {
    "question_id": 70,
    "question": "Which is a gas?",
    "options": ["iron", " argon", "salt"],
    "answer": "B",
    "category": "chemistry",
}

# For each benchmark: its file, a row of the local form, one of the hub's form, and the gold answer of both.
SAMPLES = {
    "gsm8k": ("gsm8k_test.jsonl", GSM8K_ROW, GSM8K_ROW, "4000"),
    "math500": ("math500_test.jsonl", MATH_ROW, MATH_ROW, "\\frac{x}{2}"),
    "olympiadbench": ("olympiadbench_test.jsonl", OLYMPIAD_ROW, OLYMPIAD_ROW | {"image_1": None}, "69,84"),
    "amc2023": (
        "amc23_test.jsonl",
        {"id": 3, "problem": "Add.", "question": "Add.", "answer": 27.0},
        {"id": "3", "question": "Add.", "answer": "27"},
        "27",
    ),
    "aime2024": (
        "aime24_test.jsonl",
        {"id": 60, "problem": "Add.", "question": "Add.", "answer": "025"},
        {"id": 60, "problem": "Add.", "answer": "025", "year": "2024"},
        "25",
    ),
    "folio": (
        "folio_validation.jsonl",
        FOLIO_ROW,
        FOLIO_ROW | {"premises": "All cats purr.\nTom is a cat.", "example_id": 5},
        "True",
    ),
    "boardgameqa": (
        "boardgameqa_test.json",
        BOARDGAME_ROW,
        {"example": BOARDGAME_ROW["story"], "label": "disproved", "facts": "", "config": "Main-depth1"},
        "disproved",
    ),
    "cruxeval": ("cruxeval_test.jsonl", CRUX_ROW, CRUX_ROW, "'a!'"),
    "strategyqa": (("strategyqa_train.json", "strategyqa_dev.json"), STRATEGY_ROW, STRATEGY_ROW, "no"),
    "tablebench": ("tablebench.jsonl", TABLE_ROW, TABLE_ROW | {"table": json.dumps(TABLE)}, "reds | blues"),
    "mmlu_pro_stem": ("mmlu_pro_stem_test.jsonl", MMLU_ROW, MMLU_ROW | {"answer_index": 1, "src": "x"}, "B"),
}
PURR = "Premises:\n1. All cats purr.\n2. Tom is a cat.\n\nConclusion: Tom purrs.\n\nPut True in the box if"


def write(folder, name, *rows):
    text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def load(folder, name, *rows):
    """Load a benchmark from a folder that holds just these rows, and one row in its second file where it has two."""
    files = SAMPLES[name][0]
    first, *others = [files] if isinstance(files, str) else files
    write(folder, first, *rows)
    for other in others:
        write(folder, other, {"qid": "zz", "question": "Do cows fly?", "answer": True})
    return BENCHMARKS[name].load(folder)


def only(folder, name, row):
    return load(folder, name, row).problems[0]


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds what is put into it, by id; what was asked for is under "asked"."""
    held = {"asked": []}

    def load_dataset(path, name=None, *, split=None, data_files=None):
        held["asked"].append((path, name, split, data_files))
        if path not in held:
            raise ConnectionError("no route to the hub")
        return iter(held[path])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return held


# --- reading rows ---


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_local_row_and_a_row_of_the_hub_give_the_same_problem(name, tmp_path, hub):
    _, row, hub_row, gold = SAMPLES[name]
    hub[BENCHMARKS[name].hub.id] = [hub_row]
    local, remote = only(tmp_path, name, row), BENCHMARKS[name].load().problems[0]
    assert local.answer == gold
    assert replace(local, id="") == replace(remote, id="")
    source = BENCHMARKS[name].hub
    assert hub["asked"] == [(source.id, source.config, source.split, source.data_files)]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("gsm8k", AnswerForm()),
        ("math500", AnswerForm(kind=AnswerKind.LATEX)),
        ("olympiadbench", AnswerForm(kind=AnswerKind.LATEX, multiple=True)),
        ("amc2023", AnswerForm()),
        ("aime2024", AnswerForm()),
        ("folio", AnswerForm(kind=AnswerKind.LABEL, labels=("True", "False", "Uncertain|Unknown"))),
        ("boardgameqa", AnswerForm(kind=AnswerKind.LABEL, labels=("proved", "disproved", "unknown"))),
        ("cruxeval", AnswerForm(kind=AnswerKind.LITERAL)),
        ("strategyqa", AnswerForm(kind=AnswerKind.LABEL, labels=("yes", "no"))),
        ("tablebench", AnswerForm(kind=AnswerKind.CELL)),
        ("mmlu_pro_stem", AnswerForm(kind=AnswerKind.CHOICE)),
    ],
)
def test_every_benchmark_has_its_answer_form(name, form, tmp_path):
    assert only(tmp_path, name, SAMPLES[name][1]).form == form


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("gsm8k", "A pen costs 2,000. Two pens?", "Two pens?"),
        ("math500", "Halve $x$.", "Halve $x$."),
        ("olympiadbench", "Find all such $n$.", "Find all such $n$."),
        ("amc2023", "Add.", "Add."),
        ("aime2024", "Add.", "Add."),
        ("folio", PURR, "Uncertain if neither does."),
        ("boardgameqa", "The cat has a card. Does the cat sing?\n\nPut proved in the box", "unknown if neither can."),
        ("cruxeval", "Here is a Python function", "f('a')\n```\n\nPut what the last line evaluates to in the box, "),
        ("strategyqa", "Can a cat bark?\n\n", "Put yes or no in the box."),
        ("tablebench", "| team | wins [n] |\n| --- | --- |\n| reds \\| blues | 3 |\n| greens |  |\n\nWho won?\n\n", ""),
        ("mmlu_pro_stem", "Which is a gas?\n\nA. iron\nB. argon\nC. salt\n\nPut the letter", "in the box."),
    ],
)
def test_the_question_as_asked(name, start, end, tmp_path):
    question = only(tmp_path, name, SAMPLES[name][1]).question
    assert question.startswith(start)
    assert end in question


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("gsm8k", "gsm8k-0"),
        ("math500", "test/algebra/1.json"),
        ("olympiadbench", "7"),
        ("amc2023", "3"),
        ("folio", "folio-0"),
        ("cruxeval", "sample_0"),
        ("strategyqa", "ab12"),
        ("tablebench", "f0"),
        ("mmlu_pro_stem", "70"),
    ],
)
def test_a_problem_has_the_rows_own_id_or_its_position(name, id, tmp_path):
    assert only(tmp_path, name, SAMPLES[name][1]).id == id


def test_a_repeated_id_gets_a_suffix_and_no_row_is_lost(tmp_path):
    again = TABLE_ROW | {"answer": "3"}
    loaded = load(tmp_path, "tablebench", TABLE_ROW, again, TABLE_ROW)
    assert [p.id for p in loaded.problems] == ["f0", "f0#2", "f0#3"]


def test_levels_come_with_math500(tmp_path):
    assert only(tmp_path, "math500", MATH_ROW).level == 3
    assert only(tmp_path, "gsm8k", GSM8K_ROW).level == 0


def test_an_olympiad_row_with_context_unit_and_tolerance(tmp_path):
    row = OLYMPIAD_ROW | {"context": "Two trains.", "final_answer": ["$4.2$."], "unit": "$cm^2$", "error": "1e-1"}
    problem = only(tmp_path, "olympiadbench", row | {"is_multiple_answer": False})
    assert problem.question == "Two trains.\n\nFind all such $n$."
    assert problem.answer == "4.2"
    assert problem.form == AnswerForm(kind=AnswerKind.LATEX, tolerance=0.1, unit="cm^2")


def test_several_final_answers_are_joined(tmp_path):
    assert only(tmp_path, "olympiadbench", OLYMPIAD_ROW | {"final_answer": ["$1$", "2"]}).answer == "1, 2"


def test_unknown_is_read_as_uncertain(tmp_path):
    assert only(tmp_path, "folio", FOLIO_ROW | {"label": "Unknown"}).answer == "Uncertain"


@pytest.mark.parametrize("label", ["proved", "disproved", "unknown"])
def test_boardgameqa_in_the_authors_folders_one_a_variant(label, tmp_path):
    write(tmp_path, "BoardgameQA/BoardgameQA-Main-depth1/test.json", BOARDGAME_ROW)
    write(tmp_path, "BoardgameQA/BoardgameQA-Binary-depth1/test.json", BOARDGAME_ROW | {"label": label})
    loaded = BENCHMARKS["boardgameqa"].load(tmp_path)
    assert [(p.id, p.answer) for p in loaded.problems] == [("boardgameqa-0", label), ("boardgameqa-1", "disproved")]


def test_a_function_without_input_is_called_without_arguments(tmp_path):
    assert "\nf()\n```" in only(tmp_path, "cruxeval", CRUX_ROW | {"input": ""}).question


def test_strategyqa_takes_both_files(tmp_path):
    loaded = load(tmp_path, "strategyqa", STRATEGY_ROW)
    assert [(p.id, p.answer) for p in loaded.problems] == [("ab12", "no"), ("zz", "yes")]


@pytest.mark.parametrize(("gold", "kept"), [("-12.45%.", "-12.45%"), ("st. john.", "st. john."), (" 3 ", "3")])
def test_a_full_stop_after_a_gold_number_is_taken_off(gold, kept, tmp_path):
    assert only(tmp_path, "tablebench", TABLE_ROW | {"answer": gold}).answer == kept


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (27.0, "27"),
        ("025", "25"),
        (-1.0, "-1"),
        ("000", "0"),
        ("2,125", "2125"),
        (" 1.50 ", "1.5"),
        ("0.05", "0.05"),
        (100, "100"),
    ],
)
def test_plain_numbers(value, number):
    assert plain_number(value) == number


@pytest.mark.parametrize("value", ["", None, "ten", "1e3", float("nan"), True, "１２", "1.2.3", [1]])
def test_what_is_no_plain_number_is_unusable(value):
    with pytest.raises(UnusableRow, match="is not a plain number"):
        plain_number(value)


# --- rows that cannot be used, counts, scope ---


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("gsm8k", GSM8K_ROW | {"answer": "4000"}, "the answer has no ####"),
        ("gsm8k", GSM8K_ROW | {"answer": "#### many"}, "the answer ' many' is not a plain number"),
        ("math500", MATH_ROW | {"answer": " "}, "answer is empty"),
        ("math500", MATH_ROW | {"problem": None}, "problem is empty"),
        ("olympiadbench", OLYMPIAD_ROW | {"final_answer": []}, "final_answer is empty"),
        ("olympiadbench", OLYMPIAD_ROW | {"final_answer": ["$$"]}, "final_answer is empty"),
        ("olympiadbench", OLYMPIAD_ROW | {"error": "small"}, "the error 'small' is not a number"),
        ("amc2023", {"id": 1, "problem": "Add.", "answer": None}, "the answer None is not a plain number"),
        ("folio", FOLIO_ROW | {"label": "Maybe"}, "label is 'Maybe', none of True, False, Uncertain|Unknown"),
        ("folio", FOLIO_ROW | {"premises": []}, "premises is empty"),
        ("boardgameqa", BOARDGAME_ROW | {"story": ""}, "story is empty"),
        ("tablebench", TABLE_ROW | {"table": "{"}, "table is not valid JSON"),
        (
            "tablebench",
            TABLE_ROW | {"table": TABLE | {"data": [["x"]]}},
            "the lines of the table are not of one length",
        ),
        ("gsm8k", GSM8K_ROW | {"question": "One \ud83d?"}, "question is not valid Unicode"),
        ("mmlu_pro_stem", MMLU_ROW | {"category": "\ud83d"}, "category is not valid Unicode"),
        (
            "tablebench",
            TABLE_ROW | {"table": json.dumps(TABLE | {"columns": ["\ud83d"]})},
            "table is not valid Unicode",
        ),
        ("mmlu_pro_stem", MMLU_ROW | {"answer": "D"}, "the answer 'D' is the letter of none of its 3 options"),
        ("mmlu_pro_stem", MMLU_ROW | {"options": list("abcdefghijk")}, "11 options, where 10 are the most"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_by_id(name, row, reason, tmp_path):
    loaded = load(tmp_path, name, SAMPLES[name][1], row)
    [(id, said)] = loaded.unusable
    assert reason in said
    assert id not in [p.id for p in loaded.problems]
    assert loaded.found == 2
    assert f"row {id} cannot be used: {said}" in loaded.complaints


def test_the_count_found_is_held_against_the_count_expected(tmp_path):
    loaded = load(tmp_path, "gsm8k", GSM8K_ROW)
    assert (loaded.found, loaded.expected) == (1, 1319)
    assert loaded.complaints == ("1 rows where 1319 were expected",)


@pytest.mark.parametrize(
    ("name", "local", "remote"), [("folio", 204, 203), ("olympiadbench", 675, 674), ("tablebench", 493, 493)]
)
def test_the_count_expected_depends_on_the_source(name, local, remote, tmp_path, hub):
    hub[BENCHMARKS[name].hub.id] = [SAMPLES[name][2]]
    assert load(tmp_path, name, SAMPLES[name][1]).expected == local
    assert BENCHMARKS[name].load().expected == remote


def test_folio_version_2_has_a_row_less(tmp_path):
    write(tmp_path, "folio_v2_validation.jsonl", SAMPLES["folio"][2])
    loaded = BENCHMARKS["folio"].load(tmp_path)
    assert (loaded.problems[0].id, loaded.expected) == ("5", 203)


def test_nothing_is_complained_of_where_all_is_well():
    assert Loaded(problems=(), expected=0, found=0).complaints == ()


@pytest.mark.parametrize(
    ("name", "other"),
    [("tablebench", TABLE_ROW | {"qtype": "DataAnalysis"}), ("mmlu_pro_stem", MMLU_ROW | {"category": "law"})],
)
def test_rows_out_of_scope_are_counted(name, other, tmp_path):
    loaded = load(tmp_path, name, other, SAMPLES[name][1], other)
    assert (len(loaded.problems), loaded.found, loaded.out_of_scope) == (1, 1, 2)


# --- bad input ---


def test_a_missing_column_is_named_with_file_line_and_what_was_expected(tmp_path):
    with pytest.raises(BenchmarkError, match=r"gsm8k_test.jsonl, line 2: no column 'question' \(text expected\)"):
        load(tmp_path, "gsm8k", GSM8K_ROW, {"answer": "#### 1"})


def test_all_names_of_a_missing_column_are_given(tmp_path):
    with pytest.raises(BenchmarkError, match=r"test.json, entry 1: no column 'story' or 'example'.* are 'label'"):
        load(tmp_path, "boardgameqa", {"label": "proved"})


@pytest.mark.parametrize(
    ("name", "row", "complaint"),
    [
        ("gsm8k", GSM8K_ROW | {"question": 3}, "line 1, column 'question': expected text, found int"),
        ("math500", MATH_ROW | {"level": "3"}, "line 1, column 'level': expected a whole number, found str"),
        ("strategyqa", STRATEGY_ROW | {"answer": "no"}, "column 'answer': expected true or false, found str"),
        ("mmlu_pro_stem", MMLU_ROW | {"options": "AB"}, "column 'options': expected a list of texts, found str"),
        ("tablebench", TABLE_ROW | {"table": []}, "line 1, column 'table': expected columns and data, as lists"),
        ("tablebench", {"id": "f0"}, "line 1: no column 'qtype'"),
    ],
)
def test_a_column_of_another_type_is_named(name, row, complaint, tmp_path):
    with pytest.raises(BenchmarkError, match=complaint):
        load(tmp_path, name, row)


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "gsm8k_test.jsonl").write_text(json.dumps(GSM8K_ROW) + '\n{"question": ')
    with pytest.raises(BenchmarkError, match=r"gsm8k_test.jsonl, line 2: not valid JSON"):
        BENCHMARKS["gsm8k"].load(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[{", "not valid JSON in UTF-8"),
        ("{}", "expected a JSON array of objects, found dict"),
        ("[{}, 3]", "entry 2: expected a JSON object, found int"),
        ("[" * 100_000, "not valid JSON in UTF-8"),
    ],
)
def test_a_broken_array_is_named(text, complaint, tmp_path):
    (tmp_path / "boardgameqa_test.json").write_text(text)
    with pytest.raises(BenchmarkError, match=complaint):
        BENCHMARKS["boardgameqa"].load(tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_file_is_named(name, tmp_path):
    first = SAMPLES[name][0] if isinstance(SAMPLES[name][0], str) else " and ".join(SAMPLES[name][0])
    with pytest.raises(BenchmarkError, match=f"has none of: {first}"):
        BENCHMARKS[name].load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BenchmarkError, match="nowhere is not a folder"):
        BENCHMARKS["gsm8k"].load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_error_of_the_hub_names_the_data_set(name, hub):
    with pytest.raises(BenchmarkError, match=rf"{BENCHMARKS[name].hub.id} .* \(ConnectionError: no route to the hub\)"):
        BENCHMARKS[name].load()


def test_a_row_of_the_hub_is_named_by_its_number(hub):
    hub["openai/gsm8k"] = [GSM8K_ROW, {}]
    with pytest.raises(BenchmarkError, match=r"openai/gsm8k \(test\), row 2: no column 'answer'"):
        BENCHMARKS["gsm8k"].load()


# --- names ---


def names(*words):
    return [problem_set.name for problem_set in parse_benchmarks(words)]


def test_the_groups():
    assert names("maths") == ["gsm8k", "math500", "olympiadbench", "amc2023", "aime2024"]
    assert names("ood") == ["folio", "boardgameqa", "cruxeval", "strategyqa", "tablebench", "mmlu_pro_stem"]
    assert names("all") == names("maths", "ood") == list(BENCHMARKS)
    assert not any(b.out_of_domain for b in MATHS)
    assert all(b.out_of_domain for b in OUT_OF_DOMAIN)


LEGS = "reasoning-gym:leg_counting"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["folio,gsm8k", "folio"], ["folio", "gsm8k"]),
        (["amc2023", ",maths,"], ["amc2023", "gsm8k", "math500", "olympiadbench", "aime2024"]),
        ([LEGS], [LEGS]),
        ([f"gsm8k,{LEGS},size=5,seed=2,folio"], ["gsm8k", f"{LEGS},size=5,seed=2", "folio"]),
        ([f"{LEGS},size=100", LEGS], [LEGS]),
        ([LEGS, f"{LEGS}, seed=1"], [LEGS, f"{LEGS},seed=1"]),
    ],
)
def test_names_with_spaces_and_commas_each_once(words, expected):
    assert names(*words) == expected


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("gms8k",), r"unknown benchmark 'gms8k' \(did you mean gsm8k\?\); there are all, maths, ood, gsm8k"),
        (("MATH500",), r"unknown benchmark 'MATH500' \(did you mean math500"),
        (("size=3",), "unknown benchmark 'size=3'"),
        (("gsm8k,size=3",), "unknown benchmark 'size=3'"),
        ((), "no benchmark named; there are all, maths"),
        ((" , ",), "no benchmark named"),
        (("reasoning-gym:leg_count",), r"no task 'leg_count' \(did you mean leg_counting"),
        (("reasoning-gym:",), "no task ''"),
        (("reasoning-gym:leg_counting,size=0",), "size is '0'; expected a whole number, a size above 0"),
        (("reasoning-gym:leg_counting,size=-1",), "size is '-1'"),
        (("reasoning-gym:leg_counting,seed=x",), "seed is 'x'"),
        (("reasoning-gym:leg_counting,level=3",), "unknown benchmark 'level=3'"),
    ],
)
def test_names_that_mean_nothing(words, complaint):
    with pytest.raises(BenchmarkError, match=complaint):
        parse_benchmarks(words)


# --- reasoning-gym ---


def test_reasoning_gym_problems_carry_their_entry():
    [task] = parse_benchmarks(["reasoning-gym:leg_counting,size=4,seed=3"])
    loaded = task.load()
    assert (len(loaded.problems), loaded.expected, loaded.complaints, task.title) == (4, 4, (), "leg_counting")
    for number, problem in enumerate(loaded.problems):
        assert problem.id == f"leg_counting-{number}"
        assert (problem.form.kind, problem.form.task) == (AnswerKind.TASK, "leg_counting")
        assert json.loads(problem.form.entry)["answer"] == problem.answer


TASKS = (
    "basic_arithmetic calendar_arithmetic countdown game_of_life graph_color knights_knaves propositional_logic "
    "rubiks_cube shortest_path simple_equations spiral_matrix sudoku time_intervals zebra_puzzles"
)


@pytest.mark.parametrize("task", TASKS.split())
def test_a_tasks_own_scorer_takes_its_answer_from_the_saved_entry(task):
    score = reasoning_gym.get_score_answer_fn(task)
    for problem in reasoning_gym_problems(task, 3, seed=2):
        assert score(problem.answer, json.loads(problem.form.entry)) == 1
        assert score("no such answer", json.loads(problem.form.entry)) < 1


def test_a_task_that_states_no_answer_has_an_empty_one():
    assert {p.answer for p in reasoning_gym_problems("boxnet", 2)} == {""}


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ("arc_agi", "'arc_agi': its scorer judges otherwise once an entry has been JSON"),
        ("composite", "cannot make the task 'composite' without further settings"),
    ],
)
def test_a_task_that_cannot_be_made_or_graded_is_refused(task, complaint):
    with pytest.raises(BenchmarkError, match=complaint):
        ReasoningGymSet(task, size=2).load()


def test_an_entry_that_json_cannot_hold_is_refused(monkeypatch):
    entry = {"question": "?", "answer": "1", "metadata": {"odd": {1, 2}}}
    monkeypatch.setattr(reasoning_gym, "create_dataset", lambda task, size, seed: [entry])
    with pytest.raises(BenchmarkError, match="'leg_counting': an entry cannot be saved as JSON"):
        ReasoningGymSet("leg_counting").load()


# --- the check on the gold ---


def grade_exactly(triples):
    """A scripted grader: right where the boxed text is the gold answer."""
    return [Grade(Status.CORRECT if response == boxed(gold) else Status.WRONG) for response, gold, _ in triples]


def loaded_golds(*golds, form=None, expected=None):
    problems = tuple(Problem(f"p{n}", "?", gold, form=form or AnswerForm()) for n, gold in enumerate(golds))
    return Loaded(problems, len(golds) if expected is None else expected, len(golds))


def test_a_right_grader_passes():
    check = check_gold([(BENCHMARKS["gsm8k"], loaded_golds("1", "2", "2", "3"))], grade_exactly)
    [row] = check.rows
    assert (row.name, row.rows, row.own_correct, row.others, row.others_wrong) == ("gsm8k", 4, 4, 4, 4)
    assert (row.failing, row.mistaken, row.exceptions, row.wrong_rate) == ((), (), (), 1.0)
    assert row.passed and check.passed


def test_a_gold_answer_that_does_not_grade_correct_fails_the_check():
    def grade_all(triples):
        return [
            Grade(Status.UNPARSEABLE_GOLD) if gold == "odd" else grade
            for (_, gold, _), grade in zip(triples, grade_exactly(triples), strict=True)
        ]

    golds = loaded_golds("1", "odd", *map(str, range(2, 400)))
    row = check_benchmark(BENCHMARKS["gsm8k"], golds, grade_all)
    assert (row.failing, row.own_correct, row.passed) == (("p1",), 399, False)
    listed = replace(BENCHMARKS["gsm8k"], exceptions={"p1": "in words", "p999": "elsewhere"})
    row = check_benchmark(listed, golds, grade_all)
    assert (row.failing, row.exceptions, row.passed) == ((), (("p1", "in words"),), True)


@pytest.mark.parametrize(("count", "passed"), [(100, False), (300, True)])
def test_one_mistake_in_200_is_allowed(count, passed):
    def grade_all(triples):
        grades = grade_exactly(triples)
        return [Grade(Status.CORRECT), *grades[1:]]

    row = check_benchmark(BENCHMARKS["gsm8k"], loaded_golds(*map(str, range(count))), grade_all)
    assert (len(row.mistaken), row.others_wrong, row.passed) == (1, count - 1, passed)


@pytest.mark.parametrize("status", [Status.NO_ANSWER, Status.TIMED_OUT, Status.UNPARSEABLE_GOLD])
def test_only_the_verdict_wrong_counts_as_wrong(status):
    def grade_all(triples):
        return [Grade(Status.CORRECT if response == boxed(gold) else status) for response, gold, _ in triples]

    row = check_benchmark(BENCHMARKS["gsm8k"], loaded_golds("1", "2"), grade_all)
    assert (row.own_correct, row.others_wrong, row.passed) == (2, 0, False)


def test_a_count_that_is_off_fails_the_check():
    assert not check_benchmark(BENCHMARKS["gsm8k"], loaded_golds("1", "2", expected=3), grade_exactly).passed


def test_a_task_without_an_answer_of_its_own_is_an_exception():
    row = check_benchmark(ReasoningGymSet("boxnet"), loaded_golds("", "1", "2"), grade_exactly)
    assert (row.exceptions, row.others, row.passed) == ((("p0", NO_ANSWER),), 2, True)


def test_no_problem_is_paired_with_its_own_answer():
    problems = loaded_golds(*"abcab", "a").problems
    pairs = different_pairs(problems)
    assert sorted(p.id for p, _ in pairs) == [p.id for p in problems]
    assert all(p.answer != other.answer for p, other in pairs)
    assert pairs == different_pairs(problems)
    assert pairs != different_pairs(problems, seed=1)


def test_spellings_of_one_label_do_not_differ():
    form = AnswerForm(kind=AnswerKind.LABEL, labels=("True", "Uncertain|Unknown"))
    assert different_pairs(loaded_golds("Uncertain", "unknown", form=form).problems) == []
    assert len(different_pairs(loaded_golds("Uncertain", "unknown", "True", form=form).problems)) == 3


def test_letters_differ_whatever_their_case():
    assert different_pairs(loaded_golds("a", "A", form=AnswerForm(kind=AnswerKind.CHOICE)).problems) == []
    assert len(different_pairs(loaded_golds("a", "A").problems)) == 2
