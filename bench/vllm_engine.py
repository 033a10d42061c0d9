"""The vLLM engine against vLLM's own ``LLM.generate``: same process, same weights, same prompts, same sampling.

    python bench/vllm_engine.py CHECKPOINT [--out result.json] [--runs 5] [--prompts 64]

The runs of both are interleaved; the ratio is ours over theirs in generated tokens a second, run by run, which is to be
at least 0.95 in the median. Both begin every run with an empty cache. Then the seconds that the weights of a live model
take into the engine.
"""

import argparse
import json
import random
import statistics
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from satori.coat import encode_prompt
from satori.config import derive_seed
from satori.engines.base import Sampling, generate_all
from satori.engines.vllm_engine import VllmEngine, VllmSettings
from satori.models import load_policy, load_tokenizer
from satori.problems.arithmetic import Split, problem_stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.checkpoint)
    prompts = mixed_prompts(tokenizer, options.prompts)
    settings = VllmSettings(max_model_len=2048, dtype=options.dtype, kv_cache_gib=2.0)
    started = time.perf_counter()
    with VllmEngine(options.checkpoint, tokenizer.eos_token_id, settings) as engine:
        result: dict[str, Any] = {"threads": torch.get_num_threads(), "open_s": time.perf_counter() - started}
        result |= compare(engine, prompts, Sampling(max_new_tokens=options.max_new_tokens), options.runs)
        model = load_policy(options.checkpoint)
        result["update_weights_s"] = spread(
            [seconds(lambda: engine.update_weights(model)) for _ in range(options.runs)]
        )
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def mixed_prompts(tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[int]]:
    """Problems, each followed by a beginning of an answer that is between none and 300 tokens long."""
    rng = random.Random(0)
    questions = [problem.question for problem in islice(problem_stream(Split.VALIDATION, 0), count)]
    return [
        encode_prompt(tokenizer, question, prefix=" ".join(rng.choices(questions, k=rng.randint(0, 12)))[:900])
        for question in questions
    ]


def compare(engine: VllmEngine, prompts: list[list[int]], sampling: Sampling, runs: int) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for run in range(runs + 1):  # the first is a warm-up
        # Who comes first changes, so that neither has the machine at its quieter moment.
        for name in ("ours", "theirs") if run % 2 else ("theirs", "ours"):
            generate = ours if name == "ours" else theirs
            started = time.perf_counter()
            tokens = generate(engine, prompts, sampling, run)
            if run:
                speeds[name].append(tokens / (time.perf_counter() - started))
    ratios = [mine / own for mine, own in zip(speeds["ours"], speeds["theirs"], strict=True)]
    return {f"{name}_tokens_per_s": spread(found) for name, found in speeds.items()} | {"ratio": spread(ratios)}


def ours(engine: VllmEngine, prompts: list[list[int]], sampling: Sampling, seed: int) -> int:
    return sum(len(c.token_ids) for c in generate_all(engine, prompts, sampling, seed))


def theirs(engine: VllmEngine, prompts: list[list[int]], sampling: Sampling, seed: int) -> int:
    llm = engine._llm
    llm.reset_prefix_cache()
    parameters = [engine._parameters(p, sampling, derive_seed(seed, "request", i)) for i, p in enumerate(prompts)]
    outputs = llm.generate([{"prompt_token_ids": p} for p in prompts], parameters, use_tqdm=False)
    return sum(len(output.outputs[0].token_ids) for output in outputs)


def seconds(act: Any) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def spread(numbers: list[float]) -> dict[str, float]:
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


if __name__ == "__main__":
    main()
