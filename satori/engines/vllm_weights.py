"""Weights for a running vLLM engine: which tensors it needs, and whether it took them all."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from satori.engines.base import EngineError
from satori.lora import plain_parameters
from satori.sharding import full_parameters

Weights = Iterable[tuple[str, torch.Tensor]]
"""Tensors by their names in a checkpoint."""

Shapes = Mapping[str, torch.Size]

_HEAD = "lm_head.weight"
_EMBEDDINGS = "model.embed_tokens.weight"


def parameter_shapes(checkpoint: str, trust_remote_code: bool = False) -> Shapes:
    """The shapes of a checkpoint's parameters, a tied head under both of its names; no weights are read."""
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return {name: tensor.shape for name, tensor in unmerged_weights(model)}


def unmerged_weights(model: PreTrainedModel) -> Weights:
    """The weights of a model in training as they lie, without what its adapters add; a tied head under both of its
    names."""
    return ((name, tensor.detach()) for name, tensor, _ in plain_parameters(model, remove_duplicate=False))


def live_weights(model: PreTrainedModel) -> Weights:
    """All weights of a model in training, adapters merged, one by one; a tied head under both of its names."""
    return full_parameters(model, remove_duplicate=False)


def with_tied_head(pairs: Weights, shapes: Shapes) -> Weights:
    """The pairs, and the embeddings once more as the head where no pair is the head.

    A head that shares its matrix is missing in ``named_parameters``, but the engine keeps a matrix of its own for it
    (on a CPU, packed): without its name it would go on sampling with the old one.
    """
    found, missing = None, _HEAD in shapes
    for name, tensor in pairs:
        if name == _HEAD:
            missing = False
        elif name == _EMBEDDINGS:
            found = tensor
        yield name, tensor
    if missing and found is not None:
        yield _HEAD, found


def check_each(pairs: Weights, shapes: Shapes) -> Weights:
    """The pairs as they are. Raises EngineError at one that is not a parameter of that shape, and after the last where
    one was missing: vLLM would leave a part of a joined matrix as it finds it in memory."""
    missing = set(shapes)
    for name, tensor in pairs:
        if name not in shapes:
            raise EngineError(f"the model that vLLM runs has no parameter {name}")
        if tensor.shape != shapes[name]:
            raise EngineError(
                f"{name} has the shape {tuple(tensor.shape)}; in the checkpoint that vLLM runs it is "
                f"{tuple(shapes[name])}"
            )
        missing.discard(name)
        yield name, tensor
    if missing:
        raise EngineError(f"{len(missing)} parameters were not given, such as {min(missing)}")


def check_all(pairs: Weights, shapes: Shapes) -> None:
    """See :func:`check_each`, for all pairs at once."""
    for _ in check_each(pairs, shapes):
        pass


@contextmanager
def all_taken() -> Iterator[None]:
    """Raises EngineError where vLLM says that it kept old weights: it only logs a warning, and samples on."""
    logger = logging.getLogger("vllm.model_executor.model_loader.reload.inplace")
    said = _Warnings()
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(said)
    try:
        yield
    finally:
        logger.removeHandler(said)
        logger.level, logger.propagate = before
    if said.messages:
        raise EngineError(f"vLLM kept old weights: {' '.join(said.messages)[:500]}")


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
