"""What of a model counts for memory and time, from its config.json; no weights are read and no model is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from satori.base_model import EMBEDDED, SMOLLM2
from satori.lora import LoraSettings
from satori.models import config_context_length
from satori.pretraining import SHIPPED_BASE
from satori.recipe import RecipeError

_KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-Math-7B": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
        "max_position_embeddings": 4096, "dtype": "bfloat16",
    },
    "Qwen/Qwen2.5-0.5B-Instruct": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        "max_position_embeddings": 32768, "dtype": "bfloat16",
    },
    SMOLLM2: {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
        "max_position_embeddings": 8192, "dtype": "float32",
    },
}  # fmt: skip
"""The shapes of the models that our recipes name, as their config.json gives them."""


@dataclass(frozen=True)
class Shape:
    """What of a model counts for memory and time."""

    name: str
    parameters: int
    """A tied matrix counts once."""
    vocabulary_matrix: int
    """Parameters of the embeddings; the output head has as many."""
    tied: bool
    """Whether the head is the embeddings' matrix."""
    layers: int
    hidden: int
    intermediate: int
    """Width of the MLP."""
    layer_parameters: int
    """Of one layer."""
    cache_width: int
    """Numbers that a token leaves in the cache of keys and values of one layer."""
    matrices: tuple[tuple[str, int, int], ...]
    """Name, input and output width of each matrix of a layer."""
    context: int | None
    """Tokens of prompt and response together that the model is made for."""
    saved_bytes: int
    """Of one saved weight."""

    @property
    def scalar_parameters(self) -> int:
        """Of a critic or reward model made from it: no output head, one row instead."""
        return self.parameters - (0 if self.tied else self.vocabulary_matrix) + self.hidden

    def adapter_parameters(self, settings: LoraSettings) -> int:
        """Of low-rank adapters; 0 without. Raises RecipeError for a target that no layer has."""
        names = [name for name, _, _ in self.matrices]
        targets = names if settings.targets == "all-linear" else settings.targets
        if unknown := sorted(set(targets) - set(names)):
            raise RecipeError(f"lora.targets: {self.name} has no {', '.join(unknown)}; it has {', '.join(names)}")
        widths = sum(into + out for name, into, out in self.matrices if name in targets)
        return self.layers * settings.rank * widths


def shape_of(name: str) -> Shape:
    """The shape of a recipe's model. Raises RecipeError where it is neither a folder nor a model known here."""
    if name == EMBEDDED:
        return measure(name, AutoConfig.from_pretrained(SHIPPED_BASE))
    if (Path(name) / "config.json").exists():
        return measure(name, _read(name))
    if name not in _KNOWN:
        raise RecipeError(
            f"model.name: the shape of {name} is not known here; give --model.name a folder with its config.json, "
            f"or one of {', '.join(_KNOWN)}"
        )
    return measure(name, AutoConfig.for_model(**_KNOWN[name]))


def _read(folder: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise RecipeError(f"model.name: {folder}/config.json cannot be read: {error}") from error


def measure(name: str, config: PretrainedConfig) -> Shape:
    """Counts the parameters of a model on the meta device, where it takes no memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head, embeddings = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    tied = head is embeddings or bool(config.tie_word_embeddings)
    twice = tied and head is not embeddings  # on the meta device a tied matrix may have two names and no common tensor
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layer = model.base_model.layers[0]
    return Shape(
        name=name,
        parameters=sum(p.numel() for p in model.parameters()) - (head.numel() if twice else 0),
        vocabulary_matrix=embeddings.numel(),
        tied=tied,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layer_parameters=sum(p.numel() for p in layer.parameters()),
        cache_width=2 * config.num_key_value_heads * size,
        matrices=tuple(
            (title.rpartition(".")[2], part.in_features, part.out_features)
            for title, part in layer.named_modules()
            if isinstance(part, torch.nn.Linear)
        ),
        context=config_context_length(config),
        saved_bytes=2 if config.dtype in (torch.bfloat16, torch.float16) else 4,
    )
