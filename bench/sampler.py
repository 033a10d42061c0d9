"""The embedded sampler against ``model.generate`` and transformers' continuous batching: same prompts, same weights.

    python bench/sampler.py [--runs 5] [--prompts 256]

Prompts are problems of mixed length; lengths of responses are mixed too: each sequence stops at its own sampled end.
The runs of all three are interleaved; a ratio is the median over runs of ours over theirs in generated tokens a
second. Greedy outputs of ours and ``generate`` are compared token by token.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation import ContinuousBatchingConfig

from satori.coat import encode_prompt
from satori.engines.base import Sampling, generate_all
from satori.engines.torch_engine import TorchEngine
from satori.models import load_policy, load_tokenizer
from satori.pretraining import SHIPPED_BASE
from satori.problems.arithmetic import Split, problem_stream

Generate = Callable[[list[list[int]], int], list[list[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED_BASE, help="a checkpoint folder (default: shipped base)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    options = parser.parse_args()
    model, tokenizer = load_policy(options.model), load_tokenizer(options.model)
    problems = islice(problem_stream(Split.VALIDATION, 0), options.prompts)
    prompts = [encode_prompt(tokenizer, problem.question) for problem in problems]
    # Responses of very different lengths, as in training: sampled hot, ended by the end token or by the limit.
    contenders: dict[str, Generate] = {
        "satori": lambda p, seed: ours(model, tokenizer.eos_token_id, p, options.max_new_tokens, seed),
        "generate": lambda p, seed: generate(model, tokenizer, p, options.max_new_tokens, seed),
        "continuous_batching": lambda p, seed: continuous(model, tokenizer, p, options.max_new_tokens, seed),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(options.runs + 1):  # the first is a warm-up
        for name, contender in contenders.items():
            torch.manual_seed(run)
            started = time.perf_counter()
            tokens = sum(len(ids) for ids in contender(prompts, run))
            if run:
                speeds[name].append(tokens / (time.perf_counter() - started))
    same = greedy_agreement(model, tokenizer, prompts[:64], options.max_new_tokens)
    print(json.dumps(summary(speeds) | {"greedy_equal": same}, indent=2))


def summary(speeds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, least and most of tokens a second and of the ratio to ours, run by run."""
    rows = {}
    for name, values in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["satori"], values, strict=True)]
        for label, numbers in ((f"{name} tokens/s", values), (f"satori_vs_{name}", ratios)):
            rows[label] = {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}
    return rows


def ours(model: PreTrainedModel, eos: int, prompts: list[list[int]], limit: int, seed: int) -> list[list[int]]:
    sampling = Sampling(temperature=1.5, max_new_tokens=limit)
    return [list(c.token_ids) for c in generate_all(TorchEngine(model, eos), prompts, sampling, seed)]


def generate(model, tokenizer, prompts, limit, seed, sample=True):  # type: ignore[no-untyped-def]
    """One left-padded batch; padding after the end is not counted."""
    width = max(map(len, prompts))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    settings = {"do_sample": True, "temperature": 1.5, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
    rows = model.generate(
        ids, attention_mask=mask, max_new_tokens=limit, pad_token_id=pad, eos_token_id=eos, **settings
    )
    responses = [row[width:].tolist() for row in rows]
    return [r[: r.index(eos) + 1] if eos in r else r for r in responses]


def continuous(model, tokenizer, prompts, limit, seed):  # type: ignore[no-untyped-def]
    config = GenerationConfig(
        max_new_tokens=limit,
        do_sample=True,
        temperature=1.5,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    found = model.generate_batch(
        inputs=prompts,
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=512, max_batch_tokens=2048),
    )
    return [output.generated_tokens for output in found.values()]


def greedy_agreement(model, tokenizer, prompts, limit) -> float:  # type: ignore[no-untyped-def]
    """Share of prompts whose greedy response is the same, token by token, in ours and in ``generate``."""
    engine = TorchEngine(model, tokenizer.eos_token_id)
    mine = generate_all(engine, prompts, Sampling(temperature=0, max_new_tokens=limit), 0)
    theirs = generate(model, tokenizer, prompts, limit, 0, sample=False)
    return sum(list(a.token_ids) == b for a, b in zip(mine, theirs, strict=True)) / len(prompts)


if __name__ == "__main__":
    main()
