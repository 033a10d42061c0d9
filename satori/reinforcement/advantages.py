"""Advantage estimators, as pure functions (PPO's GAE as in the paper; GRPO and RLOO beside it).

Legend of shape suffixes: B responses, T response tokens (padded on the right; the mask is 1 on sampled tokens).
"""

import torch


def gae(
    rewards_B: torch.Tensor, values_BT: torch.Tensor, mask_BT: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation with one reward, at the last sampled token of each response.

    ``values_BT`` is the value of the state before each token. A token where the mask is 0 carries the later value and
    advantage through unchanged. Returns (advantages_BT, returns_BT), zero where the mask is 0.
    """
    batch, length = mask_BT.shape
    positions_T = torch.arange(length, device=mask_BT.device)
    last_B = (mask_BT * positions_T).argmax(1)
    rewards_BT = torch.zeros_like(values_BT)
    rewards_BT[torch.arange(batch), last_B] = rewards_B.to(values_BT.dtype)
    advantages_BT = torch.zeros_like(values_BT)
    advantage_B = next_value_B = torch.zeros(batch, dtype=values_BT.dtype, device=values_BT.device)
    for t in range(length - 1, -1, -1):
        live_B = mask_BT[:, t].bool()
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        advantage_B = torch.where(live_B, delta_B + gamma * lam * advantage_B, advantage_B)
        next_value_B = torch.where(live_B, values_BT[:, t], next_value_B)
        advantages_BT[:, t] = advantage_B * live_B
    return advantages_BT, (advantages_BT + values_BT) * mask_BT


def grpo(rewards_B: torch.Tensor, groups_B: torch.Tensor, scale_by_std: bool = True) -> torch.Tensor:
    """Group-relative advantages: the reward less its group's mean, over the group's standard deviation. (B,)

    A group of equal rewards, or of one response, has advantage 0.
    """
    mean_B = _group_sum(rewards_B, groups_B) / _group_sum(torch.ones_like(rewards_B), groups_B)
    centred_B = rewards_B - mean_B
    if not scale_by_std:
        return centred_B
    count_B = _group_sum(torch.ones_like(rewards_B), groups_B)
    variance_B = _group_sum(centred_B**2, groups_B) / (count_B - 1).clamp(min=1)
    return centred_B / (variance_B.sqrt() + 1e-6)


def rloo(rewards_B: torch.Tensor, groups_B: torch.Tensor) -> torch.Tensor:
    """Leave-one-out advantages: the reward less the mean of the others of its group. (B,)

    A response alone in its group has advantage 0.
    """
    count_B = _group_sum(torch.ones_like(rewards_B), groups_B)
    others_B = (_group_sum(rewards_B, groups_B) - rewards_B) / (count_B - 1).clamp(min=1)
    return torch.where(count_B > 1, rewards_B - others_B, torch.zeros_like(rewards_B))


def whiten(advantages_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Advantages at mean 0 and variance 1 over all sampled tokens; zero where the mask is 0."""
    count = mask_BT.sum()
    mean = (advantages_BT * mask_BT).sum() / count
    variance = ((advantages_BT - mean) ** 2 * mask_BT).sum() / count
    return (advantages_BT - mean) * torch.rsqrt(variance + 1e-8) * mask_BT


def _group_sum(values_B: torch.Tensor, groups_B: torch.Tensor) -> torch.Tensor:
    """For each response, the sum over its group. (B,)"""
    totals = torch.zeros(int(groups_B.max()) + 1, dtype=values_B.dtype, device=values_B.device)
    return totals.index_add(0, groups_B, values_B)[groups_B]
