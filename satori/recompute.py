"""Activations computed again in the backward pass: between the forward and the backward pass only what goes into each
layer is kept. Memory falls by most of what a layer keeps inside, for about one forward pass more; the numbers are the
same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

Recompute = bool | Literal["auto"]
"""`auto`: on a GPU."""


def recomputes(setting: Recompute) -> bool:
    """Whether activations are computed again on this machine."""
    return torch.cuda.is_available() if setting == "auto" else setting


@contextmanager
def recomputing(model: PreTrainedModel, setting: Recompute) -> Iterator[None]:
    """Where forward passes belong that are trained on; the backward pass may come later.

    The switch of transformers is not used: it works in training mode only, where a model may have dropout, and PPO's
    ratios must have none.
    """
    layers: Any = model.base_model.layers if recomputes(setting) else ()
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=model.training)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again
