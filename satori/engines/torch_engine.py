"""The embedded sampler: continuous batching over any Hugging Face causal model with full attention.

A fixed number of cache rows; each row holds one sequence, left-aligned at its own length, so prompts and restart
prefixes of different lengths need no padding. A row that finishes takes the next prompt at once; when no prompts
are left, the finished rows are dropped so that the tail of long responses runs in a small batch. Prompts that are
equal (several samples of one problem) are computed once and their cache copied.

Compared with ``model.generate`` in ``bench/sampler.py``.

Legend of shape suffixes: R rows, T new tokens, L cached length, H hidden size, V vocabulary.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from satori.config import derive_seed
from satori.engines.base import EngineError, Piece, Sampling
from satori.engines.row_cache import ATTENTION, RowCache, other_attention, spans_of
from satori.head import head_logits
from satori.models import config_context_length
from satori.scoring import by_length
from satori.sharding import copy_parameters, is_whole
from satori.types import Completion, FinishReason

_PREFILL_TOKENS = 4096  # padded tokens of prompts that are computed at a time


class _Rows:
    """The sequences in flight, a row each: what was sampled so far, and the noise that each samples with.

    The noise of a response depends on the seed and its number alone, so it is the same response whatever else is
    sampled beside it, up to the rounding of another batch size.
    """

    def __init__(self, rows: int, max_new_tokens: int, device: torch.device) -> None:
        self.indices: list[int | None] = [None] * rows
        self.cached_R = torch.zeros(rows, dtype=torch.long, device=device)
        """Tokens in the cache."""
        self.taken_R = torch.zeros(rows, dtype=torch.long, device=device)
        """Tokens sampled."""
        self.room_R = torch.zeros(rows, dtype=torch.long, device=device)
        """Tokens that may be sampled."""
        self.newest_R = torch.zeros(rows, dtype=torch.long, device=device)
        """Sampled, not yet in the cache."""
        self.tokens_RT = torch.zeros(rows, max_new_tokens, dtype=torch.long, device=device)
        self.logprobs_RT = torch.zeros(rows, max_new_tokens, device=device)
        self.uniforms_RT = torch.zeros(rows, max_new_tokens, device=device)

    def __len__(self) -> int:
        return len(self.indices)

    def free(self) -> list[int]:
        return [place for place, index in enumerate(self.indices) if index is None]

    def active(self) -> torch.Tensor:
        places = [place for place, index in enumerate(self.indices) if index is not None]
        return torch.tensor(places, device=self.cached_R.device)

    def start(
        self,
        places: Sequence[int],
        indices: Sequence[int],
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seed: int,
        first: int,
    ) -> None:
        """Put prompts into free rows."""
        for place, index, prompt in zip(places, indices, prompts, strict=True):
            self.indices[place] = index
            self.cached_R[place], self.taken_R[place], self.room_R[place] = len(prompt), 0, sampling.room(prompt)
            self.uniforms_RT[place] = uniforms(derive_seed(seed, "request", first + index), self.uniforms_RT.shape[1])

    def take(
        self, active_R: torch.Tensor, tokens_R: torch.Tensor, logprobs_R: torch.Tensor, stop_ids: torch.Tensor
    ) -> Iterator[tuple[int, Completion]]:
        """Add a token to each active row; yields the sequences that end with it and frees their rows."""
        taken_R = self.taken_R[active_R]
        self.newest_R[active_R] = tokens_R
        self.tokens_RT[active_R, taken_R] = tokens_R
        self.logprobs_RT[active_R, taken_R] = logprobs_R
        self.taken_R[active_R] = taken_R + 1
        stopped_R = torch.isin(tokens_R, stop_ids)
        ended_R = stopped_R | (taken_R + 1 == self.room_R[active_R])
        if not ended_R.any():
            return
        for place, stopped in zip(active_R[ended_R].tolist(), stopped_R[ended_R].tolist(), strict=True):
            count, index = int(self.taken_R[place]), self.indices[place]
            assert index is not None
            tokens, logprobs = self.tokens_RT[place, :count].tolist(), self.logprobs_RT[place, :count].tolist()
            reason = FinishReason.STOP if stopped else FinishReason.LENGTH
            self.indices[place] = None
            self.cached_R[place] = 0
            yield index, Completion(tuple(tokens), reason, tuple(logprobs))

    def drop_free(self) -> torch.Tensor:
        """Keep the rows that are in use; returns which they were."""
        keep_R = self.active()
        self.indices = [index for index in self.indices if index is not None]
        for name in ("cached_R", "taken_R", "room_R", "newest_R", "tokens_RT", "logprobs_RT", "uniforms_RT"):
            setattr(self, name, getattr(self, name)[keep_R])
        return keep_R


class TorchEngine:
    """Samples from a transformers model that lives in this process.

    The model is used as it is at each call, so a policy in training is always sampled with its current weights. A
    response ends with the end token, or with one of ``also_stop`` where a model has several.
    """

    def __init__(
        self, model: PreTrainedModel, eos_token_id: int, rows: int = 256, also_stop: Sequence[int] = ()
    ) -> None:
        if rows < 1:
            raise ValueError(f"rows is {rows}: the sampler needs at least one")
        if trouble := other_attention(model):
            raise EngineError(f"the embedded sampler knows full attention only; this model has {trouble}; try vLLM")
        self.model, self.rows = model, rows
        self.stop_ids = frozenset((eos_token_id, *also_stop))
        self._stop_ids = torch.tensor(sorted(self.stop_ids), device=model.device)

    def update_weights(self, model: PreTrainedModel) -> None:
        """See :class:`satori.engines.base.PolicyEngine`: the live model is sampled anyway; of a sharded one, or
        one with adapters, a whole copy."""
        if is_whole(model):
            self.model = model
        else:
            copy_parameters(model, self.model)

    def sleep(self) -> None:
        """Nothing to give up: the cache lives no longer than a call of ``generate``."""

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> Iterator[tuple[int, Completion]]:
        """See :class:`satori.engines.base.Engine`. Raises EngineError for an empty prompt or one too long."""
        self._check(prompts, sampling)
        with self._sampling_mode():
            yield from self._generate(prompts, sampling, seed, first)

    @torch.inference_mode()
    def stream(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Generator[Piece, None, None]:
        """See :class:`satori.engines.base.StreamingEngine`. Raises EngineError as ``generate`` does."""
        self._check([prompt], sampling)
        noise_T = uniforms(derive_seed(seed, "request", 0), sampling.max_new_tokens).to(self.model.device)
        with self._sampling_mode():
            cache = RowCache(self.model.config.num_hidden_layers)
            cache.capacity_rows = 1
            logits_RV = self._prefill(cache, [prompt], [0])
            for taken in range(sampling.room(prompt)):
                tokens_R, _ = sample(logits_RV, sampling.temperature, noise_T[taken : taken + 1])
                token = int(tokens_R)
                if token in self.stop_ids:
                    return
                yield Piece((token,))
                logits_RV = self._decode(cache, tokens_R, torch.tensor([len(prompt) + taken], device=tokens_R.device))

    @contextmanager
    def _sampling_mode(self) -> Iterator[None]:
        """The model without dropout and with our attention, as it was before afterwards."""
        was_training, attention = self.model.training, self.model.config._attn_implementation
        self.model.eval()
        self.model.set_attn_implementation(ATTENTION)
        try:
            yield
        finally:
            self.model.train(was_training)
            self.model.set_attn_implementation(attention)

    def _check(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        limits = (config_context_length(self.model.config), sampling.context_length)
        limit = min((each for each in limits if each is not None), default=None)
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise EngineError(f"prompt {index} is empty")
            if (room := sampling.room(prompt)) < 1 or (limit is not None and len(prompt) + room > limit):
                raise EngineError(
                    f"prompt {index} has {len(prompt)} tokens and max_new_tokens is {sampling.max_new_tokens}: "
                    f"together more than the model's context of {limit}; allow fewer new tokens or leave the prompt out"
                )

    def _generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> Iterator[tuple[int, Completion]]:
        # Neighbours of equal length prefill together, and equal prompts stand next to each other.
        waiting = deque(sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), list(prompts[i]))))
        cache = RowCache(self.model.config.num_hidden_layers)
        cache.capacity_rows = min(self.rows, len(prompts))
        rows = _Rows(cache.capacity_rows, sampling.max_new_tokens, self.model.device)
        while True:
            free = rows.free()
            # Refill in batches of at least an eighth of the rows: prefilling one prompt at a time wastes the batch.
            if waiting and len(free) >= min(len(waiting), max(1, len(rows) // 8)):
                batch = [waiting.popleft() for _ in range(min(len(free), len(waiting)))]
                places = free[: len(batch)]
                rows.start(places, batch, [prompts[i] for i in batch], sampling, seed, first)
                logits_RV = self._prefill(cache, [prompts[i] for i in batch], places)
                active_R = torch.tensor(places, device=logits_RV.device)
            elif len(free) == len(rows):
                return
            else:
                if not waiting and len(free) * 4 >= len(rows):
                    cache.keep(rows.drop_free())
                logits_RV = self._decode(cache, rows.newest_R, rows.cached_R)
                rows.cached_R += 1
                active_R = rows.active()
                if len(active_R) < len(rows):
                    logits_RV = logits_RV[active_R]
            noise_R = rows.uniforms_RT[active_R, rows.taken_R[active_R]]
            tokens_R, logprobs_R = sample(logits_RV, sampling.temperature, noise_R)
            yield from rows.take(active_R, tokens_R, logprobs_R, self._stop_ids)

    def _prefill(self, cache: RowCache, prompts: list[Sequence[int]], places: list[int]) -> torch.Tensor:
        """Compute the prompts into their rows; returns the logits after each prompt, (R, V)."""
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            rows_of.setdefault(tuple(prompt), []).append(row)
        unique = list(rows_of)
        lengths = [len(prompt) for prompt in unique]
        cache.length = max(cache.length, *lengths)
        logits: list[torch.Tensor] = []  # (rows of a batch, V) each
        rows: list[int] = []
        for batch in by_length(lengths, _PREFILL_TOKENS):
            here = [row for i in batch for row in rows_of[unique[i]]]
            source = [slot for slot, i in enumerate(batch) for _ in rows_of[unique[i]]]
            logits.append(self._prefill_batch(cache, [unique[i] for i in batch], source, [places[row] for row in here]))
            rows += here
        order = torch.tensor(rows, device=self.model.device).argsort()
        return torch.cat(logits)[order]

    def _prefill_batch(
        self, cache: RowCache, prompts: list[tuple[int, ...]], source: list[int], places: list[int]
    ) -> torch.Tensor:
        """Compute different prompts at once, and copy the ``source``-th to each of the places; logits, (places, V)."""
        device, count = self.model.device, len(prompts)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        ids_RT = torch.zeros(count, max(map(len, prompts)), dtype=torch.long)
        for i, prompt in enumerate(prompts):
            ids_RT[i, : len(prompt)] = torch.tensor(prompt)
        cache.prefilling = True
        cache.rows_R, cache.slots_R = torch.tensor(places, device=device), torch.tensor(source, device=device)
        # Right padding under a causal mask: no real token sees a padded one.
        hidden_RTH = self.model.base_model(ids_RT.to(device), past_key_values=cache).last_hidden_state
        cache.prefilling = False
        last_RH = hidden_RTH[torch.arange(count), lengths - 1]
        return head_logits(self.model, last_RH)[cache.slots_R]

    def _decode(self, cache: RowCache, tokens_R: torch.Tensor, lengths_R: torch.Tensor) -> torch.Tensor:
        """One token for every row; returns the logits after it, (R, V)."""
        spans = spans_of([length + 1 for length in lengths_R.tolist()])
        cache.length = max(span.length for span in spans)
        cache.rows_R, cache.slots_R = torch.arange(len(tokens_R), device=tokens_R.device), lengths_R
        unseen_RL = torch.arange(cache.length, device=tokens_R.device)[None] > lengths_R[:, None]
        mask_RL = torch.zeros_like(unseen_RL, dtype=self.model.dtype).masked_fill_(unseen_RL, -torch.inf)
        hidden_RTH = self.model.base_model(
            tokens_R[:, None],
            attention_mask=mask_RL[:, None, None],
            position_ids=lengths_R[:, None],
            past_key_values=cache,
            spans=spans,
        ).last_hidden_state
        return head_logits(self.model, hidden_RTH[:, 0])


def uniforms(seed: int, count: int) -> torch.Tensor:
    """The noise of one response: a number in [0, 1) for each of its tokens."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def sample(logits_RV: torch.Tensor, temperature: float, noise_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sampled token and its log-probability at the sampling temperature, each (R,): the first token up to which the
    probabilities add up to more than the noise. Temperature 0 is greedy, with log-probabilities at temperature 1."""
    logprobs_RV = (logits_RV / (temperature or 1.0)).log_softmax(-1)
    if temperature == 0:
        tokens_R = logits_RV.argmax(-1)
    else:
        sums_RV = logprobs_RV.exp().cumsum(-1, dtype=torch.float64)
        # Below the last sum, so that rounding never chooses a token that has no probability.
        wanted_R1 = noise_R[:, None].double() * sums_RV[:, -1:]
        tokens_R = torch.searchsorted(sums_RV, wanted_R1, right=True)[:, 0]
    return tokens_R, logprobs_RV.gather(-1, tokens_R[:, None])[:, 0]
