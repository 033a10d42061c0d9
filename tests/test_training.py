"""Supervised fine-tuning through TRL: settings, resuming, precision (satori.training)."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch

from satori import reward_model
from satori.models import save
from satori.progress import Display
from satori.reward_model import RewardModelSettings
from satori.training import OptimizerSettings, OwnTrainer, fine_tune, last_checkpoint, unmasked

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


def test_without_its_mask_a_model_says_the_same_of_real_tokens(make_policy):
    model = make_policy()
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    expected, seen = model(**inputs).logits, []
    hook = model.base_model.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    with unmasked(model):
        found = model(**inputs).logits
    model(**inputs)
    hook.remove()
    torch.testing.assert_close(found[ids != 0], expected[ids != 0], atol=1e-5, rtol=0)
    assert [given.get("attention_mask") is None for given in seen] == [True, False]


def test_fine_tuning_uses_no_attention_mask(embedded, tmp_path):
    model, masks = copy.deepcopy(embedded[1]), []
    model.base_model.register_forward_pre_hook(
        lambda _, args, given: masks.append(given.get("attention_mask")), with_kwargs=True
    )
    tune(model, embedded[0], tmp_path)
    assert masks
    assert set(masks) == {None}


def test_batches_hold_examples_of_similar_length():
    lengths = [4, 40] * 32
    trainer = SimpleNamespace(settings=OptimizerSettings(learning_rate=1e-2, batch_size=4), lengths=lengths)
    torch.manual_seed(0)
    order = list(OwnTrainer._get_train_sampler(trainer))
    batches = [{lengths[i] for i in order[start : start + 4]} for start in range(0, len(order), 4)]
    assert sorted(order) == list(range(64))
    assert sum(len(batch) > 1 for batch in batches) <= 5  # at random nearly all 16


def test_a_pair_is_as_long_as_its_longer_response(embedded, tmp_path, monkeypatch):
    class MadeError(Exception):
        pass

    def trainer(settings, lengths, **_):
        raise MadeError(lengths)

    save(embedded[1], embedded[0], tmp_path / "format_tuned")
    pairs = [{"prompt_ids": [5], "chosen_ids": [6] * 3, "rejected_ids": [7]}]
    pairs.append({"prompt_ids": [5, 5], "chosen_ids": [6], "rejected_ids": [7] * 5})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    monkeypatch.setattr(reward_model, "_Training", trainer)
    context = SimpleNamespace(
        recipe=SimpleNamespace(reward_model=RewardModelSettings()),
        artifact=lambda name: tmp_path / name,
        folder=tmp_path,
        seed=0,
        task=None,
        trackers=None,
    )
    with pytest.raises(MadeError) as made:
        reward_model.train(context)
    assert made.value.args[0] == [4, 7]
