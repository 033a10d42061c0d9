"""vLLM inside this process: the engine for models that the embedded sampler is too slow for, on a GPU or a CPU.

The requests go straight to vLLM's scheduler and are taken from it one step at a time, so completions come as they
finish, and a caller that stops early leaves no work behind. Weights of a model in training are handed over in memory
(:meth:`VllmEngine.update_weights`). vLLM is imported when an engine is opened, never before.

What of a checkpoint does not reach the sampling: its tokenizer (ids go in and come out) and the sampling settings in
its ``generation_config.json`` (the sampled distribution is the model's own).

The same prompts, settings, seed and weights give the same completions as far as vLLM computes the same in every batch:
every request has a seed of its own, and no call sees what another one left in the cache.

Compared with vLLM's own ``LLM.generate`` in ``bench/vllm_engine.py``, with the other engines in
``bench/engines_agree.py``.
"""

import gc
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field
from transformers import AutoConfig, PreTrainedModel

from satori import ranks
from satori.config import Settings, derive_seed
from satori.engines.base import EngineError, Piece, Sampling
from satori.engines.vllm_process import end, import_vllm, undisturbed
from satori.engines.vllm_weights import (
    Shapes,
    Weights,
    all_taken,
    check_all,
    check_each,
    live_weights,
    parameter_shapes,
    unmerged_weights,
    with_tied_head,
)
from satori.types import Completion, FinishReason

_COLDEST = 0.01  # vLLM raises temperatures between 0 and this one to it
_SHARE = 0.9  # of a GPU's memory, where nothing else is on it
SHARE_BESIDE_TRAINING = 0.4
"""The same in a recipe's stages, whose policy, critic and optimiser are on the GPU, too."""

_Asked = tuple[int, int, list[int]]  # rank, number of the response, prompt


class VllmSettings(Settings):
    """How vLLM runs."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The type to compute in; `auto` is that of the saved weights."""
    tensor_parallel_size: int = Field(default=1, gt=0)
    """GPUs that share each weight matrix. Of several ranks so many neighbours are one engine; RL with more than one
    needs as many ranks, or a multiple."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """On a GPU: the share of its memory for weights and cache, which must be free when the engine is opened and when it
    wakes. null: 0.4 in the stages of a recipe, where models are trained beside it, otherwise 0.9."""
    kv_cache_gib: float = Field(default=4.0, gt=0)
    """On a CPU: memory for the cache of keys and values."""
    max_model_len: int = Field(default=0, ge=0)
    """Tokens of prompt and response together; 0 is the model's own limit. Less needs less memory: on a CPU so
    many tokens of prompts are computed at once."""
    max_num_seqs: int = Field(default=256, gt=0)
    """Sequences generated at a time."""
    enforce_eager: bool | None = None
    """Run the model without compiling it. null: compiled on a GPU, not on a CPU, where compiling takes over a
    minute."""
    prefix_caching: bool = True
    """Compute a beginning that several prompts of a call share only once."""
    sleep_mode: bool = True
    """On a GPU: free the memory of the engine while the model is trained."""


class VllmEngine:
    """Samples from a checkpoint with vLLM. A context manager: one engine is open at a time in a process; processes that
    train together open and close theirs together.

    With ``tensor_parallel_size`` above one, as many neighbouring ranks are one engine. Each asks for prompts of its own
    and gets their completions; all ranks call ``generate`` together and take all that comes. A process without other
    ranks has vLLM start the workers, which take no weights of a live model.

    A response ends with the end token, or with one of ``also_stop`` where a model has several, and with no other.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        eos_token_id: int,
        settings: VllmSettings,
        also_stop: Sequence[int] = (),
        trust_remote_code: bool = False,
    ) -> None:
        vllm = import_vllm()
        self.settings = settings
        self.stop_ids = frozenset((eos_token_id, *also_stop))
        self._new_parameters = partial(
            vllm.SamplingParams,
            # Only our own end tokens: vLLM would add those of the tokenizer and of generation_config.json.
            ignore_eos=True,
            logprobs=0,  # of the sampled token, and of no other
            flat_logprobs=True,
            detokenize=False,
            output_kind=vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )
        if ranks.are_others_waiting():  # vLLM forms its groups with all ranks of the program
            raise EngineError(
                "one rank of several cannot open a vLLM engine by itself: run this stage as one process, without "
                "torchrun or accelerate launch, or have a server run its models"
            )
        if vllm.distributed.model_parallel_is_initialized():
            raise EngineError("another vLLM engine is open in this process: close it first")
        self._checkpoint, self._trust = str(checkpoint), trust_remote_code
        self._calls = itertools.count()
        members = settings.tensor_parallel_size if ranks.count() > 1 else 1
        if ranks.count() % members:
            raise EngineError(
                f"engine.vllm.tensor_parallel_size is {members}, and {ranks.count()} ranks are no multiple of it"
            )
        # The ranks that are one engine with this one, itself among them.
        self._members = range(start := ranks.index() // members * members, start + members)
        self._process_group = torch.distributed.is_initialized()
        with undisturbed():
            on_cpu = vllm.platforms.current_platform.is_cpu()
            self._can_sleep = settings.sleep_mode and not on_cpu
            try:
                self._llm: Any = vllm.LLM(**engine_arguments(str(checkpoint), settings, trust_remote_code, on_cpu))
            except Exception as error:  # vLLM raises anything, from OSError to AssertionError
                end(None, self._process_group)  # or the next engine finds the remains of this one
                raise EngineError(f"vLLM cannot run {checkpoint}: {error}") from error

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> Iterator[tuple[int, Completion]]:
        """See :class:`satori.engines.base.Engine`. Raises EngineError for an empty prompt or one too long, and while
        another call is neither finished nor closed."""
        engine = self._ready()
        me = ranks.index()
        own = [(me, first + index, list(prompt)) for index, prompt in enumerate(prompts)]
        asked = own if len(self._members) == 1 else self._of_members(own)
        self._check([prompt for _, _, prompt in asked], sampling)
        call, waiting = next(self._calls), {}
        try:
            for rank, number, prompt in asked:
                parameters = self._parameters(prompt, sampling, derive_seed(seed, "request", number))
                name = f"{call}-{rank}-{number}"
                waiting[name] = rank, number
                engine.add_request(name, {"prompt_token_ids": prompt}, parameters)
            while waiting:
                for output in engine.step():
                    if output.finished:
                        rank, number = waiting.pop(output.request_id)
                        if rank == me:
                            yield number - first, self._completion(output.outputs[0])
        finally:
            engine.abort_request(list(waiting))

    def stream(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Generator[Piece, None, None]:
        """See :class:`satori.engines.base.StreamingEngine`. Raises EngineError as ``generate`` does."""
        engine = self._ready()
        self._check([prompt], sampling)
        parameters = self._parameters(prompt, sampling, derive_seed(seed, "request", 0))
        parameters.output_kind = type(parameters.output_kind).DELTA
        name = str(next(self._calls))
        engine.add_request(name, {"prompt_token_ids": list(prompt)}, parameters)
        try:
            finished = False
            while not finished:
                for output in engine.step():
                    finished = output.finished
                    yield Piece(tuple(i for i in output.outputs[0].token_ids if i not in self.stop_ids))
        finally:
            engine.abort_request([name])

    def update_weights(self, model: PreTrainedModel) -> None:
        """See :class:`satori.engines.base.PolicyEngine`. Raises EngineError for another model, and goes on with the
        weights it has."""
        check_all(unmerged_weights(model), self._shapes)
        self.update_weights_from(live_weights(model))

    def update_weights_from(self, pairs: Weights) -> None:
        """Sample with these weights from now on: all parameters by their names in the model, taken one by one; a tied
        head may be left out.

        Raises EngineError where one is missing, unknown, or of another shape, and where the memory that a sleeping
        engine gave up is taken. The engine is closed then: vLLM has taken the weights before it.
        """
        llm = self._open()
        if llm.llm_engine.has_unfinished_requests():
            raise EngineError("a call of generate is under way on this engine: finish it or close it first")
        if (size := self.settings.tensor_parallel_size) > len(self._members):  # the workers are processes of vLLM's
            raise EngineError(
                f"an engine with engine.vllm.tensor_parallel_size {size} takes weights of a live model from {size} "
                "ranks only: start them with torchrun or accelerate launch, or set it to 1"
            )
        asleep = llm.llm_engine.is_sleeping()
        if asleep:  # the cache is woken last: weights on their way need room themselves
            self._wake("weights")
        weights = check_each(with_tied_head(pairs, self._shapes), self._shapes)
        try:
            with all_taken():
                llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        except BaseException as error:
            self.close()
            if isinstance(error, (AssertionError, LookupError, ValueError)):
                raise EngineError(f"vLLM does not take these weights, and is closed: {error}") from error
            raise
        if asleep:
            self._wake("kv_cache")

    def sleep(self) -> None:
        """See :class:`satori.engines.base.PolicyEngine`: on a GPU, the memory of weights and cache. On a CPU nothing
        is given up."""
        if self._can_sleep and not self._open().llm_engine.is_sleeping():
            self._open().sleep(level=2)

    def _wake(self, part: str) -> None:
        try:
            self._open().wake_up(tags=[part])
        except RuntimeError as error:
            self.close()
            raise EngineError(
                f"vLLM cannot have back the GPU memory of its {part}, and is closed: {error}; set "
                "engine.vllm.gpu_memory_utilization lower, so that the training fits beside it"
            ) from error

    def close(self) -> None:
        """Free the engine; it cannot be used any more. Another one can be opened afterwards."""
        if self._llm is None:
            return
        llm, self._llm = self._llm, None
        if llm.llm_engine.is_sleeping():  # memory that is freed asleep fails the next engine (vLLM's issue 36651)
            with suppress(RuntimeError):
                llm.wake_up()
        end(llm.llm_engine, self._process_group)
        del llm
        gc.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _shapes(self) -> Shapes:
        return parameter_shapes(self._checkpoint, self._trust)

    def _open(self) -> Any:
        if self._llm is None:
            raise EngineError("this vLLM engine is closed")
        return self._llm

    def _ready(self) -> Any:
        """vLLM's engine with an empty cache: no call depends on the one before, old weights leave nothing behind, and
        a block that an interrupt left half computed is not used."""
        llm = self._open()
        if llm.llm_engine.is_sleeping():
            raise EngineError("the vLLM engine sleeps: call update_weights first")
        if llm.llm_engine.has_unfinished_requests():
            raise EngineError("another call of generate is under way on this engine: finish it or close it first")
        if self.settings.prefix_caching and not llm.reset_prefix_cache():
            raise EngineError("vLLM did not give up the cache of the call before")
        return llm.llm_engine

    def _of_members(self, asked: Sequence[_Asked]) -> list[_Asked]:
        """What the ranks of this engine ask for, in the same order on each: their schedulers decide alike."""
        by_rank = ranks.gather([asked])
        return [each for rank in self._members for each in by_rank[rank]]

    def _check(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        config = self._open().llm_engine.model_config
        limit, vocabulary = config.max_model_len, config.get_vocab_size()
        limit = min(limit, sampling.context_length or limit)
        if 0 < sampling.temperature < _COLDEST:
            raise EngineError(
                f"vLLM samples at no temperature between 0 and {_COLDEST}; this is {sampling.temperature}"
            )
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise EngineError(f"prompt {index} is empty")
            if not 0 <= min(prompt) <= max(prompt) < vocabulary:
                raise EngineError(f"prompt {index} has a token outside of the model's vocabulary of {vocabulary}")
            if (room := sampling.room(prompt)) < 1 or len(prompt) + room > limit:
                raise EngineError(
                    f"prompt {index} has {len(prompt)} tokens and max_new_tokens is {sampling.max_new_tokens}: "
                    f"together more than the model's context of {limit}; allow fewer new tokens or leave the prompt out"
                )

    def _parameters(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Any:
        drawn = {"seed": seed} if sampling.temperature > 0 else {}
        vocabulary = self._open().llm_engine.model_config.get_vocab_size()
        stops = sorted(i for i in self.stop_ids if 0 <= i < vocabulary)  # a tokenizer may have more than the model
        return self._new_parameters(
            temperature=sampling.temperature, max_tokens=sampling.room(prompt), stop_token_ids=stops, **drawn
        )

    def _completion(self, output: Any) -> Completion:
        ids = tuple(output.token_ids)
        if output.finish_reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended a request with {output.finish_reason!r}")
        reason = FinishReason.STOP if ids[-1] in self.stop_ids else FinishReason.LENGTH
        return Completion(ids, reason, tuple(output.logprobs.logprobs))


def engine_arguments(checkpoint: str, settings: VllmSettings, trust_remote_code: bool, on_cpu: bool) -> dict[str, Any]:
    """How vLLM's ``LLM`` is called."""
    eager = on_cpu if settings.enforce_eager is None else settings.enforce_eager
    own: dict[str, Any] = (
        # vLLM 0.32 fails on a CPU where a request with a seed has its prompt computed in several parts.
        {"kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30), "enable_chunked_prefill": False}
        if on_cpu
        else {
            "gpu_memory_utilization": settings.gpu_memory_utilization or _SHARE,
            "enable_sleep_mode": settings.sleep_mode,
        }
    )
    if ranks.count() > 1:  # an engine for each rank, on the rank's own GPU
        own["distributed_executor_backend"] = "external_launcher"
    return {
        "model": checkpoint,
        "skip_tokenizer_init": True,
        "trust_remote_code": trust_remote_code,
        "load_format": "safetensors",
        "dtype": saved_type(checkpoint, trust_remote_code) if settings.dtype == "auto" else settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "max_model_len": settings.max_model_len or None,
        "max_num_seqs": settings.max_num_seqs,
        "enforce_eager": eager,
        "enable_prefix_caching": settings.prefix_caching,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",  # at the sampling temperature
        "use_tqdm_on_load": False,
        **own,
    }


def saved_type(checkpoint: str, trust_remote_code: bool) -> str:
    """The type of the weights as the checkpoint names it; vLLM's own ``auto`` would halve the precision of float32."""
    dtype = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code).dtype
    return "auto" if dtype is None else str(dtype).removeprefix("torch.")
