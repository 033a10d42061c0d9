"""The cache and the attention of the embedded sampler (:mod:`satori.engines.torch_engine`).

Every sequence has a row of the cache and is written there at its own length, so that rows of different lengths decode
together without padding. Full attention only: ``other_attention`` says what a model has besides.

Legend of shape suffixes: R rows, T new tokens, L cached length; D is the size of a head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from satori.models import config_context_length

ATTENTION = "satori_decode"
"""The name that ``set_attn_implementation`` knows this attention by."""

_GROWTH = 64  # the cache grows by at least so many positions at a time
_SPANS = 4  # parts of the rows that attend separately, each to its own longest row
_LEAST_ROWS = 32  # in a span: fewer are not worth the call


class RowCache(Cache):
    """Keys and values of all rows, (rows, heads, capacity, head size) a layer; written at each row's own length."""

    def __init__(self, layers: int) -> None:
        self.keys: list[torch.Tensor | None] = [None] * layers
        self.values: list[torch.Tensor | None] = [None] * layers
        self.rows_R = torch.empty(0, dtype=torch.long)
        self.slots_R = torch.empty(0, dtype=torch.long)
        self.length = 0
        self.capacity_rows = 0
        self.prefilling = False

    def __len__(self) -> int:
        return len(self.keys)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self.prefilling else self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return query_length, 0  # asked in prefill only: decoding brings its own mask

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys = self.keys[layer_idx] = self._fit(self.keys[layer_idx], key_states)
        values = self.values[layer_idx] = self._fit(self.values[layer_idx], value_states)
        if self.prefilling:  # slots_R names the source prompt of each row: equal prompts were computed once
            width = key_states.shape[2]
            keys[self.rows_R, :, :width] = key_states[self.slots_R]
            values[self.rows_R, :, :width] = value_states[self.slots_R]
            return key_states, value_states
        keys[self.rows_R, :, self.slots_R] = key_states[:, :, 0]
        values[self.rows_R, :, self.slots_R] = value_states[:, :, 0]
        rows = key_states.shape[0]
        return keys[:rows, :, : self.length], values[:rows, :, : self.length]

    def _fit(self, store: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """The store, larger where the current length needs it."""
        if store is not None and store.shape[2] >= self.length:
            return store
        capacity = self.length + _GROWTH
        grown = like.new_zeros(self.capacity_rows, like.shape[1], capacity, like.shape[3])
        if store is not None:
            grown[: store.shape[0], :, : store.shape[2]] = store
        return grown

    def keep(self, rows_R: torch.Tensor) -> None:
        """Drop every row but these, in this order."""
        self.keys = [k[rows_R] if k is not None else None for k in self.keys]
        self.values = [v[rows_R] if v is not None else None for v in self.values]
        self.capacity_rows = len(rows_R)


@dataclass(frozen=True)
class Span:
    """Neighbouring rows, and the cached length of the longest of them."""

    rows: slice
    length: int


def spans_of(lengths: Sequence[int]) -> list[Span]:
    """Rows of these cached lengths in up to ``_SPANS`` spans. Rows that start together have similar lengths."""
    size = max(_LEAST_ROWS, -(-len(lengths) // _SPANS))
    starts = range(0, len(lengths), size)
    return [Span(slice(start, start + size), max(lengths[start : start + size])) for start in starts]


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    spans: Sequence[Span] = (),
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row without repeating grouped keys and values, no span of rows longer than it has
    to be; PyTorch's own for longer queries.

    query (R, heads, T, D); key and value (R, key-value heads, L, D); mask additive, (R, 1, 1, L).
    """
    if query.shape[2] != 1 or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows, heads, _, size = query.shape
    groups = query.view(rows, key.shape[1], heads // key.shape[1], size) * (scaling or size**-0.5)
    attended = []
    for span in spans or [Span(slice(rows), key.shape[2])]:
        to = slice(span.length)
        scores = groups[span.rows] @ key[span.rows, :, to].transpose(-1, -2) + attention_mask[span.rows, :, :, to]
        attended.append(scores.softmax(-1) @ value[span.rows, :, to])
    return torch.cat(attended).view(rows, 1, heads, size), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def other_attention(model: PreTrainedModel) -> str:
    """What a model's attention has that the embedded sampler does not compute; empty where there is nothing."""
    config = model.config
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or []
    if others := sorted(set(kinds) - {"full_attention", "global"}):
        return ", ".join(others)
    window, context = getattr(config, "sliding_window", None), config_context_length(config) or math.inf
    if window and window < context and not kinds:
        return f"a sliding window of {window} tokens"
    if not model._supports_attention_backend:
        return "an attention of its own, which cannot be exchanged"
    if getattr(config, "v_head_dim", None) not in (None, getattr(config, "qk_head_dim", None)):
        return "keys and values of different sizes"
    return ""
