"""The embedded sampler against what else could sample the tiny model: same prompts, same weights, mixed lengths.

    python -m bench.sampler [--model CHECKPOINT] [--runs 5] [--prompts 256]

Against ``model.generate``, transformers' continuous batching, and vLLM where it is installed. The model is the random
one of :mod:`bench.subject`, whose responses end at random moments. A ratio is ours over theirs in generated tokens a
second, run by run. Greedy outputs of ours and ``generate`` are compared token by token.
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.generation import ContinuousBatchingConfig

from bench.measuring import Results, interleave, ratios, seconds, show, spread
from bench.subject import Size, random_subject
from satori.coat import encode_prompt
from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.torch_engine import TorchEngine
from satori.models import load_policy, load_tokenizer, save
from satori.problems.arithmetic import Split, problem_stream

Generate = Callable[[int], list[list[int]]]
"""Responses to all prompts, told the seed."""


@dataclass(frozen=True)
class Task:
    """What every sampler is asked for."""

    model: Any  # transformers gives `generate` to causal models by a mixin that its types do not show
    tokenizer: PreTrainedTokenizerBase
    prompts: list[list[int]]
    limit: int
    temperature: float = 1.0

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)


def measure(
    checkpoint: Path | None = None,
    prompts: int = 256,
    limit: int = 384,
    runs: int = 5,
    vllm: bool = True,
    mean_length: int = 140,
) -> Results:
    """Tokens a second of ours over each of the others', on a checkpoint or on the random model with responses of this
    mean length (that of the tiny recipe after reinforcement learning)."""
    found = Results(wanted={"sampler_vs_generate": ">= 4"})
    with ExitStack() as stack:
        checkpoint = checkpoint or random_checkpoint(stack, Size(prompts, 1, limit, mean_length, optimizer_steps=1))
        tokenizer = load_tokenizer(checkpoint)
        problems = islice(problem_stream(Split.VALIDATION, 0), prompts)
        asked = [encode_prompt(tokenizer, problem.question) for problem in problems]
        task = Task(load_policy(checkpoint), tokenizer, asked, limit)
        samplers: dict[str, Generate] = {
            "satori": partial(ours, task),
            "generate": partial(generate, task),
            "continuous_batching": partial(continuous, task),
        }
        if vllm:
            try:
                samplers["vllm"] = open_vllm(stack, task, checkpoint)
            except EngineError as error:
                found.reasons["sampler_vs_vllm"] = str(error).splitlines()[0]
        else:
            found.reasons["sampler_vs_vllm"] = "left out with --no-vllm"
        counted = {name: TokenCount(sampler) for name, sampler in samplers.items()}
        took = interleave(counted, runs)
    speeds = {
        name: [n / s for n, s in zip(counted[name].tokens[-runs:], times, strict=True)] for name, times in took.items()
    }
    for name in ("generate", "continuous_batching", "vllm"):
        found.ratios[f"sampler_vs_{name}"] = ratios(speeds["satori"], speeds[name]) if name in speeds else None
    found.details["sampler"] = {
        "checkpoint": checkpoint.name,
        "prompts": prompts,
        "max_new_tokens": limit,
        "temperature": task.temperature,
        "tokens_per_s": {name: asdict(spread(values)) for name, values in speeds.items()},
        "mean_response_tokens": {
            name: round(sum(c.tokens) / len(c.tokens) / prompts, 1) for name, c in counted.items()
        },
        "greedy_equal": greedy_agreement(task, 64),
    }
    return found


def random_checkpoint(stack: ExitStack, size: Size) -> Path:
    """The random model as a checkpoint folder, which goes when the stack does."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "random"
    subject = random_subject(size)
    save(subject.template, subject.tokenizer, folder)
    return folder


class TokenCount:
    """A sampler as :func:`bench.measuring.interleave` wants it; remembers how many tokens came."""

    def __init__(self, sampler: Generate) -> None:
        self.sampler, self.tokens = sampler, list[int]()

    def __call__(self, run: int) -> float:
        torch.manual_seed(run)
        return seconds(lambda: self.tokens.append(sum(map(len, self.sampler(run)))))


def ours(task: Task, seed: int) -> list[list[int]]:
    sampling = Sampling(temperature=task.temperature, max_new_tokens=task.limit)
    return [list(c.token_ids) for c in generate_all(TorchEngine(task.model, task.end), task.prompts, sampling, seed)]


def generate(task: Task, seed: int, sample: bool = True) -> list[list[int]]:
    """One left-padded batch; padding after the end is not counted."""
    width, pad = max(map(len, task.prompts)), task.tokenizer.pad_token_id
    device = task.model.device
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in task.prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in task.prompts], device=device)
    rows = task.model.generate(ids, attention_mask=mask, generation_config=_generation_config(task, sample))
    responses = [row[width:].tolist() for row in rows]
    return [r[: r.index(task.end) + 1] if task.end in r else r for r in responses]


def continuous(task: Task, seed: int) -> list[list[int]]:
    """On a CPU the cache is small: every step's cost grows with all of it, and this was the fastest of several."""
    small: dict[str, Any] = {} if task.model.device.type == "cuda" else {"num_blocks": 64, "max_batch_tokens": 256}
    outputs = task.model.generate_batch(
        inputs=task.prompts,
        generation_config=_generation_config(task, sample=True),
        continuous_batching_config=ContinuousBatchingConfig(**small),
        progress_bar=False,
    )
    return [output.generated_tokens for output in outputs.values()]


def open_vllm(stack: ExitStack, task: Task, checkpoint: Path) -> Generate:
    """vLLM on the same checkpoint. Raises EngineError where it is not installed or cannot run here."""
    from satori.engines.vllm_engine import VllmEngine, VllmSettings  # vLLM is an extra

    engine = stack.enter_context(
        VllmEngine(checkpoint, task.end, VllmSettings(dtype="float32", kv_cache_gib=1.0, gpu_memory_utilization=0.5))
    )
    sampling = Sampling(temperature=task.temperature, max_new_tokens=task.limit)
    return lambda seed: [list(c.token_ids) for c in generate_all(engine, task.prompts, sampling, seed)]


def _generation_config(task: Task, sample: bool) -> GenerationConfig:
    drawn: dict[str, Any] = {"temperature": task.temperature, "top_k": 0, "top_p": 1.0} if sample else {}
    return GenerationConfig(
        max_new_tokens=task.limit,
        do_sample=sample,
        eos_token_id=task.end,
        pad_token_id=task.tokenizer.pad_token_id,
        **drawn,
    )


def greedy_agreement(task: Task, prompts: int) -> float:
    """Share of prompts whose greedy response is the same, token by token, in ours and in ``generate``."""
    few = Task(task.model, task.tokenizer, task.prompts[:prompts], task.limit)
    sampling = Sampling(temperature=0, max_new_tokens=task.limit)
    mine = generate_all(TorchEngine(few.model, few.end), few.prompts, sampling, 0)
    theirs = generate(few, 0, sample=False)
    return sum(list(a.token_ids) == b for a, b in zip(mine, theirs, strict=True)) / len(few.prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder (default: the random model)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=384)
    options = parser.parse_args()
    found = measure(options.model, options.prompts, options.max_new_tokens, options.runs)
    console = Console()
    show(found, console)
    console.print_json(data=found.details)


if __name__ == "__main__":
    main()
