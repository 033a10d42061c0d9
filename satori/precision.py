"""The precision that models are trained in."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
"""`bfloat16` multiplies matrices in it and keeps weights, optimiser and losses as they are (autocast): about twice as
fast where the processor has it. `auto`: bfloat16 on a GPU, float32 on a CPU."""


def in_bfloat16(precision: Precision) -> bool:
    """Whether to train in bfloat16 on this machine."""
    return precision == "bfloat16" or (precision == "auto" and torch.cuda.is_available())


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Where forward passes belong that are trained on."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bfloat16(precision))
