"""Problem sources: presets, columns, answers, filters, splits, counts, errors, memory (satori.problems.sources)."""

import contextlib
import itertools
import json
import random
from decimal import Decimal
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from satori.benchmarks.rows import BenchmarkError
from satori.grading import AnswerForm, AnswerKind, grade
from satori.problems.arithmetic import Split
from satori.problems.gym_stream import reference_steps
from satori.problems.questions import SeenQuestions, normalized, question_key, split_of_question
from satori.problems.recipe_problems import ProblemSettings, problem_stream
from satori.problems.row_streams import SourceError, shuffled
from satori.problems.source_settings import PRESETS, ProblemSource
from satori.problems.sources import interleaved, open_source
from satori.run_folder import ArtifactError

OPENMATH = {
    "problem": "Halve $x$.",
    "generated_solution": "Divide by two.\n\nSo it is $\\boxed{\\frac{x}{2}}$.",
    "expected_answer": "\\frac{x}{2}",
    "problem_source": "augmented_math",
}
NUMINA = {
    "source": "olympiads",
    "problem": "Add the roots of $x^2-5x+6$.",
    "solution": "They are \\boxed{2} and \\boxed{3}.\nTheir sum is $\\boxed{5}$.",
    "messages": [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "\\boxed{5}"}],
}
GSM8K = {
    "question": "A pen costs 2,000. Two pens?",
    "answer": "One costs 2,000.\nTwo cost 2*2,000 = <<2*2000=4000>>4,000\n#### 4,000",
}
SAMPLES = {
    "openmathinstruct-2": (OPENMATH, "\\frac{x}{2}", ("Divide by two.", "So it is $\\boxed{\\frac{x}{2}}$.")),
    "numinamath-cot": (NUMINA, "5", ("They are \\boxed{2} and \\boxed{3}.", "Their sum is $\\boxed{5}$.")),
    "gsm8k": (GSM8K, "4000", ("One costs 2,000.", "Two cost 2*2,000 = 4,000")),
}


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def parquet(path, *rows, **options):
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **options)
    return str(path)


def numbered(count, **more):
    return [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} | more for n in range(count)]


def read(tmp_path, *rows, split=None, seed=0, **settings):
    """The problems of a JSON-lines file, and what became of its rows."""
    stream = open_source(ProblemSource(path=jsonl(tmp_path / "rows.jsonl", *rows), **settings), split, seed)
    return list(stream), stream.counts


@pytest.fixture
def hub(monkeypatch):
    """Data sets of a hub that is not there: what was asked for, and the rows to give."""

    class Hub:
        asked = ()
        rows: object = ()

    def load(*names, **options):
        Hub.asked = (names, options)
        return Hub.rows

    monkeypatch.setattr(datasets, "load_dataset", load)
    return Hub


# --- presets ---


@pytest.mark.parametrize("preset", SAMPLES)
@pytest.mark.parametrize("write", [jsonl, parquet])
def test_a_preset_reads_rows_of_its_data_set(tmp_path, preset, write):
    row, answer, solution = SAMPLES[preset]
    path = write(tmp_path / f"rows.{write.__name__}", row)
    (problem,) = open_source(ProblemSource(preset=preset, path=path))
    assert problem.question == (row.get("problem") or row["question"])
    assert (problem.answer, problem.solution) == (answer, solution)
    assert problem.id.startswith(f"{preset}-")
    assert problem.form.kind is (AnswerKind.NUMBER if preset == "gsm8k" else AnswerKind.LATEX)
    assert grade(f"\\boxed{{{answer}}}", problem.answer, problem.form).correct


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("openmathinstruct-2", ("nvidia/OpenMathInstruct-2", None)),
        ("numinamath-cot", ("AI-MO/NuminaMath-CoT", None)),
        ("gsm8k", ("openai/gsm8k", "main")),
    ],
)
def test_without_a_path_a_preset_streams_from_the_hub(hub, preset, names):
    hub.rows = datasets.IterableDataset.from_generator(lambda: iter([SAMPLES[preset][0]]))
    assert len(list(open_source(ProblemSource(preset=preset)))) == 1
    assert hub.asked == (names, {"split": "train", "streaming": True})


def test_the_hub_is_read_no_further_than_needed(hub):
    hub.rows = itertools.chain([OPENMATH], (pytest.fail("a second row was read") for _ in range(1)))
    assert len(list(open_source(ProblemSource(preset="openmathinstruct-2", limit=1)))) == 1


def test_what_is_said_beside_a_preset_goes_before_it():
    source = ProblemSource(preset="gsm8k", config="socratic", columns={"solution": ""})
    assert (source.hub, source.config, source.columns.solution) == ("openai/gsm8k", "socratic", "")
    assert source.columns.answer == "answer"
    assert ProblemSource.model_validate(source.model_dump()) == source


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_whole(name):
    assert ProblemSource(preset=name).hub


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a preset, a path, a hub data set or a task"),
        ({"preset": "gsm8"}, "unknown preset 'gsm8'; did you mean gsm8k?"),
        ({"preset": "nothing at all"}, "there are openmathinstruct-2, numinamath-cot, gsm8k, reasoning-gym:NAME"),
        ({"preset": "reasoning-gym:chain_sum", "path": "x.jsonl"}, "not both"),
        ({"path": "x.jsonl", "answer_kind": "task"}, "reasoning-gym"),
        ({"path": "x.jsonl", "answer_kind": "label"}, "labels are needed"),
        ({"path": "x.jsonl", "labels": ["yes"]}, "labels are needed"),
        ({"path": "x.jsonl", "colums": {}}, "colums"),
        ({"path": "x.jsonl", "columns": {"question": ""}}, "columns.question"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(ValidationError, match=message.replace("?", r"\?")):
        ProblemSource.model_validate(settings)


# --- columns and answers ---


def test_columns_are_mapped(tmp_path):
    row = {"q": " Why? ", "a": 7, "steps": "One.\nTwo.", "grade": "Level 3", "nr": 12}
    columns = {"question": "q", "answer": "a", "solution": "steps", "level": "grade", "id": "nr"}
    (problem,), _ = read(tmp_path, row, columns=columns)
    assert problem.id.startswith("rows-12-")
    assert (problem.question, problem.answer, problem.level) == ("Why?", "7", 3)
    assert problem.solution == ("One.", "Two.")


def test_a_solution_beside_an_answer_behind_hashes_is_kept_whole(tmp_path):
    row = {"question": "Why?", "answer": "So it is. #### 5", "steps": "One <<1=1>>1.\nTwo."}
    columns = {"question": "question", "answer": "answer", "solution": "steps"}
    (problem,), _ = read(tmp_path, row, columns=columns, answer_place="hashes")
    assert (problem.answer, problem.solution) == ("5", ("One 1.", "Two."))


def test_without_an_id_a_problem_is_named_after_its_question(tmp_path):
    (first, second), _ = read(tmp_path, *numbered(2))
    again, _ = read(tmp_path, *reversed(numbered(2)))
    assert first.id.startswith("rows-") and first.id != second.id
    assert {p.id for p in again} == {first.id, second.id}


@pytest.mark.parametrize(
    ("value", "settings", "answer"),
    [
        (27.0, {}, "27"),
        (0.25, {}, "0.25"),
        (1e-7, {}, "0.0000001"),
        (" $x$ ", {}, "$x$"),
        ("2,125.50", {"answer_kind": "number"}, "2125.5"),
        ("3/4", {"answer_kind": "number"}, "3/4"),
        ("(B)", {"answer_kind": "choice"}, "B"),
        ("unknown", {"answer_kind": "label", "labels": ["True", "False", "Uncertain|Unknown"]}, "Uncertain"),
        ("[1, 2]", {"answer_kind": "literal"}, "[1, 2]"),
        ("x\n#### 1 #### 2", {"answer_place": "hashes"}, "2"),
        (10**400, {}, str(10**400)),
        ("\\boxed{1} \\boxed{\\frac{1}{2}} \\boxed{", {"answer_place": "box"}, "\\frac{1}{2}"),
    ],
)
def test_answers_are_read_as_their_kind_says(tmp_path, value, settings, answer):
    (problem,), _ = read(tmp_path, {"question": "q", "answer": value}, **settings)
    assert problem.answer == answer


@pytest.mark.parametrize(("value", "answer"), [("2.50", "2.50"), ("7.00", "7"), ("0.00000001", "0.00000001")])
def test_decimal_numbers_of_parquet_are_answers(tmp_path, value, answer):
    path = parquet(tmp_path / "rows.parquet", {"question": "q", "answer": Decimal(value)})
    assert [p.answer for p in open_source(ProblemSource(path=path))] == [answer]


def test_the_form_carries_what_comparing_needs(tmp_path):
    (problem,), _ = read(tmp_path, {"question": "q", "answer": "1, 2"}, multiple=True)
    assert problem.form == AnswerForm(AnswerKind.LATEX, multiple=True)


# --- rows that are not used ---


@pytest.mark.parametrize(
    ("row", "settings", "reason"),
    [
        ({"question": " ", "answer": "1"}, {}, "question is empty"),
        ({"question": None, "answer": "1"}, {}, "question is empty"),
        ({"question": "q \ud83d", "answer": "1"}, {}, "question is not valid Unicode"),
        ({"question": "q", "answer": "\udc00"}, {}, "answer is not valid Unicode"),
        ({"question": "q", "answer": ""}, {}, "answer is empty"),
        ({"question": "q", "answer": None}, {}, "answer is empty"),
        ({"question": "q", "answer": float("nan")}, {}, "answer is not a finite number"),
        ({"question": "q", "answer": "about 3"}, {"answer_kind": "number"}, "the answer is no number"),
        ({"question": "q", "answer": "A or B"}, {"answer_kind": "choice"}, "the answer is no choice"),
        ({"question": "q", "answer": "so 3"}, {"answer_place": "box"}, "no complete box in answer"),
        ({"question": "q", "answer": "\\boxed{ }"}, {"answer_place": "box"}, "the answer is empty"),
        ({"question": "q", "answer": "so 3"}, {"answer_place": "hashes"}, "no #### in answer"),
        ({"question": "q" * 11, "answer": "1"}, {"longest_question": 10}, "question of more than 10 characters"),
        ({"question": "q", "answer": "1" * 11}, {"longest_answer": 10}, "answer of more than 10 characters"),
        ({"question": "q", "answer": "1", "level": "hard"}, {"columns": {"level": "level"}}, "no number in level"),
        ({"question": "q", "answer": "1", "from": "b"}, {"keep": {"from": ["a"]}}, "from is not one to keep"),
        ({"question": "q", "answer": "1", "from": "b"}, {"leave_out": {"from": ["b"]}}, "from is one to leave out"),
    ],
)
def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path, row, settings, reason):
    more = {key: value for key, value in row.items() if key not in ("question", "answer")}
    good = {"question": "Good?", "answer": "\\boxed{4}\n#### 4", **more, "level": 1, "from": "a"}
    if not settings.get("answer_place"):
        good["answer"] = "A" if settings.get("answer_kind") == "choice" else "4"
    settings = settings if "longest_question" not in settings else {"longest_question": 10}
    problems, counts = read(tmp_path, good, row, row, **settings)
    assert [p.question for p in problems] == ["Good?"]
    assert dict(counts.left_out) == {reason: 2}
    assert (counts.rows, counts.used) == (3, 1)
    assert counts.first[reason] == f"{tmp_path / 'rows.jsonl'}, line 2"
    assert counts.lines() == [
        "1 of 3 rows used",
        f"2 left out: {reason} (first: {tmp_path / 'rows.jsonl'}, line 2)",
    ]


def test_repeated_questions_are_left_out(tmp_path):
    rows = [{"question": q, "answer": "1"} for q in ("Add $x+1$.", "add x + 1.", "Add $x+2$.")]
    problems, counts = read(tmp_path, *rows)
    assert [p.question for p in problems] == ["Add $x+1$.", "Add $x+2$."]
    assert counts.left_out == {"question seen before": 1}
    assert len(read(tmp_path, *rows, remembered_questions=0)[0]) == 3


def test_a_question_whose_first_row_was_of_no_use_is_not_repeated(tmp_path):
    rows = [{"question": "q", "answer": None}, {"question": "q", "answer": "1"}]
    assert len(read(tmp_path, *rows)[0]) == 1


def test_counts_are_up_to_date_while_reading(tmp_path):
    stream = open_source(ProblemSource(path=jsonl(tmp_path / "rows.jsonl", *numbered(5))))
    next(stream)
    assert (stream.counts.rows, stream.counts.used) == (1, 1)


# --- input of another form ---


@pytest.mark.parametrize(
    ("row", "settings", "messages"),
    [
        ({"problem": "q", "answer": "1"}, {}, ["line 2", "'question'", "text expected", "'problem', 'answer'"]),
        ({"question": "q"}, {}, ["line 2", "no column 'answer'", "text or a number expected"]),
        ({"question": 5, "answer": "1"}, {}, ["line 2", "column 'question'", "expected text, found int"]),
        ({"question": "q", "answer": ["1"]}, {}, ["line 2", "column 'answer'", "text or a number, found list"]),
        ({"question": "q", "answer": True}, {}, ["line 2", "column 'answer'", "found bool"]),
        ({"question": "q", "answer": "1"}, {"keep": {"kind": ["x"]}}, ["line 2", "no column 'kind'"]),
        ({"question": "q", "answer": "1"}, {"columns": {"level": "level"}}, ["line 2", "no column 'level'"]),
    ],
)
def test_rows_of_another_form_are_errors_that_name_place_and_column(tmp_path, row, settings, messages):
    good = {"question": "Good?", "answer": "1", "kind": "x", "level": 1}
    with pytest.raises(SourceError) as caught:
        read(tmp_path, good, row, **settings)
    assert all(message in str(caught.value) for message in ["rows.jsonl", *messages]), caught.value
    problems, counts = read(tmp_path, good, row, **settings, skip_bad_rows=True)
    assert len(problems) == 1
    assert counts.left_out == {"of another form than expected": 1}
    assert str(caught.value) in counts.lines()[1]


def test_the_row_of_a_parquet_file_is_named(tmp_path):
    path = parquet(tmp_path / "rows.parquet", *numbered(300), {"question": "q", "answer": None})
    with pytest.raises(SourceError, match=r"rows\.parquet, row 1: no column 'problem'"):
        list(open_source(ProblemSource(path=path, columns={"question": "problem"})))
    stream = open_source(ProblemSource(path=path))
    assert len(list(stream)) == 300
    assert stream.counts.first == {"answer is empty": f"{path}, row 301"}


@pytest.mark.parametrize("line", ["{broken", "[1]", "\udcff"])
def test_a_broken_line_is_named(tmp_path, line):
    path = Path(jsonl(tmp_path / "rows.jsonl", *numbered(2)))
    path.write_bytes(path.read_bytes() + line.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=r"rows\.jsonl, line 3"):
        list(open_source(ProblemSource(path=str(path))))
    stream = open_source(ProblemSource(path=str(path), skip_bad_rows=True))
    assert len(list(stream)) == 2
    assert "rows.jsonl, line 3" in next(iter(stream.counts.first.values()))


def test_blank_lines_and_the_mark_of_an_editor_say_nothing(tmp_path):
    path = Path(jsonl(tmp_path / "rows.jsonl", *numbered(2)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n") + b"  \n")
    assert len(list(open_source(ProblemSource(path=str(path))))) == 2


def test_the_same_ids_in_two_sources_are_two_problems(tmp_path):
    columns = {"question": "question", "answer": "answer", "id": "nr"}
    (tmp_path / "other").mkdir()
    first = jsonl(tmp_path / "rows.jsonl", {"nr": 0, "question": "1+1?", "answer": "2"})
    second = jsonl(tmp_path / "other" / "rows.jsonl", {"nr": 0, "question": "1+2?", "answer": "3"})
    problems = [p for path in (first, second) for p in open_source(ProblemSource(path=path, columns=columns))]
    assert len({p.id for p in problems}) == 2
    assert all(p.id.startswith("rows-0-") for p in problems)


@pytest.mark.parametrize("columns", [{}, {"id": "nr"}])
def test_two_sources_of_one_name_have_no_id_in_common(tmp_path, columns):
    paths = [tmp_path / folder / "rows.jsonl" for folder in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        jsonl(path, *({"nr": i, "question": f"{i}+1?", "answer": str(i + 1)} for i in range(9)))
    settings = ProblemSettings(sources=tuple(ProblemSource(path=str(path), columns=columns) for path in paths))
    problems = list(problem_stream(settings, Split.TRAIN, 0))
    assert len({p.id for p in problems}) == len(problems) == 2 * len({p.question for p in problems})
    assert {p.id.partition("rows-")[0] for p in problems} == {"", "2:"}


def test_what_became_of_the_rows_of_each_source_is_said_when_the_stream_ends_or_is_closed(tmp_path):
    short = jsonl(tmp_path / "short.jsonl", *numbered(3), {"question": "What is x?", "answer": "x"})
    settings = ProblemSettings(sources=(ProblemSource(path=short, answer_kind="number"),))
    for drawn in (1, 99):
        said: list[str] = []
        with contextlib.closing(problem_stream(settings, Split.TRAIN, 0, say=said.append)) as stream:
            problems = list(itertools.islice(stream, drawn))
        assert len(said) == 1 and said[0].startswith(f"{short} (train): {len(problems)} of ")
    assert f"1 left out: the answer is no number (first: {short}, line 4)" in said[0]


def test_sources_without_a_problem_to_train_on_are_an_error_with_the_counts(tmp_path):
    empty = jsonl(tmp_path / "empty.jsonl")
    words = jsonl(tmp_path / "words.jsonl", *({"question": f"{n}?", "answer": "many"} for n in range(50)))
    sources = tuple(ProblemSource(path=path, answer_kind="number") for path in (empty, words))
    with pytest.raises(ArtifactError, match=r"empty\.jsonl \(train\): 0 of 0 .*words\.jsonl .*: 0 of 50 .* no number"):
        next(problem_stream(ProblemSettings(sources=sources), Split.TRAIN, 0))
    assert list(problem_stream(ProblemSettings(sources=sources), Split.TEST, 0)) == []


def test_an_id_that_all_rows_have_still_tells_them_apart(tmp_path):
    rows = ({"nr": 7, "question": f"{i}+1?", "answer": str(i + 1)} for i in range(20_000))
    problems, _ = read(tmp_path, *rows, columns={"id": "nr"})
    assert len({p.id for p in problems}) == len(problems)


def test_a_broken_parquet_file_is_named(tmp_path):
    path = Path(parquet(tmp_path / "rows.parquet", *numbered(2)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"rows\.parquet, after row 0: not a readable Parquet file"):
        list(open_source(ProblemSource(path=str(path))))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([b"q\xff"]).view(pa.string()), "can't decode byte 0xff"),
        (pa.array([2**58], pa.timestamp("us")), "out of range"),
    ],
)
def test_a_value_that_a_parquet_file_must_not_hold_is_an_error_that_names_the_file(tmp_path, column, said):
    pq.write_table(pa.table({"question": ["q"], "answer": ["1"], "more": column}), tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match=rf"rows\.parquet, after row 0: .*{said}"):
        list(open_source(ProblemSource(path=str(tmp_path / "rows.parquet"))))


def test_files_that_cannot_be_meant(tmp_path):
    jsonl(tmp_path / "a.jsonl", *numbered(1))
    (tmp_path / "a.csv").write_text("question,answer\n")
    (tmp_path / "empty").mkdir()
    for path, message in (("missing.jsonl", "no such file"), ("empty", "no such file"), ("*.csv", "expected a .jsonl")):
        with pytest.raises(SourceError, match=message):
            list(open_source(ProblemSource(path=str(tmp_path / path))))
    parquet(tmp_path / "b.parquet", *numbered(1))
    with pytest.raises(SourceError, match="name one kind"):
        list(open_source(ProblemSource(path=str(tmp_path))))


def test_a_folder_or_a_pattern_is_all_its_files_in_order(tmp_path):
    for part, row in zip("ba", numbered(2), strict=True):
        jsonl(tmp_path / f"{part}.jsonl", row)
    (tmp_path / "README.md").write_text("no data")
    for path in (tmp_path, tmp_path / "*.jsonl"):
        assert [p.answer for p in open_source(ProblemSource(path=str(path)))] == ["2", "0"]


def test_a_hub_that_fails_is_an_error_that_says_what_to_do(hub):
    def rows():
        yield OPENMATH
        raise ConnectionError("gone")

    hub.rows = rows()
    stream = open_source(ProblemSource(preset="openmathinstruct-2"))
    next(stream)
    with pytest.raises(SourceError, match=r"OpenMathInstruct-2 \(train\).*beyond row 1 .*gone.*with `path`"):
        next(stream)


def test_a_source_error_is_one_that_the_command_line_shows():
    assert issubclass(SourceError, BenchmarkError)


# --- order and number ---


def test_a_limit_stops_reading(tmp_path):
    problems, counts = read(tmp_path, *numbered(10), limit=3)
    assert (len(problems), counts.rows) == (3, 3)


def test_shuffling_keeps_every_problem_and_depends_on_the_seed(tmp_path):
    rows = numbered(100)
    plain, _ = read(tmp_path, *rows)
    mixed, _ = read(tmp_path, *rows, shuffle_buffer=20)
    assert mixed != plain and sorted(p.id for p in mixed) == sorted(p.id for p in plain)
    assert read(tmp_path, *rows, shuffle_buffer=20)[0] == mixed
    assert read(tmp_path, *rows, shuffle_buffer=20, seed=1)[0] != mixed
    assert read(tmp_path, *rows, shuffle_buffer=20, limit=5)[0] == mixed[:5]


@pytest.mark.parametrize("buffer", [0, 1, 2, 7, 50, 80])
def test_the_shuffle_buffer_holds_no_more_than_it_says(buffer):
    asked = 0

    def items():
        nonlocal asked
        for number in range(1, 51):
            asked = number
            yield number

    given = 0
    for _ in shuffled(items(), buffer, 0):
        given += 1
        assert asked - given <= max(buffer, 0)
    assert given == 50


def test_interleaved_takes_turns_until_all_have_ended():
    assert "".join(interleaved([iter("abc"), iter(""), iter("xy")])) == "axbyc"


# --- splits ---


def test_splits_are_disjoint_and_together_everything(tmp_path):
    rows = numbered(4000)
    parts = {split: {p.question for p in read(tmp_path, *rows, split=split)[0]} for split in Split}
    assert sum(len(part) for part in parts.values()) == len(set.union(*parts.values())) == 4000
    assert len(parts[Split.TEST]) == pytest.approx(200, abs=56)  # four standard deviations
    assert len(parts[Split.VALIDATION]) == pytest.approx(200, abs=56)


def test_the_split_is_the_same_in_every_source_and_typesetting(tmp_path):
    rows = numbered(300)
    held_out, counts = read(tmp_path, *rows, split=Split.TEST)
    rewritten = [{"problem": f" {r['question'].upper()} ".replace(" ", "  "), "solution": "\\boxed{1}"} for r in rows]
    path = jsonl(tmp_path / "other.jsonl", *rewritten)
    again = open_source(ProblemSource(path=path, preset="numinamath-cot", shuffle_buffer=9), Split.TEST)
    assert {normalized(p.question) for p in again} == {normalized(p.question) for p in held_out} != set()
    assert sum(n for reason, n in counts.left_out.items() if "split" in reason) == 300 - len(held_out)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Find $x + 1$.", "find \\(x+1\\) ."),
        ("\\left( \\dfrac{1}{2} \\right)", "(\\frac{1}{2})"),
        ("a\u00a0b", "A b"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_questions_that_only_look_different_are_the_same(one, other):
    assert question_key(one) == question_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1 1/2", "11/2"), ("x+1", "x-1"), ("x^2", "x2"), ("\\leftarrow a", "arrow a"), ("2²", "22")]
)
def test_questions_that_mean_something_else_are_different(one, other):
    assert normalized(one) != normalized(other)


def test_the_shares_of_the_splits_follow_the_key():
    shares = [split_of_question(int(share * 2**128)) for share in (0, 0.049, 0.051, 0.099, 0.101, 0.999)]
    assert shares == [Split.TEST] * 2 + [Split.VALIDATION] * 2 + [Split.TRAIN] * 2


# --- reasoning-gym ---

EASY = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def gym(split=None, seed=0, task="chain_sum", **settings):
    return open_source(ProblemSource(preset=f"reasoning-gym:{task}", **settings), split, seed)


def test_a_task_is_an_endless_source_of_different_problems():
    problems = list(gym(limit=250))
    assert len({p.question for p in problems}) == len({p.id for p in problems}) == 250
    assert all(
        p.form.kind is AnswerKind.TASK and grade(f"\\boxed{{{p.answer}}}", p.answer, p.form).correct
        for p in problems[:3]
    )
    assert list(gym(limit=250)) == problems
    assert {p.id for p in gym(limit=250, seed=1)} != {p.id for p in problems}


def test_a_tasks_own_settings_count_and_a_small_task_ends():
    stream = gym(task_settings=EASY)
    questions = [p.question for p in stream]
    assert 100 < len(questions) == len(set(questions)) < 400
    assert set(stream.counts.left_out) == {"question seen before"}


def test_the_splits_of_a_task_are_disjoint():
    held_out = {p.question for p in gym(Split.TEST, limit=20)} | {p.question for p in gym(Split.VALIDATION, limit=20)}
    assert len(held_out) == 40
    assert not held_out & {p.question for p in gym(Split.TRAIN, limit=500)}


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("chain_summ", {}, "no task 'chain_summ'"),
        ("chain_sum", {"terms": 2}, "with the settings {'terms': 2}.*terms"),
        ("chain_sum", {"min_terms": 0}, "min_terms"),
        ("composite", {}, "'composite'"),
    ],
)
def test_a_task_that_cannot_be_made_is_an_error(task, settings, message):
    with pytest.raises(SourceError, match=message):
        next(gym(task=task, task_settings=settings))


# --- memory ---


def test_the_table_of_seen_questions_never_takes_a_new_one_for_an_old_one():
    seen, rng = SeenQuestions(800), random.Random(0)
    keys = [rng.getrandbits(128) for _ in range(5000)]
    assert all(seen.add(key) for key in keys)
    assert not seen.add(keys[-1])
    small = SeenQuestions(800)
    assert all(small.add(key) for key in keys[:300])
    assert not any(small.add(key) for key in keys[:300])
    assert all(SeenQuestions(0).add(0) for _ in range(2))
    tiny = SeenQuestions(1)
    assert [tiny.add(0), tiny.add(0)] == [True, False]


def resident():
    """Megabytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


TEXT = "Some more words, so that a row is about as long as it is in a real data set of problems. " * 5


def table(start, count):
    numbers = range(start, start + count)
    return pa.table({"problem": [f"{TEXT}{n}+1?" for n in numbers], "expected_answer": [str(n + 1) for n in numbers]})


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path, kind):
    path, rows = tmp_path / f"rows.{kind}", 150_000
    if kind == "jsonl":
        with path.open("w") as file:
            file.writelines(f'{{"problem": "{TEXT}{n}+1?", "expected_answer": "{n + 1}"}}\n' for n in range(rows))
    else:
        with pq.ParquetWriter(path, table(0, 1).schema) as writer:
            for start in range(0, rows, 10_000):
                writer.write_table(table(start, 10_000))
    columns = {"question": "problem", "answer": "expected_answer"}
    before, highest, read = resident(), 0.0, 0
    stream = open_source(
        ProblemSource(path=str(path), columns=columns, shuffle_buffer=1000, remembered_questions=2**19), Split.TRAIN
    )
    for read, _ in enumerate(stream, start=1):
        if read % 10_000 == 1:
            highest = max(highest, resident())
    assert stream.counts.rows == rows
    assert stream.counts.used == read == pytest.approx(0.9 * rows, rel=0.01)

    assert highest - before < 30  # megabytes, of which the table takes 4; the questions alone are 67


# --- reference solutions of reasoning-gym tasks ---


@pytest.mark.parametrize(
    ("metadata", "steps"),
    [
        ({"expression": "57 + 87 - 70"}, ("57 + 87 = 144.", "144 - 70 = 74.")),
        ({"expression": "3 - 9 + 2"}, ("3 - 9 = -6.", "-6 + 2 = -4.")),
        ({"expression": "3 * 9 + 2"}, ()),
        ({"expression": "7"}, ()),
        ({"answer_cot": "She ate 3 + 5 = 8.\n\n They ate 11.\n#### 11"}, ("She ate 3 + 5 = 8.", "They ate 11.")),
        ({}, ()),
    ],
)
def test_a_task_has_a_reference_solution_where_its_entry_tells_one(metadata, steps):
    assert reference_steps(metadata) == steps


def test_word_problems_of_reasoning_gym_come_with_solutions_and_are_scored_from_the_file():
    stream = open_source(ProblemSource(preset="reasoning-gym:gsm_symbolic"), Split.TRAIN, 0)
    problems = list(itertools.islice(stream, 30))
    assert all(p.solution for p in problems)
    assert all(grade(f"\\boxed{{{p.answer}}}", p.answer, p.form).correct for p in problems[:3])
    wrong = str(int(float(problems[0].answer)) + 1)
    assert not grade(f"\\boxed{{{wrong}}}", problems[0].answer, problems[0].form).correct
