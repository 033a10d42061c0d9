"""The speed of the training core, as ratios measured side by side on this machine.

    python -m bench.run_all [--only training update ...] [--runs 5] [--threads N]    # or: make bench
    python -m bench.run_all --device cuda --model CHECKPOINT                         # not tried yet: see below

Prints the tables and writes bench/results.json after each bench: ratios, what is behind them, where the time of a PPO
iteration goes, the machine. A machine that does other work at the same time changes seconds more than ratios; two
threads on two busy cores wait for each other at every step, and ``--threads 1`` is then the fairer measurement.

The second line is for a checkpoint of 135 million to half a billion parameters on a GPU (weights in float32, bfloat16
autocast on both sides, TRL with ``model.generate``). It is written with care and HAS NEVER RUN on a GPU.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from bench import head_memory, iteration, sampler, training, update
from bench.measuring import Results, machine, show, write_results
from bench.subject import Size, Subject, random_subject, real_subject

RESULTS = Path(__file__).parent / "results.json"
BENCHES = ("training", "update", "iteration", "sampler", "head_memory")


def main() -> None:
    options = parse()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # satori takes a GPU wherever it sees one
    elif not torch.cuda.is_available():
        raise SystemExit("--device cuda: PyTorch sees no GPU here")
    if options.threads:
        torch.set_num_threads(options.threads)
    transformers_logging.disable_progress_bar()
    console, description, found = Console(), machine(), Results()
    for name, bench in benches(options).items():
        console.print(f"{name} ...")
        found.add(bench())
        write_results(found, options.out, description)
    show(found, console)
    console.print(f"written to {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", help="a checkpoint folder or hub id (default: the random model)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; 0: as it likes")
    for setting in fields(Size):
        kind = type(setting.default)
        parser.add_argument("--" + setting.name.replace("_", "-"), type=kind, default=setting.default)
    parser.add_argument("--trl-batch", type=int, default=training.TRL_BATCH, help="TRL's per_device_train_batch_size")
    parser.add_argument("--sampler-limit", type=int, default=384, help="most new tokens in the sampler's bench")
    parser.add_argument("--no-vllm", action="store_true", help="leave vLLM out of the sampler's bench")
    parser.add_argument("--head-tokens", type=int, default=head_memory.TOKENS)
    parser.add_argument(
        "--naive-tokens",
        type=int,
        default=head_memory.NAIVE_TOKENS,
        help="tokens of the naive head, whose memory is the larger by them (8192 take about 20 GB)",
    )
    return parser.parse_args()


def benches(options: argparse.Namespace) -> dict[str, Callable[[], Results]]:
    """The chosen benches, ready to run."""
    size = Size(**{setting.name: getattr(options, setting.name) for setting in fields(Size)})
    every: dict[str, Callable[[], Results]] = {
        "training": lambda: training.measure(subject(options, size), size, options.trl_batch),
        "update": lambda: update.measure(subject(options, size), size),
        "iteration": lambda: iteration.measure(subject(options, size), size),
        "sampler": partial(
            sampler.measure,
            Path(options.model) if options.model else None,
            size.samples,
            options.sampler_limit,
            size.runs,
            not options.no_vllm,
        ),
        "head_memory": partial(
            head_memory.measure,
            options.head_tokens,
            options.naive_tokens,
            device=options.device,
            threads=options.threads,
            runs=size.runs,
        ),
    }
    return {name: every[name] for name in BENCHES if name in options.only}


def subject(options: argparse.Namespace, size: Size) -> Subject:
    return real_subject(options.model, size) if options.model else random_subject(size)


if __name__ == "__main__":
    main()
