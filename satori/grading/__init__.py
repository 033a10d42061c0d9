"""The one grader, for curation, synthesis, reinforcement learning and evaluation. It sees the response only.

::

    from satori.grading import AnswerForm, AnswerKind, grade

    grade(r"... so \\boxed{\\frac{1}{2}}", "0.5").correct                        # True
    grade(r"\\boxed{(1, 2)}", "(2, 1)", AnswerForm(AnswerKind.LATEX)).status     # wrong

Reading decides most answers in microseconds; math-verify decides the rest in worker processes, within a hard deadline.
Nothing a model wrote is run, no substring counts, and what cannot be decided is never right.
"""

from satori.grading.extraction import boxed_answers
from satori.grading.forms import AnswerForm, AnswerKind, Found, Grade, Status
from satori.grading.grader import grade, grade_all, same_answer
from satori.grading.pool import close_pools

__all__ = [
    "AnswerForm",
    "AnswerKind",
    "Found",
    "Grade",
    "Status",
    "boxed_answers",
    "close_pools",
    "grade",
    "grade_all",
    "same_answer",
]
