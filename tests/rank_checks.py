"""What must hold on every rank; run by test_ranks.py under torchrun."""

import os
import sys
import tempfile
from pathlib import Path

import accelerate
import pytest
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from test_ppo import random_rollouts
from torch.distributed.tensor import DTensor

from satori import ranks, sharding, training
from satori.engines.base import Sampling, generate_all
from satori.engines.torch_engine import TorchEngine
from satori.lora import LoraSettings, add_adapters
from satori.models import load_policy, load_reward_model, load_tokenizer, save
from satori.optimizers import OptimizerKind, make_optimizer
from satori.pretraining import SHIPPED_BASE
from satori.progress import Display
from satori.reinforcement.ppo import Learner, PPOSettings, prepare, update
from satori.run_folder import ArtifactError
from satori.scoring import reward_logits, token_logprobs
from satori.sharding import full_parameters, full_state, load_state, save_state, shard
from satori.training import OptimizerSettings, fine_tune

SEQUENCES = [((5, 6, 7), tuple(range(8, 9 + n))) for n in (1, 7, 3, 12, 5)]


def sharded_policy():
    return shard(load_policy(SHIPPED_BASE))


def check_calls():
    assert ranks.gather([ranks.index()] * 2) == [rank for rank in range(ranks.count()) for _ in range(2)]
    assert ranks.total({"one": 1.0}) == {"one": float(ranks.count())}
    assert ranks.gather(list(ranks.share(7))) == list(range(7))
    assert ranks.first_does(lambda: (ranks.count(), ranks.is_first())) == (1, True)


def check_each_rank_loads_the_whole_model():
    """Also where a launcher has set what makes transformers load zeros on all but one."""
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    loaded = dict(load_policy(SHIPPED_BASE).named_parameters())
    del os.environ["ACCELERATE_USE_FSDP"]
    for name, tensor in load_file(SHIPPED_BASE / "model.safetensors").items():
        assert torch.equal(loaded[name], tensor)


def check_each_rank_holds_its_part():
    whole, policy = load_policy(SHIPPED_BASE), sharded_policy()
    held = sum(p.to_local().numel() for p in policy.parameters() if isinstance(p, DTensor))
    total = sum(p.numel() for p in whole.parameters())
    assert held <= 1.1 * total / ranks.count()
    token_logprobs(policy, SEQUENCES)
    assert all(isinstance(p, DTensor) for p in policy.parameters()), "no backward pass comes that would take it apart"


def check_numbers_are_those_of_the_whole_model():
    whole, policy = load_policy(SHIPPED_BASE), sharded_policy()
    for budget in (16, 64, 4096):
        mine = token_logprobs(policy, SEQUENCES, token_budget=budget)
        with ranks.alone():
            theirs = token_logprobs(whole, SEQUENCES, token_budget=budget)
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other)
    torch.manual_seed(0)
    reward_model = load_reward_model(SHIPPED_BASE)
    with ranks.alone():
        expected = reward_logits(reward_model, SEQUENCES)
    torch.testing.assert_close(reward_logits(shard(reward_model), SEQUENCES), expected, atol=1e-5, rtol=1e-4)
    one = token_logprobs(policy, SEQUENCES[:1])  # fewer sequences than ranks
    assert len(one) == 1


def check_the_engine_gets_the_new_weights_one_by_one():
    policy = sharded_policy()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.01)
    engine = TorchEngine(load_policy(SHIPPED_BASE), 2)
    before = generate_all(engine, [[5, 6, 7]], Sampling(temperature=0, max_new_tokens=8), 0)
    engine.update_weights(policy)
    after = generate_all(engine, [[5, 6, 7]], Sampling(temperature=0, max_new_tokens=8), 0)
    assert before != after
    whole = dict(load_policy(SHIPPED_BASE).named_parameters())
    for name, tensor in full_parameters(policy):
        assert not isinstance(tensor, DTensor)
        torch.testing.assert_close(tensor, whole[name].detach() * 1.01)


def check_saved_it_is_an_ordinary_checkpoint(folder: Path):
    policy, tokenizer = sharded_policy(), load_tokenizer(SHIPPED_BASE)
    save(policy, tokenizer, folder / "saved")
    there, whole = dict(load_policy(folder / "saved").named_parameters()), load_policy(SHIPPED_BASE)
    for name, parameter in whole.named_parameters():
        assert torch.equal(there[name], parameter)


def check_adapters_are_merged_into_the_engine_and_into_what_is_saved(folder: Path):
    def adapted():
        policy = add_adapters(load_policy(SHIPPED_BASE), LoraSettings(rank=3), seed=0)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return policy

    whole, policy = dict(full_parameters(adapted())), shard(adapted())
    for name, tensor in full_parameters(policy):
        assert not isinstance(tensor, DTensor)
        torch.testing.assert_close(tensor, whole.pop(name))
    assert not whole
    save(policy, load_tokenizer(SHIPPED_BASE), folder / "merged")
    engine = TorchEngine(load_policy(SHIPPED_BASE), 2)
    engine.update_weights(policy)
    sampling = Sampling(temperature=0, max_new_tokens=8)
    assert generate_all(engine, [[5, 6, 7]], sampling, 0) == generate_all(
        TorchEngine(load_policy(folder / "merged"), 2), [[5, 6, 7]], sampling, 0
    )


def learner_of(kind: OptimizerKind, sharded: bool, rank: int) -> Learner:
    torch.manual_seed(0)
    policy = add_adapters(load_policy(SHIPPED_BASE), LoraSettings(rank=rank), seed=1)
    critic = add_adapters(load_reward_model(SHIPPED_BASE), LoraSettings(rank=rank), seed=2, trained=["score"])
    if sharded:
        shard(policy), shard(critic)
    return Learner(policy, critic, make_optimizer(policy, kind, 1e-4), make_optimizer(critic, kind, 1e-4))


def check_an_update_is_that_of_one_rank(folder: Path, kind: OptimizerKind, tolerance: float, rank: int = 0):
    """Also when it goes on from a checkpoint, with adapters, and with activations computed again."""
    settings = PPOSettings(batch_size=4, tokens_per_micro_batch=64, optimizer=kind)
    again = settings.model_copy(update={"recompute_activations": rank > 0})
    alone, together = learner_of(kind, sharded=False, rank=rank), learner_of(kind, sharded=True, rank=rank)
    with ranks.alone():
        experience = prepare(alone, random_rollouts(), settings, 1.0)
    torch.testing.assert_close(
        prepare(together, random_rollouts(), settings, 1.0).advantages_BT, experience.advantages_BT
    )
    written = folder / f"{kind}-{rank}"
    ranks.first_does(written.mkdir)
    save_state(written / "before", together.parts())
    for step in range(2):
        with ranks.alone():
            expected = update(alone, experience, settings, 1.0, step, seed=step)
        numbers = update(together, experience, again, 1.0, step, seed=step)
        for name, value in expected.items():
            assert abs(numbers[name] - value) <= tolerance * max(1.0, abs(value)), (
                kind,
                step,
                name,
                numbers[name],
                value,
            )
        save_state(written / str(step), together.parts())
        assert len(list((written / str(step)).iterdir())) > ranks.count()
        together = learner_of(kind, sharded=True, rank=rank)
        load_state(written / str(step), together.parts())
    for part in ("policy", "critic"):
        theirs = dict(full_parameters(getattr(alone, part)))
        for name, tensor in full_parameters(getattr(together, part)):
            torch.testing.assert_close(tensor, theirs[name], atol=tolerance, rtol=tolerance)


def fine_tuned(
    folder: Path, start_from: float = 1.0, lora: LoraSettings | None = None, new_tokens: tuple[int, ...] = ()
) -> dict[str, torch.Tensor]:
    """The parameters after two epochs, which go on from a checkpoint in the folder; the first rank has them.

    ``start_from`` scales the model that it starts with, which makes no difference where it goes on.
    """
    model, tokenizer = load_policy(SHIPPED_BASE), load_tokenizer(SHIPPED_BASE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= start_from
    settings = OptimizerSettings(
        learning_rate=1e-3, epochs=2, batch_size=4, micro_batch_size=2, lora=lora or LoraSettings()
    )
    examples = [*SEQUENCES, *SEQUENCES, SEQUENCES[0]]  # two batches, and some left over
    with Display(quiet=True) as display:
        fine_tune(model, tokenizer, examples, settings, folder, display.task("tune"), seed=0, new_tokens=new_tokens)
    assert sharding.is_sharded(model) == (training.device().type == "cuda")
    return full_state(model)


def check_fine_tuning_goes_on_from_one_rank(folder: Path) -> None:
    """And leaves what test_ranks.py goes on from, on one rank again."""
    assert_trained_alike(folder, "from_one", fine_tuned(folder / "from_one", 0.5))
    assert_trained_alike(folder, "two", fine_tuned(folder / "two"))


def assert_trained_alike(folder: Path, name: str, found: dict[str, torch.Tensor]) -> None:
    expected = load_file(folder / "one.safetensors")
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key], atol=1e-4, rtol=1e-3, msg=lambda m: f"{name}: {m}")


def check_fine_tuning_with_sharded_models(folder: Path) -> None:
    """Accelerate's FSDP2, which it has for GPUs only: here it takes the ranks for such."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
        patch.setattr(PartialState, "_prepare_backend", lambda *given, **named: ("gloo", DistributedType.MULTI_GPU))
        patch.setattr(training, "device", lambda: torch.device("cuda", 0))
        assert_trained_alike(folder, "from one rank, sharded", fine_tuned(folder / "from_one_sharded", 0.5))
        assert_trained_alike(folder, "sharded", fine_tuned(folder / "sharded"))
        fine_tuned(folder / "adapters", lora=LoraSettings(rank=3))
        with pytest.raises(ArtifactError, match="its embeddings, and accelerate cannot shard them"):
            fine_tuned(folder / "tokens", lora=LoraSettings(rank=3), new_tokens=(5,))
        norm_of = accelerate.Accelerator.clip_grad_norm_

        def poisoned(self, parameters, *given):
            """A gradient is not a number, in the part of the last rank only."""
            parameters = list(parameters)
            if ranks.index() == ranks.count() - 1:
                parameters[-1].grad.to_local()[...] = float("nan")
            return norm_of(self, parameters, *given)

        patch.setattr(accelerate.Accelerator, "clip_grad_norm_", poisoned)
        with pytest.raises(ArtifactError, match="step 1: the gradient norm is nan"):
            fine_tuned(folder / "not a number")


def main() -> None:
    torch.set_num_threads(1)
    sharding._FILE_BYTES = 100_000
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "true"
    with ranks.joined(60):
        check_each_rank_loads_the_whole_model()
        check_fine_tuning_goes_on_from_one_rank(Path(sys.argv[1]))
        folder = Path(ranks.first_does(tempfile.mkdtemp))
        check_calls()
        check_each_rank_holds_its_part()
        check_numbers_are_those_of_the_whole_model()
        check_the_engine_gets_the_new_weights_one_by_one()
        check_saved_it_is_an_ordinary_checkpoint(folder)
        check_adapters_are_merged_into_the_engine_and_into_what_is_saved(folder)
        check_an_update_is_that_of_one_rank(folder, OptimizerKind.ADAMW, 1e-4)
        check_an_update_is_that_of_one_rank(folder, OptimizerKind.ADAMW, 1e-4, rank=3)
        check_an_update_is_that_of_one_rank(folder, OptimizerKind.MUON, 1e-2)  # it orthogonalises in bfloat16
        check_fine_tuning_with_sharded_models(Path(sys.argv[1]))
    print(f"rank {ranks.index()}: all holds")


if __name__ == "__main__":
    sys.exit(main())
