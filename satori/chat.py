"""``satori chat``: ask a model a question and watch it think; reflect and explore steps are coloured as they come.

Each question is asked by itself, in the prompt of training (paper section 1). The embedded sampler gives whole
responses, so tokens stream from transformers' ``generate`` here. What it leaves out: engines other than a model in
this process, and conversations of several turns.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import Field
from rich.console import Console
from rich.text import Text
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from satori.coat import MetaAction, encode_prompt
from satori.config import Settings
from satori.models import load_any_policy
from satori.report.blocks import printable
from satori.report.canvas import ACTION_COLOURS
from satori.run_folder import ArtifactError

_NAMES = {action.value: action.name.lower() for action in MetaAction}


class ChatSettings(Settings):
    """How to answer."""

    model: str
    """A checkpoint folder or a hub id."""
    temperature: float = Field(default=0.0, ge=0.0)
    max_new_tokens: int = Field(default=1024, gt=0)
    seed: int = Field(default=0, ge=0)
    show_tokens: bool = False
    """Show each token by itself, with its id."""
    trust_remote_code: bool = False


class Painter:
    """Turns token ids into pieces of coloured text, as they come.

    Plain and continue steps are left as they are; a reflect or an explore step is coloured from its token to the next.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show_tokens: bool) -> None:
        self._tokenizer, self._show_tokens = tokenizer, show_tokens
        self._style = ""
        self._waiting: list[int] = []

    def feed(self, token_id: int) -> Text:
        """What to print now. Bytes of an unfinished character wait for the rest of it."""
        self._waiting.append(token_id)
        text = str(self._tokenizer.decode(self._waiting, skip_special_tokens=False))
        if text.endswith("\ufffd") and len(self._waiting) < 4:
            return Text()
        ids, self._waiting = self._waiting, []
        if text in _NAMES:
            name = _NAMES[text]
            self._style = "" if name == "continue" else ACTION_COLOURS[name]
            return Text(
                f"\n{text}" if not self._show_tokens else f"\n{text}{ids} ", style=f"bold {self._style}".strip()
            )
        if self._show_tokens:
            return Text.assemble((printable(text), self._style), (f"{ids} ", "dim"))
        return Text(printable(text), style=self._style)


class _Stream(BaseStreamer):
    """Prints what ``generate`` samples."""

    def __init__(self, painter: Painter, stop_ids: frozenset[int], show: Callable[[Text], None]) -> None:
        self._painter, self._stop_ids, self._show = painter, stop_ids, show
        self._seen_prompt = False

    def put(self, value: torch.Tensor) -> None:
        if not self._seen_prompt:  # generate hands over the prompt first
            self._seen_prompt = True
            return
        for token_id in value.flatten().tolist():
            if token_id not in self._stop_ids:
                self._show(self._painter.feed(token_id))

    def end(self) -> None:
        """Nothing is kept back."""


def chat(settings: ChatSettings, console: Console, questions: Iterator[str]) -> None:
    """Answer questions until there are no more. Ctrl-C ends an answer; a second one, or the end of input, the chat."""
    model, tokenizer = load_any_policy(settings.model, settings.trust_remote_code)
    for number, question in enumerate(questions):
        try:
            answer(
                model, tokenizer, settings, question, settings.seed + number, lambda text: console.print(text, end="")
            )
        except KeyboardInterrupt:
            console.print("\n(stopped)", style="dim", end="")
        console.print("\n")


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: ChatSettings,
    question: str,
    seed: int,
    show: Callable[[Text], None],
) -> None:
    """Answer one question, showing it as it comes. Raises ArtifactError where the question is too long."""
    ids = encode_prompt(tokenizer, question)
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    room = settings.max_new_tokens if limit is None else min(settings.max_new_tokens, limit - len(ids))
    if room < 1:
        raise ArtifactError(
            f"the question has {len(ids)} tokens; the model's context of {limit} leaves no room to answer"
        )
    stops = getattr(model.generation_config, "eos_token_id", None)
    stop_ids = frozenset([tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])]) - {None}
    config = GenerationConfig(
        max_new_tokens=room,
        do_sample=settings.temperature > 0,
        temperature=settings.temperature or None,
        eos_token_id=sorted(stop_ids),
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    input_ids = torch.tensor([ids], device=model.device)
    generate: Any = model.generate
    generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        generation_config=config,
        streamer=_Stream(Painter(tokenizer, settings.show_tokens), stop_ids, show),
    )


def read_questions(console: Console) -> Iterator[str]:
    """Questions from the terminal, several lines each, ended by an empty line; or all of standard input as one."""
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
