"""What the stages that train with TRL share: supervised fine-tuning, resuming, progress and metrics.

The trainers are TRL's; ours are the data, which come as token ids with labels, so that what is trained on is what was
sampled. With several ranks the trainers shard the model (FSDP2, through accelerate), and a batch is the same examples
as on one rank.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pydantic import Field
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTConfig, SFTTrainer

from satori import ranks
from satori.config import Settings, derive_seed
from satori.divergence import DivergedError, keeping_the_batch
from satori.lora import LoraSettings, add_adapters, has_tied_head
from satori.models import device
from satori.optimizers import OptimizerKind, make_optimizer
from satori.precision import Precision, in_bfloat16
from satori.progress import Task
from satori.recompute import Recompute, recomputing
from satori.run_folder import CHECKPOINTS, ArtifactError, append_jsonl, forget_after
from satori.scoring import PromptResponse
from satori.sharding import load_state, save_state
from satori.tracking import Trackers

_STATE, _SCHEDULE = "state", "schedule.json"
_PART = "model"
"""In a checkpoint: the folder of what is trained and remembered, and the learning rate's place in its course."""


class OptimizerSettings(Settings):
    """Optimisation of a supervised stage."""

    learning_rate: float = Field(gt=0)
    epochs: float = Field(default=1, gt=0)
    batch_size: int = Field(default=128, gt=0)
    """Examples in an optimiser step (paper: 128)."""
    micro_batch_size: int = Field(default=128, gt=0)
    """Examples computed at a time; the batch is accumulated from these."""
    max_length: int = Field(default=4096, gt=0)
    """Tokens of an example, prompt and response together (paper: 4096); longer ones are left out."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    """`muon` learns faster on small models; the paper's scripts use Adam."""
    precision: Precision = "auto"
    """`float32`, `bfloat16` (autocast), or `auto`: bfloat16 on a GPU that has it."""
    recompute_activations: Recompute = "auto"
    """Compute activations again in the backward pass instead of keeping them; `auto`: on a GPU."""
    lora: LoraSettings = LoraSettings()
    """Adapters; added tokens, and a new head, are trained as they are."""


def trainer_arguments(folder: Path, settings: OptimizerSettings, seed: int, examples: int) -> dict[str, Any]:
    """Arguments that TRL's SFT and reward trainers take alike: cosine decay, a checkpoint an epoch.

    Every batch is a full one: what is left over in an epoch is left out of it, other examples in each.
    """
    own = batch_size(settings, examples) // ranks.count()
    micro = largest_divisor(own, settings.micro_batch_size)
    return {
        "output_dir": str(folder),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": own // micro,
        "dataloader_drop_last": True,
        "lr_scheduler_type": "cosine",
        "warmup_steps": settings.warmup_ratio,
        "logging_steps": 10,
        "logging_strategy": "steps",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "seed": seed,
        "use_cpu": device().type == "cpu",  # else transformers refuses bfloat16 there
        "bf16": in_bfloat16(settings.precision),
        "gradient_checkpointing": False,  # our own, the same on any number of ranks
        **({} if ranks.count() == 1 else {"fsdp": True, "fsdp_config": {"version": 2}}),
        "disable_tqdm": True,
        "report_to": [],
        "dataloader_pin_memory": False,
        "max_length": None,
    }


def batch_size(settings: OptimizerSettings, examples: int) -> int:
    """Examples in a batch, of all ranks together: fewer than the settings say where there are not so many.

    Raises ArtifactError where the ranks cannot have equal shares.
    """
    if settings.batch_size % ranks.count():
        raise ArtifactError(
            f"batch_size is {settings.batch_size}: {ranks.count()} ranks cannot have equal shares of it"
        )
    size = min(settings.batch_size, examples - examples % ranks.count())
    if not size:
        raise ArtifactError(f"{examples} examples are too few to train on with {ranks.count()} ranks")
    return size


def short_enough(
    rows: Sequence[dict[str, Any]], length: Callable[[dict[str, Any]], int], settings: OptimizerSettings, task: Task
) -> list[dict[str, Any]]:
    """Those of at most ``max_length`` tokens; the others are counted. Raises ArtifactError where none is left."""
    kept = [row for row in rows if length(row) <= settings.max_length]
    if rows and not kept:
        raise ArtifactError(f"all {len(rows)} examples are longer than max_length, {settings.max_length} tokens")
    if left_out := len(rows) - len(kept):
        task.warn(f"{left_out} of {len(rows)} examples are longer than max_length, {settings.max_length}: left out")
    return kept


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above the limit."""
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)


@contextmanager
def unmasked(model: PreTrainedModel) -> Iterator[None]:
    """A causal model's forward passes without attention mask, which right padding does not need: PyTorch's attention
    then skips what causality hides instead of adding a mask, with the same result."""

    def drop(
        _: torch.nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {name: value for name, value in inputs.items() if name != "attention_mask"}

    handle = model.register_forward_pre_hook(drop, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class SeededLengthSampler(LengthGroupedSampler):
    """Examples of similar length together, in whole batches and in an order that is the seed's and the epoch's: the
    same on any number of ranks, and when an interrupted training goes on."""

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int) -> None:
        super().__init__(batch_size, lengths=list(lengths))
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(derive_seed(self.seed, f"epoch {self.epoch}"))
        return islice(super().__iter__(), len(self))


class OwnTrainer(Trainer):
    """A trainer with what the settings say of optimiser and memory, and with batches of examples of similar length,
    the same on any number of ranks. Padding is on the right.

    The optimiser is made once the model is sharded, not before. Checkpoints hold what is trained and the optimiser's
    state, in safetensors files that any number of ranks can go on from. Training stops where a gradient is not finite:
    DivergedError, with the batch.
    """

    def __init__(self, settings: OptimizerSettings, lengths: Sequence[int], **arguments: Any) -> None:
        self.settings, self.lengths = settings, list(lengths)
        self._batch: list[Any] = []
        if arguments["args"].n_gpu > 1:  # one process without a launcher: the trainer would use them all by itself
            arguments["args"]._n_gpu = 1
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Any = None) -> SeededLengthSampler:
        return SeededLengthSampler(batch_size(self.settings, len(self.lengths)), self.lengths, self.args.seed)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        trained = self.model if model is None else model
        assert trained is not None
        self.optimizer = make_optimizer(trained, self.settings.optimizer, self.settings.learning_rate)
        return self.optimizer

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        assert isinstance(self.model, PreTrainedModel)
        with unmasked(self.model), recomputing(self.model, self.settings.recompute_activations):
            return super().compute_loss(*arguments, **options)

    def get_batch_samples(self, *arguments: Any, **options: Any) -> Any:
        self._batch, items = super().get_batch_samples(*arguments, **options)
        return self._batch, items

    def _get_grad_norm(self, *arguments: Any, **options: Any) -> float:
        norm = float(super()._get_grad_norm(*arguments, **options))
        if not math.isfinite(norm):
            rows = ranks.gather([row for micro_batch in self._batch for row in _token_ids(micro_batch)])
            raise DivergedError(f"step {self.state.global_step + 1}: the gradient norm is {norm}", rows)
        return norm

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Nothing: what is trained is saved with the optimiser's state."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        assert self.lr_scheduler is not None
        state = Path(output_dir) / _STATE
        ranks.first_does(lambda: shutil.rmtree(state, ignore_errors=True))  # of a run that was killed while it saved
        save_state(state, self._parts())
        if ranks.is_first():
            (Path(output_dir) / _SCHEDULE).write_text(json.dumps(self.lr_scheduler.state_dict()), encoding="utf-8")

    def _load_from_checkpoint(self, *arguments: Any, **options: Any) -> None:
        """Nothing: what was trained is loaded with the optimiser's state."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert self.lr_scheduler is not None
        parts = self._parts()
        load_state(Path(checkpoint) / _STATE, parts)
        self.lr_scheduler.load_state_dict(json.loads((Path(checkpoint) / _SCHEDULE).read_text(encoding="utf-8")))
        for group, rate in zip(parts[_PART][1].param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _parts(self) -> dict[str, tuple[PreTrainedModel, torch.optim.Optimizer]]:
        assert isinstance(self.model, PreTrainedModel)
        assert self.optimizer is not None
        own = getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it
        return {_PART: (self.model, own)}


def _token_ids(micro_batch: dict[str, torch.Tensor]) -> list[list[int]]:
    """The rows of a padded batch, without padding."""
    return [
        ids[mask.bool()].tolist()
        for ids, mask in zip(micro_batch["input_ids"], micro_batch["attention_mask"], strict=True)
    ]


def run_trainer(trainer: OwnTrainer, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Run a trainer, from the last checkpoint in the stage's folder if there is one. Raises ArtifactError where a
    gradient is not finite."""

    def describe(token_ids: list[int]) -> dict[str, object]:
        return {"text": tokenizer.decode(token_ids), "token_ids": token_ids}

    trainer.remove_callback(PrinterCallback)
    whole = checkpoints(folder / CHECKPOINTS)
    with keeping_the_batch(folder.name, folder, describe):
        trainer.train(resume_from_checkpoint=str(whole[-1]) if whole else None)


class _FineTuning(OwnTrainer, SFTTrainer):
    """TRL's."""


class ReportCallback(TrainerCallback):
    """Passes a trainer's steps to the live display and its logs to a JSON-lines file and the trackers."""

    def __init__(self, task: Task, metrics: Path, trackers: Trackers) -> None:
        self.task, self.metrics, self.trackers = task, metrics, trackers

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.task.start(total=state.max_steps, done=state.global_step)
        forget_after(self.metrics, state.global_step + 1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.task.advance()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_log = True  # checkpoints are written then: no loss is averaged over what a resumed run lacks

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "train_runtime" in (logs or {}):  # the end: means over what this call did, and not the training
            return
        numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
        record = {"step": state.global_step, **numbers}
        append_jsonl(self.metrics, record)
        self.trackers.log(record)
        if "loss" in numbers:
            self.task.note(f"loss {numbers['loss']:.3f}")


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in a trainer's folder as the first rank sees them, the newest last: a state file is
    written last, and not aside."""

    def whole() -> list[Path]:
        found = [p.parent for p in folder.glob("checkpoint-*/trainer_state.json") if _is_json(p)]
        return sorted(found, key=lambda p: int(p.name.split("-")[1]))

    return ranks.first_does(whole)


def load_trained(folder: Path, model: PreTrainedModel) -> None:
    """Give a model what a trainer's checkpoint holds: all of it, or what was trained beside adapters."""
    with ranks.alone():  # the model is whole here, whatever wrote the checkpoint
        load_state(folder / _STATE, {_PART: (model, None)})


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[PromptResponse],
    settings: OptimizerSettings,
    folder: Path,
    task: Task,
    seed: int,
    trackers: Trackers | None = None,
    new_tokens: Sequence[int] = (),
) -> None:
    """Supervised fine-tuning in place, loss on the responses only. Goes on from a checkpoint left in ``folder``.

    Adapters train beside ``new_tokens``, where there are any: tokens that the model has never seen. Raises
    ArtifactError where several GPUs cannot.
    """
    if settings.lora.rank and new_tokens and ranks.count() > 1 and device().type != "cpu" and has_tied_head(model):
        raise ArtifactError(
            f"lora on {ranks.count()} GPUs: this model's output head is its embeddings, and accelerate cannot shard "
            "them while the rows of new tokens are trained. Set lora.rank: 0, or run this stage on one GPU"
        )
    add_adapters(model, settings.lora, seed, tokens=new_tokens)
    rows = [
        {"input_ids": [*prompt, *response], "labels": [-100] * len(prompt) + list(response)}
        for prompt, response in sequences
    ]
    rows = short_enough(rows, lambda row: len(row["input_ids"]), settings, task)
    arguments = trainer_arguments(folder / CHECKPOINTS, settings, seed, len(rows))
    trainer = _FineTuning(
        settings,
        [len(row["input_ids"]) for row in rows],
        model=model,
        args=SFTConfig(**arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[ReportCallback(task, folder / "metrics.jsonl", trackers or Trackers())],
    )
    run_trainer(trainer, tokenizer, folder)
