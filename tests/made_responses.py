"""Responses made by hand and graded for real, for the tests of the evaluation."""

from typing import Any

from satori.evaluation.records import EvaluatedResponse
from satori.grading import AnswerForm, grade

NUMBER = AnswerForm()


def evaluated(response: str, gold: str = "9", form: AnswerForm = NUMBER, **fields: Any) -> EvaluatedResponse:
    """A graded response; what is not given is that of a finished first sample of level 1 in the set ``test``."""
    graded = grade(response, gold, form)
    defaults = {
        "problem_id": "p", "set_name": "test", "level": 1, "question": "?", "tokens": 10, "finished": True,
        "status": graded.status, "answers": graded.answers, "found": graded.found,
    }  # fmt: skip
    return EvaluatedResponse(response=response, gold=gold, form=form, **defaults | fields)
