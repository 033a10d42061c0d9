"""Records of evaluated responses: their rows, and grouping by problem."""

import json
from dataclasses import fields, replace

import pytest
from made_responses import evaluated

from satori.evaluation.records import EvaluatedResponse, by_problem, from_row, to_row
from satori.grading import AnswerForm, AnswerKind, Found, Status

FULL = EvaluatedResponse(
    problem_id="olympiad-1",
    set_name="olympiadbench",
    level=3,
    question="Find $x$.\nAll of them…",
    gold="1,2",
    form=AnswerForm(AnswerKind.LATEX, multiple=True, tolerance=0.01, unit="cm", labels=("True", "Uncertain|Unknown")),
    sample=2,
    response="\\boxed{1}<|reflect|> Wait. \\boxed{2, 1}",
    tokens=14,
    finished=True,
    status=Status.CORRECT,
    answers=("1", "2, 1"),
    found=Found.BOX,
    plain_tokens=9,
    score=-0.75,
)
PLAIN = replace(FULL, form=AnswerForm(), found=None, score=None, answers=(), status=Status.NO_ANSWER, sample=0)


@pytest.mark.parametrize("record", [FULL, PLAIN, *(replace(FULL, status=status) for status in Status)])
def test_a_record_comes_back_from_its_row_through_json(record):
    assert from_row(json.loads(json.dumps(to_row(record)))) == record


def test_every_field_of_the_full_record_differs_from_its_default():
    """Else the round trip could lose a field unseen."""
    assert all(getattr(FULL, field.name) != field.default for field in fields(FULL))
    assert from_row(to_row(FULL)).form == FULL.form


def test_a_row_is_plain_json_and_its_form_says_only_what_is_unusual():
    row = to_row(FULL)
    assert row["form"] == {
        "kind": "latex", "labels": ["True", "Uncertain|Unknown"], "multiple": True, "tolerance": 0.01, "unit": "cm",
    }  # fmt: skip
    assert (row["status"], row["found"], row["answers"]) == ("correct", "box", ["1", "2, 1"])
    assert type(row["status"]) is str and type(row["form"]["kind"]) is str
    assert "correct" not in row
    assert to_row(PLAIN)["form"] == {} and to_row(PLAIN)["found"] is None


def test_fields_with_defaults_may_be_missing_from_a_row():
    row = {key: value for key, value in to_row(PLAIN).items() if key not in ("form", "sample", "score", "plain_tokens")}
    assert from_row(row) == replace(PLAIN, plain_tokens=0)


@pytest.mark.parametrize("key", ["problem_id", "response", "status", "found", "answers", "finished"])
def test_a_missing_key_is_named(key):
    row = to_row(FULL)
    del row[key]
    with pytest.raises(ValueError, match=f"missing key {key}$"):
        from_row(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": True}, "unknown key correct"),
        ({"form": {"colour": "red"}}, r"unknown key form\.colour"),
        ({"form": {"kind": "poem"}}, r"form\.kind is 'poem'"),
        ({"form": {"labels": "True"}}, r"form\.labels is 'True'"),
        ({"form": None}, "form is None"),
        ({"status": "right"}, "status is 'right'"),
        ({"status": None}, "status is None"),
        ({"status": []}, r"status is \[\]"),
        ({"found": "nowhere"}, "found is 'nowhere'"),
        ({"answers": [1]}, r"answers is \[1\]"),
        ({"finished": 1}, "finished is 1"),
        ({"level": True}, "level is True"),
        ({"tokens": "14"}, "tokens is '14'"),
        ({"score": "0.5"}, "score is '0.5'"),
        ({"score": True}, "score is True"),
        ({"score": float("nan")}, "score of 'olympiad-1', sample 2, is nan"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        from_row(to_row(FULL) | change)


@pytest.mark.parametrize(
    ("finished", "status", "correct"),
    [
        (True, Status.CORRECT, True),
        (False, Status.CORRECT, False),
        (True, Status.WRONG, False),
        (True, Status.TIMED_OUT, False),
        (True, Status.UNPARSEABLE_GOLD, False),
    ],
)
def test_correct_means_finished_and_graded_correct(finished, status, correct):
    assert replace(FULL, finished=finished, status=status).correct is correct


# --- grouping ---


def test_responses_are_grouped_by_problem_in_the_order_of_their_samples():
    rows = [("a", 1), ("b", 0), ("a", 0)]
    groups = by_problem([evaluated("", problem_id=name, sample=sample) for name, sample in rows])
    assert [[(r.problem_id, r.sample) for r in group] for group in groups] == [[("a", 0), ("a", 1)], [("b", 0)]]


def test_the_same_id_in_two_sets_is_two_problems():
    assert len(by_problem([evaluated("", set_name="one"), evaluated("", set_name="two")])) == 2


def test_a_sample_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="test: two responses to problem 'p', sample 3"):
        by_problem([evaluated("a", sample=3), evaluated("b", sample=3)])
