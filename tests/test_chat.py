"""``satori chat``: colours by meta-action, tokens that make up one character, limits, what the terminal is sent."""

import io

import pytest
from rich.console import Console

from satori.chat import ChatSettings, Painter, answer, chat
from satori.coat import encode_prompt
from satori.engines.base import Sampling
from satori.engines.torch_engine import TorchEngine
from satori.models import save
from satori.report.canvas import ACTION_COLOURS
from satori.run_folder import ArtifactError


def paint(tokenizer, text, show_tokens=False):
    painter = Painter(tokenizer, show_tokens)
    return [painter.feed(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def test_reflect_and_explore_steps_are_coloured_and_continue_ends_the_colour(tokenizer):
    pieces = paint(tokenizer, "a<|reflect|>b<|explore|>c<|continue|>d")
    styles = {piece.plain.strip(): str(piece.style) for piece in pieces}
    assert styles["a"] == styles["d"] == ""
    assert styles["b"] == ACTION_COLOURS["reflect"]
    assert styles["c"] == ACTION_COLOURS["explore"]
    assert styles["<|reflect|>"] == f"bold {ACTION_COLOURS['reflect']}"
    assert "".join(piece.plain for piece in pieces) == "a\n<|reflect|>b\n<|explore|>c\n<|continue|>d"


def test_tokens_can_be_shown_with_their_ids(tokenizer):
    [piece] = paint(tokenizer, "7", show_tokens=True)
    assert piece.plain == f"7[{tokenizer.encode('7', add_special_tokens=False)[0]}] "


def test_nothing_a_model_says_controls_the_terminal():
    class Rude:
        def decode(self, ids, skip_special_tokens):
            return "\x1b[2J[bold]"

    assert Painter(Rude(), False).feed(5).plain == "\ufffd[2J[bold]"


def test_the_streamed_answer_is_the_sampled_one(model, tokenizer):
    pieces = []
    settings = ChatSettings(model="-", max_new_tokens=20)
    answer(model, tokenizer, settings, "2+3=?", 0, lambda text: pieces.append(text.plain))
    engine = TorchEngine(model, tokenizer.eos_token_id)
    sampling = Sampling(temperature=0, max_new_tokens=20)
    [(_, completion)] = engine.generate([encode_prompt(tokenizer, "2+3=?")], sampling, 0)
    painter = Painter(tokenizer, False)
    ids = [token for token in completion.token_ids if token != tokenizer.eos_token_id]
    assert "".join(pieces) == "".join(painter.feed(token).plain for token in ids)


def test_a_question_without_room_for_an_answer_is_refused(model, tokenizer):
    limit = model.config.max_position_embeddings
    with pytest.raises(ArtifactError, match=f"context of {limit} leaves no room"):
        answer(model, tokenizer, ChatSettings(model="-"), "1+" * limit, 0, print)


def test_every_question_gets_an_answer_of_its_own(embedded, tmp_path):
    tokenizer, model = embedded
    save(model, tokenizer, tmp_path / "m")
    console = Console(file=io.StringIO(), width=100)
    chat(ChatSettings(model=str(tmp_path / "m"), max_new_tokens=5, temperature=1), console, iter(["1+1=?", "2+2=?"]))
    assert len(console.file.getvalue().strip().split("\n\n")) >= 2
