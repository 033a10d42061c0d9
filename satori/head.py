"""A language model's output head over many tokens, without keeping their logits.

At a vocabulary of 152k the float32 logits of 8k tokens take 5 GB, and a plain backward pass keeps three such tensors.
Here the head runs over a few tokens at a time and keeps two numbers a token; the backward pass computes the logits
again. The result is that of the plain computation; `bench/head_memory.py` measures the memory.

Legend of shape suffixes: N tokens, C tokens of a chunk, H hidden, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

CHUNK_LOGITS = 2**24
"""Logits computed at a time: 64 MiB in float32."""


@dataclass(frozen=True)
class Rescaling:
    """What some architectures do to their logits after the head (Granite, Cohere, Gemma 2)."""

    factor: float = 1.0
    cap: float | None = None

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        if self.factor != 1:
            logits = logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def rescaling(model: PreTrainedModel) -> Rescaling:
    config = model.config
    factor = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    return Rescaling(factor, getattr(config, "final_logit_softcapping", None))


def head_logits(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """The logits of hidden states (..., H) in float32, (..., V)."""
    return rescaling(model)(model.get_output_embeddings()(hidden).float())


def head_logprobs(
    hidden_NH: torch.Tensor, model: PreTrainedModel, targets_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target at the sampling temperature, and the entropy there; float32, each (N,).

    Gradients flow from the log-probabilities to the hidden states and the head; the entropy is a figure to watch and
    has none. Under autocast the matrices are multiplied in its type. Raises ValueError where the head is no linear
    layer.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ValueError(f"the output head is a {type(head).__name__}; training knows linear heads only")
    kind = hidden_NH.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NH.dtype
    result: tuple[torch.Tensor, torch.Tensor] = _ChunkedHead.apply(
        hidden_NH, head.weight, head.bias, targets_N, temperature, rescaling(model), dtype
    )
    return result


class _ChunkedHead(torch.autograd.Function):
    """log softmax(rescaled(hidden @ weight.T + bias) / temperature) at the targets, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        temperature: float,
        rescale: Rescaling,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, entropies, normalisers = [], [], []
        weight = weight_VH.to(dtype)
        chunk = _chunk_size(weight_VH)
        for hidden_CH, targets_C in zip(hidden_NH.split(chunk), targets_N.split(chunk), strict=True):
            logits_CV = rescale(_linear(hidden_CH, weight, bias_V)).div_(temperature)
            normaliser_C = logits_CV.logsumexp(-1)
            logprobs.append(logits_CV.gather(-1, targets_C[:, None])[:, 0] - normaliser_C)
            probs_CV = (logits_CV - normaliser_C[:, None]).exp_()
            entropies.append(normaliser_C - logits_CV.mul_(probs_CV).sum(-1))
            normalisers.append(normaliser_C)
        logprobs_N, entropy_N = torch.cat(logprobs), torch.cat(entropies)
        ctx.save_for_backward(hidden_NH, weight_VH, bias_V, targets_N, torch.cat(normalisers))
        ctx.temperature, ctx.rescale, ctx.dtype = temperature, rescale, dtype
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_NH, weight_VH, bias_V, targets_N, normaliser_N = ctx.saved_tensors
        rescale: Rescaling = ctx.rescale
        weight = weight_VH.to(ctx.dtype)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden_NH = torch.empty_like(hidden_NH) if needs_hidden else None
        # A gradient from earlier micro-batches is added to in place: a second one would be the largest tensor here.
        # In half precision it is not, since a sum over chunks would lose the small ones: that is float32 always.
        in_place = needs_weight and weight_VH.is_leaf and weight_VH.dtype == torch.float32
        standing_VH = weight_VH.grad if in_place else None
        grad_weight_VH = standing_VH
        if needs_weight and standing_VH is None:
            grad_weight_VH = torch.zeros_like(weight_VH, dtype=torch.float32)
        grad_bias_V = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None and needs_bias else None
        chunk = _chunk_size(weight_VH)
        for start in range(0, len(hidden_NH), chunk):
            part = slice(start, start + chunk)
            hidden_CH = hidden_NH[part].to(ctx.dtype)
            rescaled_CV = rescale(_linear(hidden_CH, weight, bias_V))
            # d log p(target) / d logit = [target] - p, and the chain rule back through temperature and rescaling
            slope_CV = (rescaled_CV / ctx.temperature).sub_(normaliser_N[part, None]).exp_().neg_()
            slope_CV.scatter_add_(1, targets_N[part, None], slope_CV.new_ones(len(slope_CV), 1))
            slope_CV *= grad_N[part, None] * (rescale.factor / ctx.temperature)
            if rescale.cap is not None:
                slope_CV *= 1 - (rescaled_CV / rescale.cap) ** 2
            del rescaled_CV
            if grad_bias_V is not None:
                grad_bias_V += slope_CV.sum(0)
            slope_CV = slope_CV.to(ctx.dtype)
            if grad_hidden_NH is not None:
                grad_hidden_NH[part] = slope_CV @ weight
            if grad_weight_VH is not None and grad_weight_VH.dtype == ctx.dtype:
                grad_weight_VH.addmm_(slope_CV.t(), hidden_CH)
            elif grad_weight_VH is not None:
                grad_weight_VH += slope_CV.t() @ hidden_CH
        given_VH = grad_weight_VH if standing_VH is None else None
        return grad_hidden_NH, given_VH, grad_bias_V, None, None, None, None


def _linear(hidden_CH: torch.Tensor, weight_VH: torch.Tensor, bias_V: torch.Tensor | None) -> torch.Tensor:
    logits_CV = hidden_CH.to(weight_VH.dtype) @ weight_VH.t()
    return (logits_CV if bias_V is None else logits_CV + bias_V).float()


def _chunk_size(weight_VH: torch.Tensor) -> int:
    return max(1, CHUNK_LOGITS // len(weight_VH))
