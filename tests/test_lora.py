"""Low-rank adapters (satori.lora): what is trained, what leaves training, and clear errors."""

import copy
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from test_ppo import random_rollouts, settings, step
from test_training import tune
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from satori.engines.base import Sampling, generate_all
from satori.engines.opening import EngineSettings, open_engine
from satori.engines.torch_engine import TorchEngine
from satori.lora import LoraSettings, add_adapters, has_adapters
from satori.models import load_policy, load_reward_model, load_tokenizer, save
from satori.optimizers import OptimizerKind, make_optimizer
from satori.pretraining import SHIPPED_BASE
from satori.reinforcement.ppo import Learner
from satori.run_folder import ArtifactError
from satori.scoring import token_logprobs
from satori.sharding import full_parameters, full_state, load_state, save_state

LORA = LoraSettings(rank=4, alpha=8)
SEQUENCES = [((5, 6, 7), tuple(range(8, 9 + n))) for n in (1, 7, 3)]
SAMPLING = Sampling(temperature=1.0, max_new_tokens=20)
PROMPTS = [[5, 6, 7], [9], [10, 11, 12, 13]]


def stir(model, size=0.3):
    """Give whatever is trained other values, as training would."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=size)
    return model


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def rows_that_differ(one, other):
    return (one.weight != other.weight).any(1).nonzero().flatten().tolist()


@pytest.fixture
def make_learner(make_policy, make_critic):
    def make(kind=OptimizerKind.ADAMW, seed=7):
        policy = add_adapters(make_policy(kv_heads=2, factor=3.0), LORA, seed)
        critic = add_adapters(make_critic(factor=3.0), LORA, seed, trained=["score"])
        return Learner(policy, critic, make_optimizer(policy, kind, 1e-2), make_optimizer(critic, kind, 1e-2))

    return make


# --- adapters beside a model ---


@pytest.mark.parametrize("training", [False, True])
def test_adapters_drop_out_where_the_model_does(make_policy, training):
    """Not in reinforcement learning: its ratios compare two passes of one network."""
    model = add_adapters(make_policy().train(training), LORA.model_copy(update={"dropout": 0.5}), 0)
    assert {module.training for module in model.modules()} == {training}


def test_rank_0_leaves_a_model_as_it_is(make_policy):
    model = make_policy()
    names = [name for name, _ in model.named_parameters()]
    assert add_adapters(model, LoraSettings(), seed=0) is model
    assert [name for name, _ in model.named_parameters()] == names
    assert not has_adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_at_first_a_model_with_adapters_computes_what_it_did(make_policy):
    before = token_logprobs(make_policy(), SEQUENCES)
    after = token_logprobs(add_adapters(make_policy(), LORA, seed=0), SEQUENCES)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_adapters_are_drawn_from_their_seed_alone(make_policy):
    def drawn(seed):
        model = make_policy()
        state = torch.get_rng_state()
        add_adapters(model, LORA, seed)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_only_adapters_and_what_is_named_are_trained(make_policy, make_critic):
    assert all("lora_" in name for name in trained(add_adapters(make_policy(), LORA, 0)))
    critic = trained(add_adapters(make_critic(), LORA, 0, trained=["score"]))
    assert {name for name in critic if "lora_" not in name} == {"score.weight"}
    few = trained(add_adapters(make_policy(), LoraSettings(rank=2, targets=("q_proj", "v_proj")), 0))
    assert len(few) == 2 * 2 * 2  # layers, targets, matrices
    assert all("q_proj" in name or "v_proj" in name for name in few)


def test_a_target_that_does_not_exist_is_named_with_the_known_ones(make_policy):
    with pytest.raises(ArtifactError, match=r"lora\.targets: w_pack is not .* down_proj, gate_proj, k_proj, o_proj"):
        add_adapters(make_policy(), LoraSettings(rank=2, targets=("q_proj", "w_pack")), 0)


def test_adapters_learn_in_float32_beside_weights_in_bfloat16(make_policy):
    model = stir(add_adapters(make_policy().bfloat16(), LORA, 0))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for _, p in full_parameters(model)} == {torch.bfloat16}
    assert token_logprobs(model, SEQUENCES)[0].dtype == torch.float32


# --- merged ---


def test_merged_weights_are_those_that_peft_merges(make_policy):
    model = stir(add_adapters(make_policy(), LORA, 0))
    theirs = get_peft_model(make_policy(), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in theirs.base_model.model.named_parameters():
            if "lora_" in name:
                parameter.copy_(learnt.pop(name))
    assert not learnt
    expected = dict(theirs.merge_and_unload().named_parameters())
    found = dict(full_parameters(model))
    assert found.keys() == expected.keys() == dict(make_policy().named_parameters()).keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any(not torch.equal(found[name], p) for name, p in make_policy().named_parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_new_tokens_are_trained_and_merged(tied):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    plain = Qwen2ForCausalLM(config).eval()
    model = stir(add_adapters(copy.deepcopy(plain), LORA, 0, tokens=[37, 39]))
    ids = torch.tensor([[5, 37, 39, 8]])
    merged = copy.deepcopy(plain)
    missing, unexpected = merged.load_state_dict(full_state(model), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    torch.testing.assert_close(merged(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(merged(ids).logits, plain(ids).logits)
    assert rows_that_differ(merged.lm_head, plain.lm_head) == [37, 39]
    assert rows_that_differ(merged.model.embed_tokens, plain.model.embed_tokens) == [37, 39]


def test_a_saved_checkpoint_is_an_ordinary_one_and_the_engine_samples_as_from_it(tmp_path):
    policy, tokenizer = load_policy(SHIPPED_BASE), load_tokenizer(SHIPPED_BASE)
    before = [c.token_ids for c in generate_all(TorchEngine(policy, 2), PROMPTS, SAMPLING, 0)]
    with open_engine(EngineSettings(), SHIPPED_BASE, add_adapters(policy, LORA, 0)) as engine:
        assert [c.token_ids for c in generate_all(engine, PROMPTS, SAMPLING, 0)] == before
        engine.update_weights(stir(policy))
        sampled = generate_all(engine, PROMPTS, SAMPLING, 0)
    save(policy, tokenizer, tmp_path / "saved")
    names = set(load_file(tmp_path / "saved/model.safetensors"))
    assert names == set(load_file(SHIPPED_BASE / "model.safetensors"))
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert not has_adapters(loaded)
    assert generate_all(TorchEngine(loaded.eval(), 2), PROMPTS, SAMPLING, 0) == sampled
    assert [c.token_ids for c in sampled] != before
    for one, other in zip(token_logprobs(loaded, SEQUENCES), token_logprobs(policy, SEQUENCES), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_saved_critic_is_an_ordinary_reward_model(tmp_path, make_critic):
    critic = stir(add_adapters(make_critic(), LORA, 0, trained=["score"]))
    save(critic, load_tokenizer(SHIPPED_BASE), tmp_path)
    loaded = load_reward_model(tmp_path)
    assert torch.equal(loaded.score.weight, critic.score.weight)
    assert not has_adapters(loaded)


# --- training ---


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_reinforcement_learning_moves_the_adapters_and_the_critics_head_and_nothing_else(make_learner, kind):
    learner = make_learner(kind)
    before = {
        part: {n: p.detach().clone() for n, p in getattr(learner, part).named_parameters()}
        for part in ("policy", "critic")
    }
    for number in range(2):
        step(learner, random_rollouts(), settings(), number)
    for part, parameters in before.items():
        moved = {n for n, p in getattr(learner, part).named_parameters() if not torch.equal(p, parameters[n])}
        assert moved == trained(getattr(learner, part))


@pytest.mark.parametrize("kind", list(OptimizerKind))
def test_a_checkpoint_holds_what_is_trained_and_goes_on_exactly(make_learner, tmp_path, kind):
    learner = make_learner(kind)
    step(learner, random_rollouts(), settings())
    save_state(tmp_path, learner.parts())
    [file] = tmp_path.iterdir()
    saved = load_file(file)
    assert {key for key in saved if ".optimizer/" not in key} == {
        f"{part}/{name}" for part in ("policy", "critic") for name in trained(getattr(learner, part))
    }
    other = make_learner(kind, seed=8)
    load_state(tmp_path, other.parts())
    for each in (learner, other):
        step(each, random_rollouts(1), settings(), number=1)
    for part in ("policy", "critic"):
        theirs = dict(getattr(other, part).named_parameters())
        assert all(torch.equal(theirs[n], p) for n, p in getattr(learner, part).named_parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_fine_tuning_goes_on_exactly_from_a_trainers_checkpoint(embedded, tmp_path, dropout):
    """Adapters and three rows of the vocabulary are trained."""
    lora, (tokenizer, model) = LORA.model_copy(update={"dropout": dropout}), embedded
    new = [len(tokenizer) - 3, len(tokenizer) - 2, len(tokenizer) - 1]
    whole, first = copy.deepcopy(model), copy.deepcopy(model)
    expected = tune(whole, tokenizer, tmp_path / "whole", epochs=2, lora=lora, new_tokens=new)
    assert has_adapters(whole)
    save(whole, tokenizer, tmp_path / "saved")
    tune(first, tokenizer, tmp_path / "part", epochs=2, lora=lora, new_tokens=new)
    shutil.rmtree(tmp_path / "part/checkpoints/checkpoint-4")
    [file] = tmp_path.glob("part/checkpoints/checkpoint-2/state/*.safetensors")
    left = {name.removeprefix("model/") for name in load_file(file) if name.startswith("model/")}
    assert left == trained(whole), "no copy of the base"
    again = tune(copy.deepcopy(model), tokenizer, tmp_path / "part", epochs=2, lora=lora, new_tokens=new)
    assert torch.equal(again, expected)
    before = dict(model.named_parameters())
    moved = {n for n, p in load_policy(tmp_path / "saved").named_parameters() if not torch.equal(p, before[n])}
    assert all("proj" in name or "embed" in name or "head" in name for name in moved)
    assert any("embed" in name for name in moved)
    saved = load_policy(tmp_path / "saved")
    assert rows_that_differ(saved.get_input_embeddings(), model.get_input_embeddings()) == new
