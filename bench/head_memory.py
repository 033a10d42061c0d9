"""Memory that the head of a large vocabulary takes when log-probabilities are trained, beside that of naive logits.

    python -m bench.head_memory --probe ours --tokens 8192     # one measurement, as JSON

Each measurement has a process of its own, which has weights and hidden states before it begins and the peak of its
memory set back. What counts is the peak beyond that, forward and backward; the gradient of the weights is taken off,
since it exists anyway, that of the hidden states is not. The unit is the logits as float32, tokens x vocabulary x 4
bytes. On a GPU it is the peak of PyTorch's allocator.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from bench.measuring import Results, seconds, spread
from satori.head import head_logprobs

VOCABULARY, HIDDEN, TOKENS, NAIVE_TOKENS = 152_000, 896, 8192, 1024


@dataclass(frozen=True)
class Probe:
    """One measurement: which head, and how large."""

    head: str
    tokens: int
    vocabulary: int = VOCABULARY
    hidden: int = HIDDEN
    device: str = "cpu"
    later: bool = False
    """A gradient of the weights is there already, as in every micro-batch but the first."""

    @property
    def logits_bytes(self) -> int:
        return self.tokens * self.vocabulary * 4


def measure(
    tokens: int = TOKENS,
    naive_tokens: int = NAIVE_TOKENS,
    vocabulary: int = VOCABULARY,
    hidden: int = HIDDEN,
    device: str = "cpu",
    threads: int = 0,
    runs: int = 5,
) -> Results:
    """Ours with and without an earlier gradient, and the naive head on fewer tokens, in turn: its memory grows with
    them."""
    probes = {
        "chunked_head_memory": Probe("ours", tokens, vocabulary, hidden, device),
        "chunked_head_memory_later_batch": Probe("ours", tokens, vocabulary, hidden, device, later=True),
        "naive_head_memory": Probe("naive", naive_tokens, vocabulary, hidden, device),
    }
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in probes}
    for _ in range(runs):
        for name, probe in probes.items():
            answers[name].append(in_process(probe, threads))
    found = Results(wanted={"chunked_head_memory": "<= 0.1"})
    for name, probe in probes.items():
        found.ratios[name] = spread([answer["bytes"] / probe.logits_bytes for answer in answers[name]])
        found.details[name] = {**asdict(probe), "logits_bytes": probe.logits_bytes, "runs": answers[name]}
    return found


def in_process(probe: Probe, threads: int = 0) -> dict[str, Any]:
    """The measurement, made in a process of its own."""
    command = [sys.executable, "-m", "bench.head_memory", "--probe", probe.head, "--threads", str(threads)]
    for name in ("tokens", "vocabulary", "hidden", "device"):
        command += [f"--{name}", str(getattr(probe, name))]
    root = Path(__file__).parents[1]
    done = subprocess.run(command + ["--later"] * probe.later, cwd=root, stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_probe(probe: Probe) -> dict[str, Any]:
    """Peak bytes beyond what is there anyway, and the seconds of forward and backward."""
    config = Qwen2Config(
        vocab_size=probe.vocabulary,
        hidden_size=probe.hidden,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).eval().to(torch.device(probe.device))
    weight = model.get_output_embeddings().weight
    hidden_NH = torch.randn(probe.tokens, probe.hidden, device=probe.device, requires_grad=True)
    targets_N = torch.randint(0, probe.vocabulary, (probe.tokens,), device=probe.device)
    if probe.later:
        weight.grad = torch.ones_like(weight)
    head = naive_head if probe.head == "naive" else head_logprobs
    peak = DevicePeak() if probe.device.startswith("cuda") else ProcessPeak()
    losses: list[torch.Tensor] = []
    took = seconds(lambda: losses.append(head(hidden_NH, model, targets_N, 1.0)[0].sum()))
    forward = peak.grown()
    peak.set_back()
    took += seconds(losses[0].backward)
    new_gradient = 0 if probe.later else weight.grad.numel() * weight.grad.element_size()
    backward = peak.grown() - new_gradient
    return {"bytes": max(forward, backward), "forward": forward, "backward": backward, "seconds": round(took, 2)}


def naive_head(
    hidden_NH: torch.Tensor, model: PreTrainedModel, targets_N: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """All logits at once, as a formula would be written down; the entropy without a gradient."""
    logprobs_NV = (model.get_output_embeddings()(hidden_NH).float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(-1, targets_N[:, None])[:, 0], entropy_N


class ProcessPeak:
    """How far this process's resident memory rises above what it is now: by Linux's own high-water mark, which can be
    set back; where that is not allowed, by the largest of many samples."""

    def __init__(self) -> None:
        self.before = _resident("VmRSS")
        self.sampled: int | None = None
        self.set_back()

    def set_back(self) -> None:
        """Forget the peak so far."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            if self.sampled is None:
                threading.Thread(target=self._sample, daemon=True).start()
            self.sampled = 0

    def grown(self) -> int:
        """The bytes of the peak since it was set back, beyond those at the start."""
        peak = _resident("VmHWM") if self.sampled is None else max(self.sampled, _resident("VmRSS"))
        return peak - self.before

    def _sample(self) -> None:
        while True:
            self.sampled = max(self.sampled or 0, _resident("VmRSS"))
            time.sleep(0.002)


class DevicePeak:
    """The same for what PyTorch's allocator holds on the GPU."""

    def __init__(self) -> None:
        self.before = torch.cuda.memory_allocated()
        self.set_back()

    def set_back(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def grown(self) -> int:
        return torch.cuda.max_memory_allocated() - self.before


def _resident(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", choices=["ours", "naive"], required=True)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--hidden", type=int, default=HIDDEN)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--later", action="store_true", help="with a gradient of the weights from an earlier batch")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; 0: as it likes")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    probe = Probe(options.probe, options.tokens, options.vocabulary, options.hidden, options.device, options.later)
    print(json.dumps(run_probe(probe)))


if __name__ == "__main__":
    main()
