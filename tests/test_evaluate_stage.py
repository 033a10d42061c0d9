"""The evaluation stage: the records it makes, how it reads them back, and its sets of problems."""

import pytest
from made_responses import evaluated

from satori.evaluation.records import to_row
from satori.evaluation.runner import Asked, evaluate, read_responses
from satori.evaluation.stage import EvaluateSettings, problem_sets
from satori.problems.arithmetic import Split, problem_stream
from satori.run_folder import ArtifactError, write_jsonl
from satori.types import Completion, FinishReason, Problem


def encoded(tokenizer, text):
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def test_a_record_has_the_length_of_the_plain_solution_with_its_end_token(tokenizer):
    problem = Problem("p", "2+3=?", "5", 1, ("2+3=5.", "\\boxed{5}"))  # 6 + 1 + 9 bytes, and the end
    ids = encoded(tokenizer, "\\boxed{5}")
    shown = evaluate(tokenizer, Asked("test", problem, 2), Completion(ids, FinishReason.LENGTH))
    assert (shown.plain_tokens, shown.tokens, shown.finished, shown.sample) == (17, len(ids), False, 2)
    assert shown.answers == ("5",) and shown.correct is False  # cut off: it never gave its final answer


def test_a_record_without_a_reference_solution_has_no_plain_length(tokenizer):
    completion = Completion((*encoded(tokenizer, "\\boxed{5}"), tokenizer.eos_token_id), FinishReason.STOP)
    shown = evaluate(tokenizer, Asked("other", Problem("p", "?", "5"), 0), completion)
    assert (shown.plain_tokens, shown.response, shown.correct) == (0, "\\boxed{5}", True)


def test_responses_are_read_back_as_they_were_written(tmp_path):
    responses = [evaluated("\\boxed{9}<|reflect|> Hm.", score=0.5), evaluated("", set_name="harder", finished=False)]
    write_jsonl(tmp_path / "r.jsonl", [to_row(response) for response in responses])
    assert read_responses(tmp_path / "r.jsonl") == responses


def test_a_row_that_does_not_fit_is_named_with_its_file_and_line(tmp_path):
    write_jsonl(tmp_path / "r.jsonl", [to_row(evaluated("")), to_row(evaluated("")) | {"correct": True}])
    with pytest.raises(ArtifactError, match=r"r\.jsonl, line 2: unknown key correct"):
        read_responses(tmp_path / "r.jsonl")


def test_the_evaluation_sets_are_the_same_every_time_and_share_no_problem():
    settings = EvaluateSettings(problems=30, harder_problems=10, other_problems=5)
    sets = problem_sets(settings, problem_stream(Split.TEST, 0), embedded=True)
    assert {name: len(group) for name, group in sets.items()} == {"test": 30, "harder": 10, "number_sequence": 5}
    assert sets == problem_sets(settings, problem_stream(Split.TEST, 0), embedded=True)
    assert len({p.id for group in sets.values() for p in group}) == 45


def test_other_problems_have_no_harder_set_and_benchmarks_are_added(tmp_path):
    write_jsonl(tmp_path / "gsm8k_test.jsonl", [{"question": "1+1?", "answer": "so\n#### 2"}])
    settings = EvaluateSettings(problems=2, other_problems=0, benchmarks=("gsm8k",), data=str(tmp_path))
    sets = problem_sets(settings, iter([Problem("p", "?", "1")]), embedded=False)
    assert {name: [p.answer for p in group] for name, group in sets.items()} == {"test": ["1"], "gsm8k": ["2"]}


def test_where_nothing_is_held_out_it_says_so():
    with pytest.raises(ArtifactError, match="none for test"):
        problem_sets(EvaluateSettings(problems=3), iter(()), embedded=False)
