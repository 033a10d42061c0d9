"""vLLM on two ranks: an engine for each, and one engine of both (satori.engines.vllm_engine)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from vllm_models import EOS, SETTINGS, make_model

from satori import ranks
from satori.engines.base import EngineError
from satori.engines.vllm_engine import VllmEngine

CHECKS = Path(__file__).with_name("vllm_rank_checks.py")
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "--rdzv-backend", "c10d")


@pytest.mark.parametrize("tensor_parallel_size", [1, 2])
def test_what_must_hold_on_every_rank(tensor_parallel_size):
    done = subprocess.run(
        [*TORCHRUN, "--rdzv-endpoint=localhost:0", str(CHECKS), str(tensor_parallel_size)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.count("all holds") == 2, done.stderr[-4000:]


def test_ranks_that_are_no_multiple_are_refused(saved, monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 3)
    two = SETTINGS.model_copy(update={"tensor_parallel_size": 2})
    with pytest.raises(EngineError, match="tensor_parallel_size is 2, and 3 ranks are no multiple"):
        VllmEngine(saved(make_model()), EOS, two)
