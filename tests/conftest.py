"""Shared fixtures: tiny tokenizers and models, built on the spot, so that the tests need no network and no GPU."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read at import: without it a name that is nowhere is asked for again and again

import pytest
import torch
from hypothesis import settings
from small_run import arguments
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from satori.cli import main
from satori.coat import add_meta_actions
from satori.tiny_model import build_model, build_tokenizer

torch.set_num_threads(1)
settings.register_profile("satori", deadline=None, derandomize=True, database=None, max_examples=150)
settings.load_profile("satori")

PAD, EOS, VOCABULARY = 0, 1, 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few tests first: theirs are the long ones, which would keep one worker busy alone at the end."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: tests[item.path])


def sharpen(model: PreTrainedModel, factor: float = 6.0) -> PreTrainedModel:
    """Scale the weight matrices of a fresh model: at its initial scale it would say nearly the same everywhere."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model.eval()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run's folder, complete. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(arguments(out)) == 0
    return out


@pytest.fixture(scope="session")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that start with everything imported, so that kills fall into the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_run", "satori.pipeline"])
    return context


@pytest.fixture(scope="session")
def embedded() -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """The embedded tokenizer and a random embedded model, meta-actions added. Not to be changed by a test."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, hidden_size=32, layers=2, heads=2, seed=3)
    add_meta_actions(model, tokenizer)
    return tokenizer, sharpen(model)


@pytest.fixture(scope="session")
def tokenizer(embedded: tuple[PreTrainedTokenizerFast, PreTrainedModel]) -> PreTrainedTokenizerFast:
    return embedded[0]


@pytest.fixture(scope="session")
def model(embedded: tuple[PreTrainedTokenizerFast, PreTrainedModel]) -> PreTrainedModel:
    return embedded[1]


def _config(vocabulary: int, kv_heads: int, **other: object) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=128,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        **other,
    )


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Qwen2ForCausalLM]:
    """A fresh random causal model with a vocabulary of 40: token 0 is padding, 1 the end token."""

    def make(kv_heads: int = 1, seed: int = 0, vocabulary: int = VOCABULARY, factor: float = 6.0) -> Qwen2ForCausalLM:
        torch.manual_seed(seed)
        return sharpen(Qwen2ForCausalLM(_config(vocabulary, kv_heads, tie_word_embeddings=False)), factor)

    return make


@pytest.fixture(scope="session")
def make_critic() -> Callable[..., Qwen2ForSequenceClassification]:
    """A fresh random reward model (or critic) for the same vocabulary."""

    def make(seed: int = 1, factor: float = 6.0) -> Qwen2ForSequenceClassification:
        torch.manual_seed(seed)
        return sharpen(Qwen2ForSequenceClassification(_config(VOCABULARY, 2, num_labels=1)), factor)

    return make
