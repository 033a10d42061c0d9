"""Low-rank adapters (LoRA, through peft): the base weights stand still, and beside each chosen matrix W two small ones
learn, W + alpha / rank * B A.

The model stays of its class with peft's layers inside, so scoring, sharding and TRL's trainers work as without.
Everything that leaves training (a checkpoint that is saved, weights for an engine) is an ordinary model: the adapters
merged into their matrices, under the ordinary names. What it leaves out: matrices that are quantised, and tokens in a
head with a bias.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear
from peft.tuners.trainable_tokens import TrainableTokensLayer
from pydantic import Field
from transformers import PreTrainedModel

from satori.config import Settings
from satori.run_folder import ArtifactError

_ADAPTER = "default"
_INSERTED = {"base_layer", "token_adapter"}
"""Parts of a parameter's name that peft puts in."""
_ADDED = {"lora_A", "lora_B", "trainable_tokens_delta", "trainable_tokens_original"}
"""Parts of the names of what is not in the model without adapters."""


class LoraSettings(Settings):
    """Low-rank adapters. What is saved, and what the engine samples with, is always an ordinary model."""

    rank: int = Field(default=0, ge=0)
    """Of the adapters; 0: none, all weights are trained."""
    alpha: float = Field(default=32.0, gt=0)
    """The adapters' product is multiplied by alpha / rank. They want a learning rate of about ten times the usual."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Modules that get one: `all-linear` (every matrix of attention and MLP) or names such as [q_proj, v_proj]."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of what goes into the adapters, in supervised training; reinforcement learning has none."""


def add_adapters(
    model: PreTrainedModel, settings: LoraSettings, seed: int, trained: Sequence[str] = (), tokens: Sequence[int] = ()
) -> PreTrainedModel:
    """Give a model adapters, in place, and freeze the rest of it; with rank 0 nothing happens.

    ``trained`` names modules that are trained as they are, such as a new head. Of ``tokens`` the rows of the embeddings
    and of the output head are trained: what has just been added to a vocabulary cannot stand still. At first the model
    computes what it did. Raises ArtifactError where a target does not exist.
    """
    if not settings.rank:
        return model
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number
        lora_dropout=settings.dropout,
        target_modules=_targets(model, settings),
        trainable_token_indices=_token_rows(model, tokens) or None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for name in trained:
        model.get_submodule(name).requires_grad_(True)
    if tokens and (head := model.get_output_embeddings()) is not None:
        head.bias = None  # TRL's loss asks for it, and peft's layer would not know
    for name, parameter in model.named_parameters():
        if _ADDED.intersection(name.split(".")):
            parameter.data = parameter.data.float()  # small steps vanish in bfloat16
    return model.train(model.training)  # what has been added, too: a new dropout is on


def has_adapters(model: torch.nn.Module) -> bool:
    return any(isinstance(module, Linear | TrainableTokensLayer) for module in model.modules())


def has_tied_head(model: PreTrainedModel) -> bool:
    """Whether the output head's matrix is the embeddings'."""
    head: Any = model.get_output_embeddings()
    embeddings: Any = model.get_input_embeddings()
    return head is not None and head.weight is embeddings.weight


def plain_name(name: str) -> str | None:
    """A parameter's name in the model without adapters; None for what is part of an adapter."""
    parts = name.split(".")
    return None if _ADDED.intersection(parts) else ".".join(part for part in parts if part not in _INSERTED)


def plain_parameters(
    model: PreTrainedModel, remove_duplicate: bool = True
) -> Iterator[tuple[str, torch.nn.Parameter, torch.nn.Module | None]]:
    """The parameters of the model without adapters by their names in it, each with the adapter that changes it."""
    adapted = has_adapters(model)
    for name, parameter in model.named_parameters(remove_duplicate=remove_duplicate):
        plain = plain_name(name) if adapted else name
        owner, _, last = name.rpartition(".base_layer.")
        if plain is not None:
            yield plain, parameter, model.get_submodule(owner) if adapted and last == "weight" else None


def merged(
    weight: torch.Tensor, adapter: torch.nn.Module | None, whole: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """A whole weight matrix with its adapter in it. ``whole`` makes a tensor whole that is spread over ranks."""
    if isinstance(adapter, TrainableTokensLayer):
        learnt: Any = adapter.trainable_tokens_delta
        rows = whole(learnt[_ADAPTER].detach())
        index = torch.tensor(adapter.token_indices[_ADAPTER], device=weight.device)
        return weight.index_copy(0, index, rows.to(weight.dtype))
    if isinstance(adapter, Linear):
        matrices: tuple[Any, Any] = (adapter.lora_A[_ADAPTER].weight, adapter.lora_B[_ADAPTER].weight)
        down, up = (whole(matrix.detach()) for matrix in matrices)
        return (weight + (up @ down) * adapter.scaling[_ADAPTER]).to(weight.dtype)
    return weight


def _targets(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """Full names of the modules that get an adapter."""
    linear = [name for name, module in model.named_modules() if _is_in_layer(model, name, module)]
    if settings.targets == "all-linear":
        return linear
    known = sorted({name.rpartition(".")[2] for name in linear})
    if unknown := sorted(set(settings.targets) - set(known)):
        raise ArtifactError(
            f"lora.targets: {', '.join(unknown)} is not among the model's linear modules; it has {', '.join(known)}"
        )
    return [name for name in linear if name.rpartition(".")[2] in settings.targets]


def _is_in_layer(model: PreTrainedModel, name: str, module: torch.nn.Module) -> bool:
    heads: tuple[Any, ...] = (model.get_output_embeddings(), getattr(model, "score", None))
    return isinstance(module, torch.nn.Linear) and all(module is not head for head in heads)


def _token_rows(model: PreTrainedModel, tokens: Sequence[int]) -> dict[str, list[int]]:
    """The rows to train by the names of the embeddings and, where it is a matrix of its own, the output head."""
    embeddings: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    own_head = [] if head is None or has_tied_head(model) else [head]
    if tokens and getattr(head, "bias", None) is not None:
        raise ArtifactError("lora: tokens were added, and an output head with a bias cannot learn them so")
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(module)].rpartition(".")[2]: list(tokens) for module in (embeddings, *own_head) if tokens}
