"""The authors' data set for reinforcement learning, Satori_RL_data_with_RAE (paper section 6, appendix D.3): read and
written in its own format.

``query`` is a rendered prompt and, for a restart, the half-finished response after the assistant header; ``answer``;
``reflect_status`` is 0 for a plain problem, 1 and -1 for a restart from a correct and an incorrect trajectory.
Satori_RL_data, the plain problems alone, may lack the last column.

Prompts are kept word for word, since the released checkpoints were trained on them.

What a text format loses: a restart prefix is encoded again, so where a policy had sampled other token ids for the same
text those are not had back; and of our problems' answers only the text is written, not the kind.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from satori.authors.prompts import rendered, split_query
from satori.benchmarks.rows import BenchmarkError, Row, UnusableRow
from satori.coat import MetaAction, meta_action_ids, render_prompt
from satori.grading.forms import AnswerForm, AnswerKind
from satori.problems.questions import question_key
from satori.problems.row_streams import RowSettings, RowStream, stream_rows
from satori.problems.sources import text_or_number
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rollouts import InitialState
from satori.run_folder import write_jsonl
from satori.types import Problem

_STATUS = {0: Start.PROBLEM, 1: Start.POSITIVE, -1: Start.NEGATIVE}


class ReleasedStates(RowSettings):
    """The authors' initial states for reinforcement learning."""

    hub: str = "Satori-reasoning/Satori_RL_data_with_RAE"
    answer_kind: AnswerKind = AnswerKind.LATEX
    """How answers are read and compared."""
    own_prompt: bool = False
    """Ask each question as our own prompts do, instead of keeping the released prompt word for word."""
    longest: int = Field(default=0, ge=0)
    """Tokens of prompt and prefix together; longer states are left out, never cut. 0: restarts.max_prompt_tokens."""


@dataclass(frozen=True)
class ReleasedState:
    """An initial state as text: the prompt up to and with the assistant header, and the restart prefix after it."""

    question: str
    answer: str
    start: Start
    prompt: str
    prefix: str = ""


def read_states(settings: ReleasedStates, tokenizer: PreTrainedTokenizerBase) -> RowStream[ReleasedState]:
    """The states, one at a time, checked. Raises ValueError where the tokenizer splits a meta-action.

    A row of another form raises SourceError, naming it and what was expected; a row that has no answer, or is too
    long, is counted.
    """
    meta_action_ids(tokenizer)

    def read(place: str, record: Mapping[str, Any]) -> ReleasedState:
        state = read_state(Row("", place, record))
        if settings.longest and sum(map(len, encode_state(state, tokenizer, settings.own_prompt))) > settings.longest:
            raise UnusableRow(f"prompt and prefix of more than {settings.longest} tokens")
        return state

    return RowStream(stream_rows(settings), read, settings)


def read_state(row: Row) -> ReleasedState:
    """One row. Raises BenchmarkError where it is not of the released form, UnusableRow where it has no answer."""
    query, answer = row.text("query"), text_or_number(row, "answer")
    try:
        question, prompt, prefix = split_query(query)
        start = _start(row.record.get("reflect_status"))
        check_prefix(start, prefix)
    except ValueError as error:
        raise BenchmarkError(f"{row.place}: {error}") from error
    return ReleasedState(question, answer.strip(), start, prompt, prefix)


def check_prefix(start: Start, prefix: str) -> None:
    """Raise ValueError where a restart prefix does not go with its kind of start."""
    if start is Start.PROBLEM and prefix:
        raise ValueError(f"a plain problem (reflect_status 0) has a restart prefix: {prefix[:60]!r}…")
    if start is not Start.PROBLEM and not prefix.rstrip().endswith(MetaAction.REFLECT):
        raise ValueError(
            f"the prefix of a {start} restart does not end in {MetaAction.REFLECT}, but in {prefix[-60:]!r}"
        )


def _start(status: object) -> Start:
    """Without a status a state is a plain problem, as in the authors' code."""
    if status is None:
        return Start.PROBLEM
    if isinstance(status, bool) or not isinstance(status, int | float) or status not in _STATUS:
        raise ValueError(f"column 'reflect_status': expected 0, 1 or -1, found {status!r}")
    return _STATUS[int(status)]


class InitialStates(Sequence[InitialState]):
    """Initial states kept as text and encoded when drawn: token ids take ten times the memory of the text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, form: AnswerForm, own_prompt: bool) -> None:
        self._states: list[ReleasedState] = []
        self._tokenizer, self._form, self._own_prompt = tokenizer, form, own_prompt

    def append(self, state: ReleasedState) -> None:
        self._states.append(state)

    def __len__(self) -> int:
        return len(self._states)

    @overload
    def __getitem__(self, index: int) -> InitialState: ...
    @overload
    def __getitem__(self, index: slice) -> list[InitialState]: ...
    def __getitem__(self, index: int | slice) -> InitialState | list[InitialState]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        state = self._states[index]
        prompt_ids, prefix_ids = encode_state(state, self._tokenizer, self._own_prompt)
        id = f"satori-rl-{question_key(state.question) >> 64:016x}"
        return InitialState(
            Problem(id, state.question, state.answer, form=self._form), state.start, prompt_ids, prefix_ids
        )


def initial_states_of(
    states: Iterable[ReleasedState], settings: ReleasedStates, tokenizer: PreTrainedTokenizerBase
) -> dict[Start, InitialStates]:
    """What reinforcement learning draws from, by kind of start; states of one question have one problem id."""
    form = AnswerForm(kind=settings.answer_kind)
    found = {start: InitialStates(tokenizer, form, settings.own_prompt) for start in Start}
    for state in states:
        found[state.start].append(state)
    return found


def encode_state(
    state: ReleasedState, tokenizer: PreTrainedTokenizerBase, own_prompt: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of prompt and prefix, each encoded by itself: a response never shares a token with its prompt."""
    prompt = render_prompt(tokenizer, state.question) if own_prompt else state.prompt
    ids = [tokenizer.encode(text, add_special_tokens=False) if text else [] for text in (prompt, state.prefix)]
    return tuple(ids[0]), tuple(ids[1])


def write_states(path: Path, states: Iterable[InitialState], tokenizer: PreTrainedTokenizerBase) -> Counter[Start]:
    """Write initial states as the authors do, as JSON lines; returns how many of each kind.

    Raises ValueError for a state that their format cannot hold.
    """
    counts: Counter[Start] = Counter()

    def records() -> Iterator[dict[str, Any]]:
        for state in states:
            counts[state.start] += 1
            yield released_record(state, tokenizer)

    write_jsonl(path, records())
    return counts


def released_record(state: InitialState, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The row of a state."""
    problem, prefix = state.problem, str(tokenizer.decode(list(state.prefix_ids), skip_special_tokens=False))
    query = rendered(problem.question) + prefix
    try:
        if problem.form.kind is AnswerKind.TASK:
            raise ValueError(f"its answer can only be scored by the reasoning-gym task {problem.form.task}")
        check_prefix(state.start, prefix)
        if split_query(query)[0] != problem.question.strip():
            raise ValueError("its question has turns of a chat in it")
    except ValueError as error:
        raise ValueError(f"problem {problem.id} cannot be written in the authors' format: {error}") from error
    return _record(query, problem.answer, state.start)


def write_rows(path: Path, states: Iterable[ReleasedState]) -> None:
    """Write states that were read from the data set back as its rows, word for word."""
    write_jsonl(path, (_record(state.prompt + state.prefix, state.answer, state.start) for state in states))


def _record(query: str, answer: str, start: Start) -> dict[str, Any]:
    status = next(number for number, known in _STATUS.items() if known is start)
    return {"query": query, "answer": answer, "reflect_status": status}
