"""Muon for the matrices of a model's layers, AdamW for everything else, as one optimiser.

At the size of the embedded model Muon learns several times as much in a step (LOG.md); the scale of its update is
matched to AdamW's, so that one learning rate serves both.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import torch


class OptimizerKind(StrEnum):
    ADAMW = "adamw"
    MUON = "muon"


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimisers behind one interface: one list of parameter groups, one step, one state."""

    def __init__(self, model: torch.nn.Module, lr: float) -> None:
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in trained if is_layer_matrix(name, p)]
        others = [p for name, p in trained if not is_layer_matrix(name, p)]
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        )
        if others:  # adapters alone are matrices, all of them
            self.parts += (torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),)
        super().__init__([*matrices, *others], {"lr": lr})
        # The parts' own groups, so that a scheduler that sets a group's learning rate reaches them.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def remembered(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """What an optimiser remembers of a parameter, such as its moments; to read and to fill."""
    for part in optimizer.parts if isinstance(optimizer, MuonWithAdamW) else (optimizer,):
        if any(parameter is own for group in part.param_groups for own in group["params"]):
            state: dict[str, torch.Tensor] = part.state[parameter]
            return state
    raise ValueError("the optimiser does not have this parameter")


def is_layer_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """True for the weight matrices of attention and MLP; false for embeddings, heads, norms and biases."""
    return parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "score"))


def make_optimizer(model: torch.nn.Module, kind: OptimizerKind, lr: float) -> torch.optim.Optimizer:
    """The optimiser of a kind over those of a model's parameters that are trained, without weight decay."""
    if kind is OptimizerKind.MUON:
        return MuonWithAdamW(model, lr)
    return torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr, weight_decay=0.0, fused=True)
