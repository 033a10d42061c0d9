"""PPO's losses, as pure functions over response tokens one after another.

All return sums over tokens, to be divided by the tokens of the whole optimiser step, so that the result does not
depend on how a step is split into micro-batches.

Legend of shape suffixes: N response tokens.
"""

import torch

_LOG_RATIO_LIMIT = 20.0


def policy_loss(
    logprobs_N: torch.Tensor,
    old_logprobs_N: torch.Tensor,
    advantages_N: torch.Tensor,
    clip: float,
    weights_N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The clipped surrogate, each token's times its weight where there are weights (:func:`importance_weights`).
    Returns sums: (loss, clipped tokens, approximate KL to the sampling policy).

    The KL estimate is :func:`k3`.
    """
    log_ratio_N = (logprobs_N - old_logprobs_N).clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    ratio_N = log_ratio_N.exp()
    unclipped_N = ratio_N * advantages_N
    clipped_N = ratio_N.clamp(1 - clip, 1 + clip) * advantages_N
    surrogate_N = torch.minimum(unclipped_N, clipped_N)
    loss = -(surrogate_N if weights_N is None else weights_N * surrogate_N).sum()
    return loss, (clipped_N < unclipped_N).sum().detach(), k3(log_ratio_N).sum().detach()


def k3(log_ratio_N: torch.Tensor) -> torch.Tensor:
    """Estimate of KL(q || p) at tokens sampled from q, given log p - log q: (ratio - 1) - log ratio, never negative
    and of low variance."""
    return log_ratio_N.exp() - 1 - log_ratio_N


def importance_weights(logprobs_N: torch.Tensor, engine_logprobs_N: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated importance weights: how much likelier the trainer found each sampled token than the engine that
    sampled it, at most ``cap``. They undo the mismatch between the two in expectation, up to the truncation."""
    return (logprobs_N - engine_logprobs_N).clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT).exp().clamp(max=cap)


def value_loss(
    values_N: torch.Tensor, old_values_N: torch.Tensor, returns_N: torch.Tensor, clip: float
) -> torch.Tensor:
    """Half the squared error, the larger of that of the new value and that of the new value held within ``clip`` of
    the old one. The sum over tokens."""
    held_N = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_N - returns_N) ** 2, (held_N - returns_N) ** 2).sum()
