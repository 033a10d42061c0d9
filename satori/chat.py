"""``satori chat``: ask a model a question and watch it think; reflect and explore steps are coloured as they come.

Each question is asked by itself, in the prompt of training (paper section 1), with any engine: the embedded sampler,
vLLM, or a server. What it leaves out: conversations of several turns.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

from pydantic import Field
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from satori.coat import MetaAction, encode_prompt, parse
from satori.engines.any_model import AnyModel, OpenModel, open_model
from satori.engines.base import EngineError, Piece, Sampling
from satori.engines.server_errors import ServerError
from satori.report.blocks import printable
from satori.report.canvas import ACTION_COLOURS
from satori.run_folder import ArtifactError

_NAMES = {action.value: action.name.lower() for action in MetaAction}
_LONGEST_CHARACTER = 4
"""Bytes, and so tokens at most, of one character in UTF-8."""


class ChatSettings(AnyModel):
    """How to answer."""

    temperature: float = Field(default=0.0, ge=0.0)
    max_new_tokens: int = Field(default=1024, gt=0)
    seed: int = Field(default=0, ge=0)
    show_tokens: bool = False
    """Show each token by itself, with its id."""


class Painter:
    """Turns pieces of a response into coloured text, as they come.

    Plain and continue steps are left as they are; a reflect or an explore step is coloured from its token to the next.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show_tokens: bool) -> None:
        self._tokenizer, self._show_tokens = tokenizer, show_tokens
        self._style = ""
        self._shown: list[int] = []
        self._waiting: list[int] = []

    def feed(self, piece: Piece) -> Text:
        """What to print now. Bytes of an unfinished character wait for the rest of it."""
        if piece.text is not None:
            return self._paint_text(piece.text, list(piece.token_ids))
        self._waiting += piece.token_ids
        unfinished = self._text().endswith("\ufffd") and len(self._waiting) < _LONGEST_CHARACTER
        return Text() if unfinished else self.end()

    def end(self) -> Text:
        """What still waits, as it is."""
        if not self._waiting:
            return Text()
        text, ids, self._waiting = self._text(), self._waiting, []
        self._shown = ids
        return self._paint(text, ids)

    def _text(self) -> str:
        """What the waiting tokens add to those shown last: by themselves some tokenizers leave out a leading space, and
        after a part of a character some read nothing."""
        before, both = (self._decode(ids) for ids in (self._shown, [*self._shown, *self._waiting]))
        return both[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _paint_text(self, text: str, ids: list[int]) -> Text:
        """A server may send several tokens at a time, a meta-action among them."""
        parts = [part for step in parse(text) for part in (step.action, step.text) if part]
        return Text.assemble(*(self._paint(part, ids if len(parts) == 1 else []) for part in parts))

    def _paint(self, text: str, ids: list[int]) -> Text:
        if (token := text.strip()) in _NAMES:
            name, text = _NAMES[token], token
            self._style = "" if name == "continue" else ACTION_COLOURS[name]
            shown = f"\n{text}{ids} " if self._show_tokens and ids else f"\n{text}"
            return Text(shown, style=f"bold {self._style}".strip())
        if self._show_tokens:
            return Text.assemble((printable(text), self._style), (f"{ids} " if ids else "", "dim"))
        return Text(printable(text), style=self._style)


def chat(settings: ChatSettings, console: Console, questions: Iterator[str]) -> None:
    """Answer questions until there are no more. Ctrl-C ends an answer; a second one, or the end of input, the chat.

    At a terminal a question that cannot be answered is followed by the next; otherwise its error is raised.
    """

    def show(text: Text) -> None:
        console.print(text, end="", soft_wrap=True)

    with open_model(settings) as opened:
        for number, question in enumerate(questions):
            try:
                answer(opened, settings, question, settings.seed + number, show)
            except KeyboardInterrupt:
                console.print("\n(stopped)", style="dim", end="")
            except (ArtifactError, EngineError, ServerError) as error:
                if not sys.stdin.isatty():
                    raise
                console.print(f"\n{error}", style="yellow", markup=False, highlight=False, end="")
            console.print("\n")


def answer(opened: OpenModel, settings: ChatSettings, question: str, seed: int, show: Callable[[Text], None]) -> None:
    """Answer one question, showing it as it comes. Raises ArtifactError where the question is too long."""
    ids, limit = encode_prompt(opened.tokenizer, question), opened.context_length
    sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens, context_length=limit)
    if sampling.room(ids) < 1:
        raise ArtifactError(
            f"the question has {len(ids)} tokens; the model's context of {limit} leaves no room to answer"
        )
    painter = Painter(opened.tokenizer, settings.show_tokens)
    with closing(opened.engine.stream(ids, sampling, seed)) as pieces:
        for piece in pieces:
            show(painter.feed(piece))
    show(painter.end())


def read_questions(console: Console) -> Iterator[str]:
    """Questions from the terminal, several lines each, ended by an empty line; or all of standard input as one. Bytes
    that are no text are replaced."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if not sys.stdin.isatty():
        if text := sys.stdin.read().strip():
            yield text
        return
    console.print("Ask a question; an empty line sends it, Ctrl-D ends.", style="dim")
    while True:
        lines: list[str] = []
        try:
            while (line := console.input("> " if not lines else "  ")).strip() or not lines:
                lines += [line] if line.strip() else []
        except (EOFError, KeyboardInterrupt):
            return
        yield "\n".join(lines)
