"""Supervised fine-tuning through TRL: settings, resuming, precision (satori.training)."""

import copy
import json
import shutil
import weakref
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from satori import reward_model
from satori.models import save
from satori.progress import Display
from satori.reward_model import RewardModelSettings
from satori.run_folder import ArtifactError
from satori.training import OptimizerSettings, OwnTrainer, SeededLengthSampler, checkpoints, fine_tune, unmasked


class OwnSFT(OwnTrainer, SFTTrainer):
    pass


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
    assert losses[-1]["loss"] > 0


def test_a_checkpoint_whose_state_was_cut_short_is_passed_over(tmp_path):
    for step, state in (("2", '{"global_step": 2}'), ("10", '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-12").mkdir()  # killed before its state
    assert checkpoints(tmp_path) == [tmp_path / "checkpoint-2"]


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


def test_examples_that_are_too_long_are_left_out_and_counted(embedded, tmp_path, monkeypatch, capsys):
    seen, batches = [], OwnTrainer._get_train_sampler
    monkeypatch.setattr(
        OwnTrainer, "_get_train_sampler", lambda self, data=None: seen.extend(self.lengths) or batches(self, data)
    )
    tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path, max_length=4)
    assert sorted(seen) == [3, 3, 4, 4, 4, 4]
    assert "2 of 8 examples are longer than max_length, 4" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ArtifactError, match="all 8 examples are longer than max_length, 1 tokens"):
        tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path, max_length=1)


def test_fine_tuning_uses_no_attention_mask(embedded, tmp_path):
    model, masks = copy.deepcopy(embedded[1]), []
    model.base_model.register_forward_pre_hook(
        lambda _, args, given: masks.append(given.get("attention_mask")), with_kwargs=True
    )
    tune(model, embedded[0], tmp_path)
    assert masks
    assert set(masks) == {None}


def order_of(lengths, seed=0, epoch=0):
    settings, arguments = OptimizerSettings(learning_rate=1e-2, batch_size=4), SimpleNamespace(seed=seed)
    trainer = SimpleNamespace(settings=settings, lengths=lengths, args=arguments)
    sampler = OwnTrainer._get_train_sampler(trainer)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_of_examples_is_the_seeds_and_the_epochs_alone():
    lengths = [4, 40] * 32
    first = order_of(lengths)
    torch.rand(3)
    assert order_of(lengths) == first
    assert order_of(lengths, epoch=1) != first
    assert order_of(lengths, seed=1) != first


def test_an_epoch_is_whole_batches_of_other_examples_each_time():
    """On any number of ranks, and however a batch is split: a trainer makes a short batch of what is left over."""
    first, other = order_of([5] * 11), order_of([5] * 11, epoch=1)
    assert len(first) == len(set(first)) == len(other) == 8
    assert set(first) != set(other)


def test_what_is_left_over_makes_no_step(embedded, tmp_path):
    tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path, epochs=2, max_length=4)  # six examples, batches of four
    assert steps_logged(tmp_path) == [1, 2]


def steps_logged(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_process_takes_one_gpu(embedded, tmp_path):
    """Others are for a launcher's processes: the trainer would multiply the batch by their number."""
    arguments = SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    arguments._n_gpu = 2
    rows = Dataset.from_list([{"input_ids": [5, 6], "labels": [5, 6]}])
    settings = OptimizerSettings(learning_rate=1e-2)
    model, tokenizer = copy.deepcopy(embedded[1]), embedded[0]
    OwnSFT(settings, [2], model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    assert arguments.n_gpu == 1


def test_another_epoch_has_another_order(embedded, tmp_path, monkeypatch):
    """Also through the trainer's data loader."""
    orders, order = [], SeededLengthSampler.__iter__

    def drawn(sampler):
        orders.append(list(order(sampler)))
        return iter(orders[-1])

    monkeypatch.setattr(SeededLengthSampler, "__iter__", drawn)
    tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path, epochs=3)
    assert len({tuple(each) for each in orders}) == 3


def test_it_goes_on_exactly_from_a_checkpoint(embedded, tmp_path):
    """With the learning rate, the moments and the order of examples of the training that was cut off."""
    expected = tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path / "whole", epochs=3)
    (tmp_path / "part/checkpoints/checkpoint-4/state").mkdir(parents=True)  # killed while it was written
    (tmp_path / "part/checkpoints/checkpoint-4/state/shard-00002-of-00002.safetensors").write_bytes(b"half")
    tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path / "part", epochs=3)
    left = sorted(path.name for path in checkpoints(tmp_path / "part" / "checkpoints"))
    assert left == ["checkpoint-4", "checkpoint-6"]
    assert not list(tmp_path.glob("part/checkpoints/checkpoint-4/*.pt")), "safetensors only"
    shutil.rmtree(tmp_path / "part/checkpoints/checkpoint-6")
    torch.rand(5)
    for _ in range(2):  # the second time there is nothing left to do
        assert torch.equal(tune(copy.deepcopy(embedded[1]), embedded[0], tmp_path / "part", epochs=3), expected)
        whole, part = (
            [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("whole", "part")
        )
        assert [(row["step"], row["loss"]) for row in part] == [(row["step"], row["loss"]) for row in whole]


def test_a_gradient_that_is_no_number_stops_it_and_keeps_the_batch(embedded, tmp_path):
    tokenizer, model = embedded[0], copy.deepcopy(embedded[1])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    model.base_model.layers[0].register_forward_hook(lambda module, given, _: given[0] * float("nan"))
    with pytest.raises(ArtifactError, match=r"step 1: the gradient norm is nan.*--redo"):
        tune(model, tokenizer, tmp_path)
    kept = [json.loads(line) for line in (tmp_path / "diverged.jsonl").read_text().splitlines()]
    assert len(kept) == 4
    assert {tuple(row["token_ids"]) for row in kept} <= {(*prompt, *response) for prompt, response in SEQUENCES}
    assert all(row["text"] for row in kept)
    assert torch.equal(torch.cat([p.detach().flatten() for p in model.parameters()]), before)


def test_batches_hold_examples_of_similar_length():
    lengths = [4, 40] * 32
    order = order_of(lengths)
    batches = [{lengths[i] for i in order[start : start + 4]} for start in range(0, len(order), 4)]
    assert sorted(order) == list(range(64))
    assert sum(len(batch) > 1 for batch in batches) <= 5  # at random nearly all 16


def reward_model_context(embedded, folder):
    """Of a stage with two pairs."""
    save(embedded[1], embedded[0], folder / "format_tuned")
    pairs = [{"prompt_ids": [5], "chosen_ids": [6] * 3, "rejected_ids": [7]}]
    pairs.append({"prompt_ids": [5, 5], "chosen_ids": [6], "rejected_ids": [7] * 5})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return SimpleNamespace(
        recipe=SimpleNamespace(reward_model=RewardModelSettings()),
        artifact=lambda name: folder / name,
        draw_problems=lambda split, seed, count: ["held out"],
        folder=folder,
        seed=0,
        task=None,
        trackers=None,
    )


def test_the_reward_models_optimizer_is_gone_before_an_engine_opens(embedded, tmp_path, monkeypatch):
    class Trainer:
        def __init__(self, *_, **__):
            alive.append(weakref.ref(self))

    def best_checkpoint(context):
        alive.append(alive[0]())
        return embedded[1]

    alive = []
    monkeypatch.setattr(reward_model, "_Training", Trainer)
    monkeypatch.setattr(reward_model, "run_trainer", lambda *_: None)
    monkeypatch.setattr(reward_model, "best_checkpoint", best_checkpoint)
    monkeypatch.setattr(reward_model, "measure", lambda *_: "measured")
    assert reward_model.train(reward_model_context(embedded, tmp_path)) == "2 pairs; measured"
    assert alive[1] is None


def test_a_pair_is_as_long_as_its_longer_response(embedded, tmp_path, monkeypatch):
    class MadeError(Exception):
        pass

    def trainer(settings, lengths, **_):
        raise MadeError(lengths)

    monkeypatch.setattr(reward_model, "_Training", trainer)
    context = reward_model_context(embedded, tmp_path)
    with pytest.raises(MadeError) as made:
        reward_model.train(context)
    assert made.value.args[0] == [4, 7]
    context.draw_problems = lambda split, seed, count: []
    with pytest.raises(ArtifactError, match="none for validation"):
        reward_model.train(context)
