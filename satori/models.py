"""Loading and saving checkpoints: ordinary Hugging Face folders, safetensors only, model and tokenizer together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from satori import ranks
from satori.run_folder import ArtifactError
from satori.scoring import check_padding
from satori.sharding import full_state, is_whole

TorchType = Literal["auto", "float32", "bfloat16"]


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    _require(path, "tokenizer.json")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    return tokenizer


def load_any_tokenizer(name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """A tokenizer by checkpoint folder or hub id. Raises ArtifactError where there is none."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise _not_there(name, error) from error
    except Exception as error:  # what JSON of another kind leads to: tokenizers raises no narrower one
        said = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{name}: its tokenizer.json or its tokenizer_config.json holds none ({said})") from error
    return tokenizer


def load_any_policy(
    name: str, trust_remote_code: bool = False, dtype: TorchType = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal model and its tokenizer by checkpoint folder or hub id; ``auto`` keeps the type of the saved weights.

    Raises ArtifactError where there is none, and where it lacks weights.
    """
    transformers_logging.disable_progress_bar()
    tokenizer = load_any_tokenizer(name, trust_remote_code)
    asked = {"dtype": dtype, "device_map": device(), "trust_remote_code": trust_remote_code}
    return _whole_model(AutoModelForCausalLM, name, "causal language model", asked), tokenizer


def context_length(path: Path) -> int | None:
    """How many tokens prompt and response may have together, where the checkpoint says."""
    _require(path, "config.json")
    return config_context_length(AutoConfig.from_pretrained(path))


def any_context_length(name: str, trust_remote_code: bool = False) -> int | None:
    """The same by checkpoint folder or hub id. Raises ArtifactError where there is no model."""
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise _not_there(name, error) from error
    return config_context_length(config)


def config_context_length(config: PreTrainedConfig) -> int | None:
    """The same by the configuration of a loaded model; None too where it says -1, for no limit."""
    length: int | None = getattr(config, "max_position_embeddings", None)
    return length if length is None or length > 0 else None


def load_policy(path: Path, on: torch.device | None = None) -> PreTrainedModel:
    """A causal language model, in evaluation mode; on the GPU where there is one if not told where."""
    _require(path, "config.json")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, device_map=on or device())
    return model.eval()


def load_reward_model(path: Path, on: torch.device | None = None) -> PreTrainedModel:
    """A reward model (one scalar head on a causal backbone); made from a causal model's folder, the head is new.

    No dropout anywhere: the same class is the critic of PPO.
    """
    _require(path, "config.json")
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        path, config=_scalar_config(path), use_safetensors=True, device_map=on or device()
    )
    return model.eval()


def load_any_reward_model(
    name: str, dtype: TorchType = "auto", on: torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A reward model and its tokenizer by checkpoint folder or hub id; on the device ``meta`` no weights are read.

    The authors' one too (Satori-RM-7B): their code may call the head otherwise, and says so in the config. The mean and
    deviation that its config may hold are not used: the paper's preference bonus is the sigmoid of the raw logit.
    Raises ArtifactError where there is none, and where it has no trained head.
    """
    tokenizer = load_any_tokenizer(name)
    try:
        config = _scalar_config(name)
    except (OSError, ValueError) as error:
        raise _not_there(name, error) from error
    head = {rf"^{re.escape(getattr(config, 'value_head_prefix', 'score'))}\.": "score."}
    asked = {"config": config, "dtype": dtype, "device_map": on or device(), "key_mapping": head}
    model = _whole_model(AutoModelForSequenceClassification, name, "reward model", asked)
    if not hasattr(model, "score"):
        raise ArtifactError(f"{name} is no reward model: {type(model).__name__} has no head called score")
    return model, tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write a checkpoint that transformers, TRL and vLLM load by its path, adapters merged, in the type it was loaded
    in (accelerate shards in float32). Of several ranks the first writes it."""
    check_padding(tokenizer)
    kind = model.config.dtype
    state = None if is_whole(model) else _in_type_of(model.config, full_state(model))
    if ranks.is_first():
        model.save_pretrained(path, state_dict=state)
        if state is not None and kind is not None:  # it wrote down the type of the parameters
            model.config.dtype = kind
            model.config.save_pretrained(path)
        tokenizer.save_pretrained(path)
    ranks.meet(f"saving {path.name}")


def _in_type_of(config: PreTrainedConfig, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = str(config.dtype).removeprefix("torch.")  # saving a model turns its config's type into a name
    kind = getattr(torch, named) if config.dtype else None
    return {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def device() -> torch.device:
    """This rank's GPU, with its number (transformers loads in threads, whose current GPU is the first); or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _scalar_config(name: str | Path) -> PreTrainedConfig:
    """A model's configuration with one label and without dropout, whatever the architecture calls it."""
    config: PreTrainedConfig = AutoConfig.from_pretrained(name, num_labels=1)
    for key, value in config.to_dict().items():
        if "drop" in key and isinstance(value, float):
            setattr(config, key, 0.0)
    return config


def _whole_model(factory: Any, name: str, kind: str, asked: Mapping[str, object]) -> PreTrainedModel:
    """A model of a checkpoint that has all of its weights: transformers alone would go on with random numbers in the
    place of others. Raises ArtifactError naming one."""
    try:
        model, loaded = factory.from_pretrained(
            name, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **asked
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_there(name, error) from error
    if missing := sorted(loaded["missing_keys"]):
        raise ArtifactError(f"{name} is no {kind}: it has no weights for {', '.join(missing[:3])}")
    for key, found, expected in sorted(loaded["mismatched_keys"]):
        raise ArtifactError(
            f"{name} is no {kind} of its config.json: {key} has the shape {tuple(found)}, expected {tuple(expected)}"
        )
    whole: PreTrainedModel = model.eval()
    return whole


def _not_there(name: str, error: Exception) -> ArtifactError:
    return ArtifactError(f"{name} is neither a checkpoint folder nor a model that the hub gives: {error}")


def _require(path: Path, name: str) -> None:
    if not (path / name).exists():
        raise ArtifactError(f"{path} is no checkpoint: it has no {name}")
