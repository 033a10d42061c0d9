"""Do the three engines say the same? The embedded sampler, vLLM in this process, and a vLLM server; greedy, float32.

    python bench/engines_agree.py CHECKPOINT [--out result.json] [--prompts 64] [--new-tokens 64]

Prompts are of mixed length, up to 512 tokens: problems of the embedded family and of reasoning-gym, and texts made of
several of them, asked in the prompt of the product or given as bare text. For each pair of engines the share of prompts
with identical token ids, which is to be at least 0.95. For each difference the two log-probabilities, in transformers,
of the two tokens at the first place that differs: a difference of float noise is one where they are nearly equal.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.coat import encode_prompt
from satori.engines.base import Engine, Sampling, generate_all
from satori.engines.server import ServerEngine, ServerEngineSettings
from satori.engines.torch_engine import TorchEngine
from satori.engines.vllm_engine import VllmEngine, VllmSettings
from satori.models import load_any_policy, load_tokenizer
from satori.problems.arithmetic import Split, problem_stream
from satori.problems.out_of_domain import reasoning_gym_problems

LONGEST = 512
TASKS = ("basic_arithmetic", "simple_equations", "word_sorting", "leg_counting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.checkpoint)
    prompts = mixed_prompts(tokenizer, options.prompts)
    eos, length = tokenizer.eos_token_id, LONGEST + options.new_tokens
    said: dict[str, list[tuple[int, ...]]] = {}

    def ask(name: str, engine: Engine) -> None:
        started = time.perf_counter()
        sampling = Sampling(temperature=0, max_new_tokens=options.new_tokens)
        said[name] = [c.token_ids for c in generate_all(engine, prompts, sampling, 0)]
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)

    # One after the other: they need not all fit into the memory.
    with vllm_server(options.checkpoint, length) as url:
        ask("server", ServerEngine(ServerEngineSettings(url=url, model="m", concurrency=64), tokenizer))
    with VllmEngine(options.checkpoint, eos, VllmSettings(dtype="float32", max_model_len=length)) as engine:
        ask("vllm", engine)
    model, _ = load_any_policy(str(options.checkpoint), dtype="float32")
    ask("torch", TorchEngine(model, eos, rows=64))
    lengths = sorted(map(len, prompts))
    result: dict[str, Any] = {"prompts": len(prompts), "prompt_tokens": [lengths[0], lengths[-1]]}
    for one, other in combinations(said, 2):
        result[f"{one}-{other}"] = compare(model, prompts, said[one], said[other])
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def mixed_prompts(tokenizer: PreTrainedTokenizerBase, count: int) -> list[list[int]]:
    """Short and long, asked and bare, in turn; cut where they are too long."""
    rng = random.Random(0)
    questions = [problem.question for problem in islice(problem_stream(Split.VALIDATION, 0), count)]
    questions += [problem.question for task in TASKS for problem in reasoning_gym_problems(task, count // 4)]
    rng.shuffle(questions)
    prompts = []
    for index in range(count):
        text = "\n\n".join(rng.sample(questions, rng.choice((1, 1, 3, 9))))
        asked = index % 2 == 0
        ids = encode_prompt(tokenizer, text) if asked else tokenizer.encode(text, add_special_tokens=False)
        prompts.append(ids[-LONGEST:])
    return prompts


def compare(
    model: PreTrainedModel, prompts: list[list[int]], one: list[tuple[int, ...]], other: list[tuple[int, ...]]
) -> dict[str, Any]:
    """The share that is identical, and each difference."""
    rows = list(zip(prompts, one, other, strict=True))
    differences = [difference(model, *row) | {"prompt": i} for i, row in enumerate(rows) if row[1] != row[2]]
    return {"identical": 1 - len(differences) / len(rows), "differences": differences}


@torch.no_grad()
def difference(
    model: PreTrainedModel, prompt: list[int], one: tuple[int, ...], other: tuple[int, ...]
) -> dict[str, float | int | bool]:
    """Where two responses part, how far apart the model's two best tokens are there, and whether those were said."""
    place = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    logits = model(torch.tensor([[*prompt, *one[:place]]], device=model.device)).logits[0, -1]
    best = logits.float().log_softmax(-1).topk(2)
    gap = (best.values[0] - best.values[1]).item()
    return {"place": place, "gap": gap, "said_both": {one[place], other[place]} == set(best.indices.tolist())}


@contextmanager
def vllm_server(checkpoint: Path, length: int) -> Iterator[str]:
    """A vLLM server in a process of its own, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ["--served-model-name", "m", "--dtype", "float32", "--max-model-len", str(length)]
    settings += ["--port", str(port), "--host", "127.0.0.1", "--enforce-eager", "--uvicorn-log-level", "warning"]
    if not torch.cuda.is_available():
        settings += ["--kv-cache-memory-bytes", str(2 * 2**30)]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), *settings]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    server = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=sys.stderr)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes], limit: float = 600) -> None:
    started = time.monotonic()
    while time.monotonic() - started < limit:
        if server.poll() is not None:
            raise SystemExit(f"the vLLM server has ended with {server.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(1)
    raise SystemExit(f"the vLLM server does not answer after {limit:.0f} s")


if __name__ == "__main__":
    main()
