import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from satori import models, precision


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    precision._warn_if_emulated.cache_clear()
    yield
    precision._warn_if_emulated.cache_clear()


def test_bfloat16_is_warned_of_once_where_the_processor_has_no_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    with pytest.warns(UserWarning, match="Set precision: float32"):
        assert precision.in_bfloat16("bfloat16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision.in_bfloat16("bfloat16")


@pytest.mark.parametrize(
    ("asked", "capabilities"),
    [("bfloat16", {"avx512_bf16": True}), ("bfloat16", {"bf16": True}), ("float32", {}), ("auto", {})],
)
def test_nothing_is_said_where_bfloat16_is_native_or_not_used(
    asked: precision.Precision, capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision.in_bfloat16(asked) == (asked == "bfloat16")


def test_what_was_sharded_in_float32_is_saved_in_the_type_it_was_loaded_in(embedded, tmp_path, monkeypatch):
    """Accelerate's FSDP2 trains float32 copies of bfloat16 weights."""
    tokenizer = embedded[0]
    copy.deepcopy(embedded[1]).save_pretrained(tmp_path / "whole")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.bfloat16)
    monkeypatch.setattr(models, "is_whole", lambda model: False)
    models.save(model.float(), tokenizer, tmp_path / "saved")
    assert {tensor.dtype for tensor in load_file(tmp_path / "saved/model.safetensors").values()} == {torch.bfloat16}
    assert models.load_policy(tmp_path / "saved").dtype == torch.bfloat16, "what config.json says"


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_without_bfloat16_trains_in_float32(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert precision.in_bfloat16("auto") == native


def test_a_model_is_loaded_on_the_gpu_of_its_rank(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert models.device() == torch.device("cuda", 3)
