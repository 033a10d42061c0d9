"""Loading and saving checkpoints: ordinary Hugging Face folders, safetensors only, model and tokenizer together."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from satori.run_folder import ArtifactError
from satori.scoring import check_padding


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    _require(path, "tokenizer.json")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    return tokenizer


def load_any_policy(name: str, trust_remote_code: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal model and its tokenizer by checkpoint folder or hub id, weights in the type they are saved in.

    Raises ArtifactError where there is none.
    """
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            name, use_safetensors=True, dtype="auto", device_map=device(), trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{name} is neither a checkpoint folder nor a model that the hub gives: {error}") from error
    return model.eval(), tokenizer


def load_policy(path: Path) -> PreTrainedModel:
    """A causal language model, in evaluation mode on the GPU where there is one."""
    _require(path, "config.json")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, device_map=device())
    return model.eval()


def load_reward_model(path: Path) -> PreTrainedModel:
    """A reward model (one scalar head on a causal backbone); made from a causal model's folder, the head is new.

    No dropout anywhere: the same class is the critic of PPO.
    """
    _require(path, "config.json")
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=1, use_safetensors=True, attention_dropout=0.0, device_map=device()
    )
    return model.eval()


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write a checkpoint that transformers, TRL and vLLM load by its path."""
    check_padding(tokenizer)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _require(path: Path, name: str) -> None:
    if not (path / name).exists():
        raise ArtifactError(f"{path} is no checkpoint: it has no {name}")
