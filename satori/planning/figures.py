"""What a plan is made of: the machine and what is assumed of it, and figures that show their arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from satori.config import Settings

FREE_SHARE = 0.1
"""Of a GPU's memory, kept free for what is not counted: the allocator's slack, NCCL, CUDA itself."""

_COUNTS = ("a second", "sequences", "steps", "tokens")


class PlanSettings(Settings):
    """The machine, and what is assumed of it."""

    gpus: int = Field(default=8, gt=0)
    gpu_memory: float = Field(default=80.0, gt=0)
    """GB of one GPU."""
    peak_tflops: float = Field(default=989.0, gt=0)
    """Dense bfloat16 peak of one GPU (989: H100 SXM)."""
    peak_tflops_float32: float = Field(default=67.0, gt=0)
    """Float32 peak of one GPU (67: H100 SXM)."""
    mfu: float = Field(default=0.35, gt=0, le=1)
    """Share of the peak that training reaches."""
    bandwidth: float = Field(default=3350.0, gt=0)
    """Memory bandwidth of one GPU in GB/s (3350: H100 SXM)."""
    bandwidth_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the bandwidth that generation reaches."""
    engine_extra: float = Field(default=3.0, ge=0)
    """GB that vLLM needs beside weights and cache: activations, compiled graphs."""
    mean_prompt: float = Field(default=300.0, gt=0)
    """Tokens of a prompt with its restart prefix."""
    mean_response: float = Field(default=900.0, gt=0)
    """Tokens of a response."""

    @property
    def usable(self) -> float:
        """GB of one GPU that a plan may fill."""
        return self.gpu_memory * (1 - FREE_SHARE)


@dataclass(frozen=True)
class Line:
    """One figure with its arithmetic."""

    title: str
    sum: str
    value: float
    unit: str = "GB"

    def __str__(self) -> str:
        places = 0 if self.unit in _COUNTS else 1
        return f"  {self.title:<36} {self.value:>9,.{places}f} {self.unit:<9} = {self.sum}"


def billions(count: float) -> str:
    return f"{count / 1e9:.2f}e9" if count >= 1e8 else f"{count / 1e6:.2f}e6"


def verdict(lines: Sequence[Line], machine: PlanSettings) -> str:
    """Whether what is in a GPU's memory together fits there."""
    needed = sum(line.value for line in lines)
    left = machine.usable - needed
    word = f"fits, {left:.1f} GB left" if left >= 0 else f"DOES NOT FIT, {-left:.1f} GB too much"
    return f"  {'together':<36} {needed:>9,.1f} GB          of {machine.usable:g} GB usable: {word}"
