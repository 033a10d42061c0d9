"""The authors' demonstrations for format tuning, Satori_FT_data (appendix D.2), as the records that our format tuning
reads.

``query``, ``response``, and ``type``, such as ``type_II_I_data``. The query may be a rendered prompt, the user turn
with the instruction, or the question alone; chat ``messages`` of one turn each are read too.

What it leaves out: grading the responses, and levels of difficulty, which the data set does not have.
"""

from collections.abc import Mapping

from satori.authors.prompts import bare_question
from satori.benchmarks.rows import BenchmarkError, Row, UnusableRow
from satori.coat import MetaAction, count_actions
from satori.grading.extraction import boxed_answers
from satori.problems.questions import question_key
from satori.problems.row_streams import RowSettings, RowStream, stream_rows
from satori.synthesis.pipeline import Kind

_ENDS = ("<|im_end|>", "<|endoftext|>")
_KINDS = {f"type_{kind.value.replace('-', '_')}_data": kind for kind in Kind}


class ReleasedDemonstrations(RowSettings):
    """The authors' demonstrations for format tuning."""

    hub: str = "Satori-reasoning/Satori_FT_data"


def read_demonstrations(settings: ReleasedDemonstrations) -> RowStream[dict[str, object]]:
    """Demonstrations as records of ``demonstrations.jsonl``, which format tuning reads, one at a time.

    Errors are as in :func:`read_states`. A response without a box is kept, with an empty answer.
    """
    return RowStream(stream_rows(settings), lambda place, record: read_demonstration(Row("", place, record)), settings)


def read_demonstration(row: Row) -> dict[str, object]:
    """One row. Raises BenchmarkError where it is not of a known form, UnusableRow where a part is empty."""
    if "messages" in row.record:
        query, response = _turns(row)
    else:
        query, response = row.text("query", "prompt", "question"), row.text("response", "completion")
    try:
        question = bare_question(query)
    except ValueError as error:
        raise BenchmarkError(f"{row.place}: {error}") from error
    while response.rstrip().endswith(_ENDS):
        response = response.rstrip().removesuffix(_ENDS[0]).removesuffix(_ENDS[1])
    if not question or not response.strip():
        raise UnusableRow("question or response is empty")
    return {
        "id": f"satori-ft-{question_key(question) >> 64:016x}",
        "level": 0,
        "kind": (_KINDS.get(str(row.record.get("type"))) or kind_of(response)).value,
        "question": question,
        "answer": next(reversed(boxed_answers(response)), ""),
        "response": response,
    }


def kind_of(response: str) -> Kind:
    """The kind of demonstration that its meta-actions show; a second reflection is taken to find a second mistake just
    where there is a second exploration."""
    counts = count_actions(response)
    if not counts[MetaAction.REFLECT]:
        return Kind.PLAIN
    if not counts[MetaAction.EXPLORE]:
        return Kind.VERIFIED
    if counts[MetaAction.REFLECT] == 1:
        return Kind.CORRECTED
    return Kind.VERIFIED_THEN_CORRECTED if counts[MetaAction.EXPLORE] == 1 else Kind.CORRECTED_TWICE


def _turns(row: Row) -> tuple[str, str]:
    """What user and assistant say in a chat of one turn each; a system turn is left out."""
    messages = row.value("a chat", "messages")
    expected = "a list of one user and one assistant turn, with role and content"
    if not isinstance(messages, list | tuple) or not all(isinstance(turn, Mapping) for turn in messages):
        raise BenchmarkError(f"{row.place}, column 'messages': expected {expected}, found {type(messages).__name__}")
    turns = [turn for turn in messages if turn.get("role") != "system"]
    contents = [turn.get("content") for turn in turns]
    if [turn.get("role") for turn in turns] != ["user", "assistant"] or not all(isinstance(c, str) for c in contents):
        found = ", ".join(str(turn.get("role")) for turn in messages) or "none"
        raise BenchmarkError(f"{row.place}, column 'messages': expected {expected}, found {found}")
    return str(contents[0]), str(contents[1])
