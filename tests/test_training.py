"""Supervised fine-tuning through TRL: settings, resuming, precision (satori.training)."""

import copy
import json

import pytest
import torch

from satori.progress import Display
from satori.training import OptimizerSettings, fine_tune, last_checkpoint

SEQUENCES = [((5, 6), (7, 8, 1)), ((9,), (3, 1)), ((4, 4), (2, 1)), ((8,), (8, 8, 1))] * 2


def tune(model, tokenizer, folder, new_tokens=(), **changes):
    settings = OptimizerSettings(learning_rate=1e-2, batch_size=4, micro_batch_size=2, **changes)
    with Display() as display:
        task = display.task("tune")
        fine_tune(model, tokenizer, SEQUENCES, settings, folder, task, seed=0, new_tokens=new_tokens)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_in_either_precision_and_keeps_its_weights_in_float32(embedded, tmp_path, precision):
    tokenizer, model = embedded[0], copy.deepcopy(embedded[1])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    after = tune(model, tokenizer, tmp_path, precision=precision, epochs=3)
    assert after.dtype == torch.float32
    assert float((after - before).abs().mean()) > 1e-4
    losses = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1]["train_loss"] > 0


def test_a_checkpoint_whose_state_was_cut_short_is_passed_over(tmp_path):
    for step, state in (("2", '{"global_step": 2}'), ("10", '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-12").mkdir()  # killed before its state
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
