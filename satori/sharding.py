"""Models spread over ranks with FSDP2, and the state of a training run that any number of ranks can go on from.

Each rank holds a part of every parameter, gradient and optimiser moment; a layer's parameters come together while it
computes. On one rank a model stays as it is, and everything here is a plain call.

Checkpoints are safetensors files written by torch's distributed checkpointing, each rank its own part; they load on
another number of ranks.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar

import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel

from satori import ranks
from satori.lora import has_adapters, merged, plain_name, plain_parameters
from satori.optimizers import remembered

T = TypeVar("T")

_FILE_BYTES = 1_000_000_000  # of a rank's state, about: a file is in memory twice while it is written


def shard(model: PreTrainedModel, bfloat16: bool = False) -> PreTrainedModel:
    """Spread a model over the ranks, in place, layer by layer; on one rank nothing happens.

    Gradients are summed over the ranks, not averaged. ``bfloat16``: parameters travel and multiply in that type; the
    parts that are kept, and the sums of gradients, stay as they are.
    """
    if ranks.count() == 1:
        return model
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (ranks.count(),))
    precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bfloat16 else MixedPrecisionPolicy()
    layers: Any = model.base_model.layers
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    fully_shard(model, mesh=mesh, mp_policy=precision)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    model.within_forward = MethodType(_call, model)  # type: ignore[assignment]
    register_fsdp_forward_method(model, "within_forward")
    return model


def before_sharding() -> torch.device | None:
    """Where to load a model that :func:`shard` spreads over several ranks: on the CPU. Its layers go to the GPU one
    after the other, and each keeps its part only. None where nothing is sharded: load it where it works."""
    return torch.device("cpu") if ranks.count() > 1 else None


def is_sharded(model: torch.nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def is_whole(model: torch.nn.Module) -> bool:
    """Whether a model's own parameters are what it computes with: none of them on other ranks, no adapters."""
    return not is_sharded(model) and not has_adapters(model)


def in_forward(model: PreTrainedModel, work: Callable[..., T], *arguments: Any) -> T:
    """``work(model, *arguments)``, with the parameters of a sharded model's embeddings and head at hand as they are in
    its own ``forward``. All ranks call it the same number of times."""
    if is_sharded(model):
        result: T = model.within_forward(work, *arguments)  # type: ignore[operator]
        if not torch.is_grad_enabled():  # FSDP2 keeps them whole for a backward pass, and none comes
            model.reshard()  # type: ignore[operator]
        return result
    return work(model, *arguments)


def _call(model: PreTrainedModel, work: Callable[..., T], *arguments: Any) -> T:
    return work(model, *arguments)


def full_parameters(model: PreTrainedModel, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and whole parameters, adapters merged into them, one at a time: of a sharded model no two are whole
    together. All ranks take all."""
    for name, parameter, adapter in plain_parameters(model, remove_duplicate):
        yield name, merged(_whole(parameter.detach()), adapter, _whole)


def copy_parameters(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Give an ordinary model the parameters of a sharded or adapted one of the same architecture."""
    own = dict(target.named_parameters())
    for name, whole in full_parameters(source):
        own[name].detach().copy_(whole)


def full_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """All parameters and saved buffers of a model on the first rank's CPU, a tied matrix once; empty on the others."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = ((plain_name(name), tensor) for name, tensor in model.state_dict().items() if name not in parameters)
    state = {name: tensor for name, tensor in buffers if name is not None}
    for name, whole in full_parameters(model):
        if ranks.is_first():
            state[name] = whole.cpu()
    return state if ranks.is_first() else {}


def clip_gradients(model: PreTrainedModel, limit: float) -> float:
    """Scale the gradients of a model down to this norm; returns the norm over all ranks before."""
    return float(_whole(clip_grad_norm_(model.parameters(), limit)))


def save_state(folder: Path, models: Mapping[str, tuple[PreTrainedModel, torch.optim.Optimizer]]) -> None:
    """Write the trained parameters and optimiser states of models to a folder, each rank its part."""
    state: dict[str, torch.Tensor] = {}
    for title, (model, optimizer) in models.items():
        state |= {f"{title}/{name}": parameter.detach() for name, parameter in _trained(model)}
        state |= _moments(title, model, optimizer)
    writer = HuggingFaceStorageWriter(str(folder), _files(state), save_distributed=True)
    writer.per_thread_copy_ahead = 0  # copying ahead pins host memory for all of it
    with _knowingly_alone():
        save(state, storage_writer=writer, no_dist=ranks.count() == 1)


def load_state(folder: Path, models: Mapping[str, tuple[PreTrainedModel, torch.optim.Optimizer | None]]) -> None:
    """Read what :func:`save_state` wrote, on any number of ranks; a model may do without its optimiser's state."""
    reader = HuggingFaceStorageReader(str(folder))
    saved = reader.read_metadata().state_dict_metadata
    state: dict[str, torch.Tensor] = {}
    for title, (model, optimizer) in models.items():
        for name, parameter in _trained(model):
            state[f"{title}/{name}"] = parameter.detach()
            if optimizer is None:
                continue
            start = f"{title}.optimizer/{name}/"
            for key in (key for key in saved if key.startswith(start)):
                size = saved[key].size  # type: ignore[union-attr]
                # A step count too belongs where its parameter is: a fused optimiser reads it there.
                other = torch.zeros(size, device=parameter.device)
                kept = torch.zeros_like(parameter) if size == parameter.shape else other
                remembered(optimizer, parameter)[key.removeprefix(start)] = kept
        if optimizer is not None:
            state |= _moments(title, model, optimizer)
    with _knowingly_alone():
        load(state, storage_reader=reader, no_dist=ranks.count() == 1)


def _files(state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The number of the file, from 1, that each tensor is written to."""
    numbers, total = {}, 0
    for name, tensor in state.items():
        numbers[name] = 1 + total // _FILE_BYTES
        total += _local(tensor).nbytes
    return numbers


@contextmanager
def _knowingly_alone() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _moments(title: str, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's tensors of each parameter. What its groups say (rates, betas) is the settings', not the state."""
    return {
        f"{title}.optimizer/{name}/{field}": tensor
        for name, parameter in _trained(model)
        for field, tensor in remembered(optimizer, parameter).items()
    }


def _trained(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """What an optimiser moves: beside adapters the rest stands still, and is in the checkpoint that it came from."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
