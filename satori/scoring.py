"""What models say of given token sequences: log-probabilities, values, rewards. Used by every stage that trains.

One pooling rule for reward models, everywhere: the score of a sequence is the head's output at its last token,
whatever that token is. TRL's reward trainer pools the last token that is not padding, which is the same as long as
padding and end token differ; :func:`check_padding` refuses a tokenizer where they do not.

Right padding under a causal mask needs no attention mask: no real token sees a padded one.

With several ranks each computes its share and all get all results; every rank calls with the same sequences.

Legend of shape suffixes: B sequences, T positions, N response tokens of the batch one after another, H hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori import ranks
from satori.head import head_logprobs
from satori.sharding import in_forward
from satori.side_by_side import both

Tokens = Sequence[int]
# A sequence as (prompt, response): losses and scores concern the response only.
PromptResponse = tuple[Tokens, Tokens]
T = TypeVar("T")


@dataclass(frozen=True)
class SequenceBatch:
    """Sequences padded on the right, and where the predictions of their response tokens stand."""

    ids_BT: torch.Tensor
    rows_N: torch.Tensor
    """Sequence of each response token."""
    columns_N: torch.Tensor
    """Position that predicts it: one before its own."""
    targets_N: torch.Tensor
    """The response token."""
    last_B: torch.Tensor
    """Position of the last token of each sequence."""


def make_batch(sequences: Sequence[PromptResponse], device: torch.device | str = "cpu") -> SequenceBatch:
    """Pad sequences into one batch. Of no sequence: a batch without response tokens, for a rank that has to compute
    something while others do."""
    sequences = sequences or [((0,), ())]
    lengths = [len(p) + len(r) for p, r in sequences]
    ids_BT = torch.zeros(len(sequences), max(lengths), dtype=torch.long)
    rows, columns = [], []
    for i, (prompt, response) in enumerate(sequences):
        ids_BT[i, : lengths[i]] = torch.tensor([*prompt, *response])
        rows.append(torch.full((len(response),), i))
        columns.append(torch.arange(len(prompt) - 1, lengths[i] - 1))
    rows_N, columns_N = torch.cat(rows), torch.cat(columns)
    targets_N = ids_BT[rows_N, columns_N + 1]
    parts = (ids_BT, rows_N, columns_N, targets_N, torch.tensor(lengths) - 1)
    return SequenceBatch(*(part.to(device) for part in parts))


def by_length(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group indices into batches of similar length whose padded size stays within the budget, longest first.

    A single sequence longer than the budget makes a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def dealt_out(lengths: Sequence[int], token_budget: int, hands: int) -> list[list[list[int]]]:
    """The batches of :func:`by_length` for several ranks: for each rank as many batches as for any other, the n-th ones
    of about the same size. A batch may be empty where there are too few sequences; together they hold each index once.
    """
    batches = by_length(lengths, token_budget)
    while len(batches) % hands and any(len(batch) > 1 for batch in batches):
        work = [lengths[batch[0]] * len(batch) if len(batch) > 1 else 0 for batch in batches]
        largest = work.index(max(work))
        half, batch = len(batches[largest]) // 2, batches[largest]
        batches[largest : largest + 1] = [batch[:half], batch[half:]]
    batches += [[] for _ in range(-len(batches) % hands)]
    return [batches[hand::hands] for hand in range(hands)]


def my_batches(sequences: Sequence[PromptResponse], token_budget: int) -> list[list[int]]:
    """This rank's share of the sequences, in batches of similar length: indices. See :func:`dealt_out`."""
    return dealt_out([len(p) + len(r) for p, r in sequences], token_budget, ranks.count())[ranks.index()]


def response_hidden(model: PreTrainedModel, batch: SequenceBatch) -> torch.Tensor:
    """The hidden states that predict the response tokens, (N, H)."""
    hidden_BTH = model.base_model(batch.ids_BT, use_cache=False).last_hidden_state
    return hidden_BTH[batch.rows_N, batch.columns_N]


def policy_logprobs(
    model: PreTrainedModel, batch: SequenceBatch, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each response token at the sampling temperature, and the entropy there; float32, each (N,)."""

    def compute(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
        return head_logprobs(response_hidden(model, batch), model, batch.targets_N, temperature)

    return in_forward(model, compute)


def scalar_head(model: PreTrainedModel) -> torch.nn.Module:
    """The head of a sequence-classification model with one label: (..., H) to (..., 1)."""
    head: torch.nn.Module = model.score  # type: ignore[assignment]
    return head


def token_values(critic: PreTrainedModel, batch: SequenceBatch) -> torch.Tensor:
    """The critic's value of the state before each response token, (N,). The critic is a reward model's network, its
    scalar head read at every position."""

    def compute(critic: PreTrainedModel) -> torch.Tensor:
        return scalar_head(critic)(response_hidden(critic, batch)).float().sum(-1)  # of one number: no view

    return in_forward(critic, compute)


def sequence_scores(reward_model: PreTrainedModel, batch: SequenceBatch) -> torch.Tensor:
    """The reward model's logit at the last token of each sequence, (B,)."""

    def compute(reward_model: PreTrainedModel) -> torch.Tensor:
        hidden_BTH = reward_model.base_model(batch.ids_BT, use_cache=False).last_hidden_state
        rows_B = torch.arange(len(batch.last_B), device=batch.last_B.device)
        return scalar_head(reward_model)(hidden_BTH[rows_B, batch.last_B]).float().sum(-1)

    return in_forward(reward_model, compute)


def token_logprobs(
    model: PreTrainedModel, sequences: Sequence[PromptResponse], temperature: float = 1.0, token_budget: int = 16384
) -> list[torch.Tensor]:
    """Log-probabilities of the response tokens of each sequence, in order, one (tokens,) tensor each."""
    return _per_token(lambda batch: policy_logprobs(model, batch, temperature)[0], model, sequences, token_budget)


def response_values(
    critic: PreTrainedModel, sequences: Sequence[PromptResponse], token_budget: int = 16384
) -> list[torch.Tensor]:
    """The critic's values before the response tokens of each sequence, in order, one (tokens,) tensor each."""
    return _per_token(lambda batch: token_values(critic, batch), critic, sequences, token_budget)


def reward_logits(
    reward_model: PreTrainedModel, sequences: Sequence[PromptResponse], token_budget: int = 16384
) -> list[float]:
    """The reward model's logit of each sequence, in order."""

    def score(batch: SequenceBatch, indices: Sequence[int]) -> Sequence[float]:
        return sequence_scores(reward_model, batch).tolist()

    return _each(score, reward_model, sequences, token_budget)


def _per_token(
    score: Callable[[SequenceBatch], torch.Tensor],
    model: PreTrainedModel,
    sequences: Sequence[PromptResponse],
    token_budget: int,
) -> list[torch.Tensor]:
    def split(batch: SequenceBatch, indices: Sequence[int]) -> Sequence[torch.Tensor]:
        tokens_N = score(batch).cpu()
        if not indices:
            return ()
        pieces = tokens_N.split([len(sequences[i][1]) for i in indices])
        return [piece.clone() for piece in pieces]  # a view would take its whole batch along to the other ranks

    return _each(split, model, sequences, token_budget)


def _each(
    score: Callable[[SequenceBatch, Sequence[int]], Sequence[T]],
    model: PreTrainedModel,
    sequences: Sequence[PromptResponse],
    token_budget: int,
) -> list[T]:
    """What ``score`` says of each sequence, in order. It is given a batch and the indices of its sequences."""

    @torch.no_grad()  # each thread has a switch of its own
    def run(batches: Sequence[Sequence[int]]) -> list[tuple[int, T]]:
        found: list[tuple[int, T]] = []
        for indices in batches:
            batch = make_batch([sequences[i] for i in indices], model.device)
            found += zip(indices, score(batch, indices), strict=False)  # an empty share computes one for nothing
        return found

    batches = my_batches(sequences, token_budget)
    one, other = both(lambda: run(batches[::2]), lambda: run(batches[1::2]), model.device)
    results = dict(ranks.gather(one + other))
    return [results[i] for i in range(len(sequences))]


def check_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError where the padding token is missing or is the end token: pooling would score another token."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise ValueError(
            f"the tokenizer's padding token is {tokenizer.pad_token!r} and its end token {tokenizer.eos_token!r}: a "
            "reward model needs two different ones, or it scores the token before the end. Set tokenizer.pad_token."
        )
