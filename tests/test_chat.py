"""``satori chat``: colours by meta-action, tokens that make up one character, limits, what the terminal is sent."""

import io
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from satori.chat import ChatSettings, Painter, answer, chat, read_questions
from satori.coat import encode_prompt
from satori.engines.any_model import OpenModel
from satori.engines.base import Piece, Sampling
from satori.engines.torch_engine import TorchEngine
from satori.models import save
from satori.report.canvas import ACTION_COLOURS
from satori.run_folder import ArtifactError


def paint(tokenizer, text, show_tokens=False):
    painter = Painter(tokenizer, show_tokens)
    return [painter.feed(Piece((token,))) for token in tokenizer.encode(text, add_special_tokens=False)]


@pytest.fixture
def opened(model, tokenizer):
    return OpenModel(TorchEngine(model, tokenizer.eos_token_id), tokenizer, model.config.max_position_embeddings)


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
        def decode(self, ids, **options):
            return "\x1b[2J[bold]" * len(ids)

    assert Painter(Rude(), False).feed(Piece((5,))).plain == "\ufffd[2J[bold]"


def test_a_tokenizer_that_strips_the_leading_space_loses_none_between_tokens():
    vocabulary = {word: number for number, word in enumerate(["<unk>", "▁Hello", "▁world", "▁is", "▁1", "2"])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    plain.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    painter = Painter(PreTrainedTokenizerFast(tokenizer_object=plain), False)
    assert "".join(painter.feed(Piece((token,))).plain for token in range(1, 6)) == "Hello world is 12"


def test_characters_that_a_vocabulary_holds_as_bytes_only_come_whole():
    text = "你好吗世界"
    tokens = [f"<0x{byte:02X}>" for byte in text.encode()]
    vocabulary = {token: number for number, token in enumerate(["<unk>", *dict.fromkeys(tokens)])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    plain.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    painter = Painter(PreTrainedTokenizerFast(tokenizer_object=plain), False)
    assert "".join(painter.feed(Piece((vocabulary[token],))).plain for token in tokens) == text


def test_what_waits_when_an_answer_ends_is_shown(tokenizer):
    painter, first = Painter(tokenizer, False), tokenizer.encode("é", add_special_tokens=False)[0]
    assert painter.feed(Piece((first,))).plain == ""
    assert painter.end().plain == "\ufffd"
    assert painter.end().plain == ""


def test_a_server_without_token_ids_shows_no_brackets(tokenizer):
    assert Painter(tokenizer, True).feed(Piece((), "a<|reflect|> b")).plain == "a\n<|reflect|> b"


def test_at_a_terminal_a_question_that_cannot_be_answered_is_followed_by_the_next(
    model, tokenizer, tmp_path, monkeypatch
):
    save(model, tokenizer, tmp_path / "model")
    settings, output = ChatSettings(model=str(tmp_path / "model"), max_new_tokens=5), io.StringIO()
    questions = ["1+1=?" * 2000, "2+3=?"]
    with pytest.raises(ArtifactError, match="leaves no room"):
        chat(settings, Console(file=output), iter(questions))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    asked = iter(questions)
    chat(settings, Console(file=output, width=500), asked)
    assert "leaves no room to answer" in output.getvalue()
    assert next(asked, None) is None


def test_text_of_a_server_is_coloured_as_tokens_are(tokenizer):
    painted = Painter(tokenizer, False).feed(Piece((), "a<|reflect|> b<|continue|>c"))
    assert painted.plain == "a\n<|reflect|> b\n<|continue|>c"
    colours = {painted.plain[span.start : span.end]: str(span.style) for span in painted.spans}
    assert colours[" b"] == ACTION_COLOURS["reflect"] and "c" not in colours


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_streamed_answer_is_the_sampled_one(opened, temperature):
    pieces, tokenizer = [], opened.tokenizer
    settings = ChatSettings(model="-", max_new_tokens=20, temperature=temperature)
    answer(opened, settings, "2+3=?", 7, lambda text: pieces.append(text.plain))
    sampling = Sampling(temperature=temperature, max_new_tokens=20)
    [(_, completion)] = opened.engine.generate([encode_prompt(tokenizer, "2+3=?")], sampling, 7)
    painter = Painter(tokenizer, False)
    ids = [token for token in completion.token_ids if token != tokenizer.eos_token_id]
    shown = "".join(painter.feed(Piece((token,))).plain for token in ids)
    assert "".join(pieces) == shown + painter.end().plain


def test_a_stream_ends_before_the_end_token(opened):
    prompt = encode_prompt(opened.tokenizer, "2+3=?")
    sampling = Sampling(temperature=0, max_new_tokens=20)
    [(_, free)] = opened.engine.generate([prompt], sampling, 0)
    stop = free.token_ids[5]
    stopping = TorchEngine(opened.engine.model, stop)
    streamed = [i for piece in stopping.stream(prompt, sampling, 0) for i in piece.token_ids]
    assert streamed == list(free.token_ids[: free.token_ids.index(stop)])


def test_a_question_without_room_for_an_answer_is_refused(opened):
    with pytest.raises(ArtifactError, match=f"context of {opened.context_length} leaves no room"):
        answer(opened, ChatSettings(model="-"), "1+" * opened.context_length, 0, print)


def test_every_question_gets_an_answer_of_its_own(embedded, tmp_path):
    tokenizer, model = embedded
    save(model, tokenizer, tmp_path / "m")
    console = Console(file=io.StringIO(), width=100)
    chat(ChatSettings(model=str(tmp_path / "m"), max_new_tokens=5, temperature=1), console, iter(["1+1=?", "2+2=?"]))
    assert len(console.file.getvalue().strip().split("\n\n")) >= 2


def test_long_pieces_of_a_server_are_not_broken_into_lines(tokenizer, monkeypatch):
    engine = SimpleNamespace(stream=lambda ids, sampling, seed: (Piece((), "one two " * 40) for _ in range(1)))
    monkeypatch.setattr("satori.chat.open_model", lambda settings: nullcontext(OpenModel(engine, tokenizer, None)))
    console = Console(file=io.StringIO(), width=80)
    chat(ChatSettings(model="-"), console, iter(["1+1=?"]))
    assert console.file.getvalue() == "one two " * 40 + "\n\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_of_a_question_that_are_no_text_are_replaced(monkeypatch, errors):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 12 + 3\n"), "utf-8", errors))
    assert list(read_questions(Console(file=io.StringIO()))) == ["caf\ufffd 12 + 3"]
