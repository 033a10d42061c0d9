"""The precision that models are trained in."""

import warnings
from contextlib import AbstractContextManager
from functools import cache
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]
"""`bfloat16` multiplies matrices in it and keeps weights, optimiser and losses as they are (autocast): about twice as
fast where the processor has it. `auto`: bfloat16 on a GPU that has it, float32 elsewhere."""

_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # of x86 and ARM


def in_bfloat16(precision: Precision) -> bool:
    """Whether to train in bfloat16 on this machine. Warns, once, where that is slower than float32."""
    if precision == "bfloat16":
        _warn_if_emulated()
    return precision == "bfloat16" or (precision == "auto" and torch.cuda.is_available() and _is_native())


def _is_native() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in _BFLOAT16_INSTRUCTIONS)


@cache
def _warn_if_emulated() -> None:
    if not _is_native():
        warnings.warn(
            "precision: bfloat16 on a processor without instructions for it: each product is several times slower "
            "than in float32. Set precision: float32.",
            stacklevel=3,
        )


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Where forward passes belong that are trained on."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bfloat16(precision))
