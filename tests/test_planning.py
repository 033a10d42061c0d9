"""``satori plan`` against counting by hand (satori.planning)."""

from copy import copy

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, Qwen2Config

from satori.cli import main
from satori.lora import LoraSettings, add_adapters
from satori.planning import memory, times
from satori.planning.command import plan
from satori.planning.figures import PlanSettings, verdict
from satori.planning.shapes import measure, shape_of
from satori.recipe import RecipeError, load_recipe, recipe_files

MACHINE = PlanSettings(gpus=8, gpu_memory=80)


def small(kind, tied):
    return kind(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [Qwen2Config, LlamaConfig])
def test_parameters_are_those_of_the_model(kind, tied):
    config = small(kind, tied)
    model = AutoModelForCausalLM.from_config(config)
    shape = measure("small", config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.vocabulary_matrix, shape.tied) == (100 * 32, tied)
    one_label = copy(config)
    one_label.num_labels = 1
    critic = AutoModelForSequenceClassification.from_config(one_label)
    assert shape.scalar_parameters == sum(p.numel() for p in critic.parameters())
    assert shape.layer_parameters == sum(p.numel() for p in model.base_model.layers[0].parameters())
    assert shape.cache_width == 2 * 2 * 8  # keys and values of two heads of 8


@pytest.mark.parametrize(
    ("name", "millions", "layers"),
    [
        ("Qwen/Qwen2.5-Math-7B", 7615.6, 28),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494.0, 24),
        ("smollm2-135m-instruct", 134.5, 30),
    ],
)
def test_the_models_of_our_recipes_have_their_published_sizes(name, millions, layers):
    shape = shape_of(name)
    assert shape.parameters / 1e6 == pytest.approx(millions, abs=0.1)
    assert shape.layers == layers


def test_a_folder_with_a_config_is_read(tmp_path):
    small(Qwen2Config, True).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)).layers == 3


def seven_billion(*overrides):
    return load_recipe("satori-qwen-7b", overrides), shape_of("Qwen/Qwen2.5-Math-7B")


def by_title(lines):
    return {line.title: line.value for line in lines}


def test_adapters_are_those_of_peft():
    config = small(Qwen2Config, False)
    model = add_adapters(AutoModelForCausalLM.from_config(config), LoraSettings(rank=4), 0)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    shape = measure("small", config)
    assert shape.adapter_parameters(LoraSettings(rank=4)) == learning
    assert shape.adapter_parameters(LoraSettings(rank=4, targets=("q_proj",))) == 3 * 4 * (32 + 32)
    assert shape.adapter_parameters(LoraSettings()) == 0
    with pytest.raises(RecipeError, match="nothing_proj; it has q_proj"):
        shape.adapter_parameters(LoraSettings(rank=4, targets=("nothing_proj",)))


def test_a_layer_keeps_what_is_counted():
    config = Qwen2Config(
        vocab_size=64, hidden_size=448, intermediate_size=2368, num_hidden_layers=1, num_attention_heads=7,
        num_key_value_heads=1,
    )  # fmt: skip
    model, tokens, kept = AutoModel.from_config(config).bfloat16(), 256, {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held = []

    def pack(tensor):
        storage = tensor.untyped_storage()
        held.append(tensor)  # or its place in memory is used again
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hidden = torch.randn(1, tokens, 448, dtype=torch.bfloat16, requires_grad=True)
    places = model.rotary_emb(hidden, torch.arange(tokens)[None])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.layers[0](hidden, position_embeddings=places)
    counted = by_title(memory.activations(measure("layer", config), tokens, 2, again=True))
    assert counted["kept in one layer, computed again"] == pytest.approx(sum(kept.values()) / 1e9, rel=0.05)
    every = by_title(memory.activations(measure("layer", config), tokens, 2, again=False))
    assert every["kept in all layers"] == counted["kept in one layer, computed again"]  # of one layer


def test_memory_of_an_update_by_hand():
    weights, gradients, moments = memory.trained("model", 8_000_000_000, 4, 8)
    assert (weights.value, gradients.value, moments.value) == (4.0, 4.0, 8.0)
    recipe, shape = seven_billion()
    lines = by_title(memory.updating(recipe, recipe.rl, shape, MACHINE))
    assert lines["policy: weights"] == pytest.approx(7.6156 * 4 / 8, abs=1e-3)
    assert lines["critic: weights"] == pytest.approx((7.6156 - 152064 * 3584 / 1e9) * 4 / 8, abs=1e-3)  # no output head
    assert lines["layer inputs kept"] == pytest.approx(28 * 3584 * 16384 * 2 / 1e9)
    assert lines["gradient of the head"] == pytest.approx(152064 * 3584 * (2 + 4) / 1e9)  # bfloat16, summed in float32
    more = memory.updating(recipe, recipe.rl, shape, PlanSettings(gpus=16))
    assert sum(by_title(more).values()) < sum(lines.values())
    without = recipe.rl.model_copy(update={"estimator": "grpo", "use_reward_model": False})
    titles = by_title(memory.updating(recipe, without, shape, MACHINE))
    assert "critic: two moments" not in titles
    assert "reward model: weights" not in titles


def test_adapters_have_the_only_gradients_and_moments():
    recipe, shape = seven_billion(("rl.lora.rank", "16"))
    lines = by_title(memory.updating(recipe, recipe.rl, shape, MACHINE))
    assert lines["policy: two moments"] == pytest.approx(2 * shape.adapter_parameters(recipe.rl.lora) * 4 / 8 / 1e9)
    assert lines["policy: weights"] == pytest.approx(7.6156 * 4 / 8, abs=1e-3)


def test_memory_of_a_supervised_stage_by_hand():
    recipe, shape = seven_billion()
    lines = by_title(memory.supervised(recipe, recipe.tune, shape, MACHINE))
    assert lines["layer inputs kept"] == pytest.approx(28 * 3584 * 8 * 4096 * 2 / 1e9)  # 8 of full length
    assert lines["gradients, whole until the last of 2"] == pytest.approx(7.6156 * 2, abs=1e-3)  # 128 / 8 GPUs = 2 x 8
    whole = recipe.tune.model_copy(update={"micro_batch_size": 16})
    assert not any("until the last" in title for title in by_title(memory.supervised(recipe, whole, shape, MACHINE)))
    pairs = by_title(memory.supervised(recipe, recipe.reward_model, shape, MACHINE, sequences=2))
    assert pairs["layer inputs kept"] == pytest.approx(2 * lines["layer inputs kept"])
    assert "gradient of the head" not in pairs


def test_one_gpu_shards_nothing_and_copies_the_weights_to_compute():
    recipe, shape = seven_billion()
    lines = by_title(memory.updating(recipe, recipe.rl, shape, PlanSettings(gpus=1)))
    assert lines["policy: weights"] == pytest.approx(7.6156 * 4, abs=1e-3)
    assert lines["copies of all weights to compute"] == pytest.approx(7.6156 * 2, abs=1e-3)


def test_the_engine_sleeps_while_several_gpus_score():
    recipe, shape = seven_billion()
    engine, whole = "engine: weights and cache", "reward model: what is whole"
    assert by_title(memory.rollouts(recipe, recipe.rl, shape, MACHINE))[engine] == 40
    scoring = by_title(memory.scoring(recipe, recipe.rl, shape, MACHINE))
    assert engine not in scoring
    assert scoring[whole] == pytest.approx((shape.vocabulary_matrix + 2 * shape.layer_parameters) * 2 / 1e9)
    together = by_title(memory.rollouts(recipe, recipe.rl, shape, PlanSettings(gpus=1)))
    assert {engine, "reward model: one layer, about"} <= together.keys()


def test_the_cache_gets_what_is_left_of_the_engines_share():
    recipe, shape = seven_billion()
    lines = by_title(memory.cache(recipe, recipe.rl, shape, MACHINE))
    assert lines["a token's keys and values"] == pytest.approx(28 * 2 * 4 * 128 * 2 / 1e3)
    assert lines["cache"] == pytest.approx(40 - 15.2312 - 3, abs=1e-3)
    assert lines["sequences of full length"] == lines["cache"] * 1e6 // 57.344 // 4096
    nothing = by_title(memory.cache(recipe, recipe.rl, shape, PlanSettings(gpu_memory=24)))
    assert nothing["cache"] == nothing["sequences of full length"] == 0


def test_the_torch_sampler_keeps_a_copy_of_a_sharded_policy():
    recipe, shape = seven_billion(("engine.kind", "torch"))
    copy = "engine: copy of the policy"
    assert by_title(memory.updating(recipe, recipe.rl, shape, MACHINE))[copy] == pytest.approx(7.6156 * 4, abs=1e-3)
    assert copy not in by_title(memory.updating(recipe, recipe.rl, shape, PlanSettings(gpus=1)))


def test_time_by_hand():
    recipe, shape = seven_billion(("rl.rollouts_per_step", "8"), ("rl.max_new_tokens", "150"), ("rl.steps", "10"))
    machine = PlanSettings(
        gpus=1, peak_tflops=100, peak_tflops_float32=10, mfu=0.5, bandwidth=1000, bandwidth_share=1, mean_prompt=100,
        mean_response=100,
    )  # fmt: skip
    lines = by_title(times.step(recipe, recipe.rl, shape, machine))
    n, r = shape.parameters, shape.scalar_parameters
    assert lines["steps of decoding"] == 150  # all 8 at once; the longest takes 150
    assert lines["reading the weights"] == pytest.approx(150 * n * 2 / 1000e9)
    assert lines["reading the cache"] == pytest.approx(8 * 100 * 150 * 57344 / 1000e9)
    assert lines["prompts"] == pytest.approx(2 * n * 800 / 50e12)
    parts = lines["prompts"] + lines["reading the weights"] + lines["reading the cache"]
    assert lines["generation"] == pytest.approx(parts)
    assert lines["reward model's scores"] == pytest.approx(2 * r * 1600 / 50e12)
    assert lines["log-probabilities and values"] == pytest.approx(2 * (n + r) * 1600 / 50e12)
    assert lines["update"] == pytest.approx(8 * (n + r) * 1600 / 50e12)
    hours = by_title(times.whole_run(recipe, shape, machine))
    assert hours["reinforcement learning, round 1"] == pytest.approx(10 * lines["a step"] / 3600)
    assert hours["all of it"] == pytest.approx(sum(value for title, value in hours.items() if title != "all of it"))


def test_the_engines_log_probabilities_save_the_policy_a_pass():
    recipe, shape = seven_billion(("rl.importance_cap", "0"), ("rl.old_logprobs", "engine"))
    other, _ = seven_billion(("rl.importance_cap", "0"))
    title = "log-probabilities and values"
    mine, usual = (by_title(times.step(r, r.rl, shape, MACHINE))[title] for r in (recipe, other))
    both = shape.parameters + shape.scalar_parameters
    assert mine / usual == pytest.approx(shape.scalar_parameters / both)


def test_rows_that_do_not_fit_at_once_wait():
    recipe, shape = seven_billion(("engine.rows", "64"))
    made = by_title(times.generation(recipe, shape, MACHINE, 1024, 2048).lines)
    assert made["steps of decoding"] == 900 * 128 / 64 + 2048 - 900


@pytest.mark.parametrize(("again", "rank", "passes"), [("auto", 0, 8), (False, 0, 6), (True, 8, 6), (False, 8, 4)])
def test_operations_of_an_update(again, rank, passes):
    assert times.flops(again, LoraSettings(rank=rank)) == passes


def test_what_does_not_fit_is_said_with_how_much():
    lines = memory.trained("model", 8_000_000_000, 4, 1)
    assert verdict(lines, PlanSettings(gpu_memory=100)).endswith("DOES NOT FIT, 38.0 GB too much")
    assert verdict(lines, PlanSettings(gpu_memory=160)).endswith("fits, 16.0 GB left")


def test_the_command_says_what_fits(capsys):
    assert main(["plan", "recipes/satori-qwen-7b.yaml", "--gpus", "8", "--gpu-memory", "80"]) == 0
    said = capsys.readouterr().out
    assert "7.62e9 x 4 B / 8" in said
    assert "usable: fits" in said
    assert "--mfu" in said
    assert main(["plan", "satori-qwen-7b", "--gpus", "1", "--gpu-memory", "24"]) == 0
    said = capsys.readouterr().out
    assert "DOES NOT FIT" in said
    assert "usable: fits" not in said


@pytest.mark.parametrize(("name", "gpus", "memory"), [("qwen2.5-0.5b-one-gpu", 1, 24), ("satori-qwen-7b", 8, 80)])
def test_a_recipe_fits_what_it_is_for(capsys, name, gpus, memory):
    assert main(["plan", name, "--gpus", str(gpus), "--gpu-memory", str(memory)]) == 0
    said = capsys.readouterr().out
    assert "usable: fits" in said
    assert "DOES NOT FIT" not in said


@pytest.mark.parametrize("name", recipe_files())
def test_every_shipped_recipe_can_be_planned(name):
    assert list(plan(load_recipe(name), PlanSettings(gpus=2)))


def test_stages_that_take_a_checkpoint_are_not_counted():
    recipe, shape = seven_billion(("tune.checkpoint", "some/model"), ("reward_model.checkpoint", "some/model"))
    assert not any("reward model, at most" in line for line in plan(recipe, MACHINE))
    assert "format tuning" not in by_title(times.whole_run(recipe, shape, MACHINE))


@pytest.mark.parametrize(
    ("overrides", "gpus", "warned"),
    [
        ([("restarts.max_prompt_tokens", "3000")], 8, "rl: prompt, prefix and response may have 5048 tokens together"),
        ([], 3, "tune.batch_size is 128: 3 ranks cannot have equal shares"),
    ],
)
def test_what_ends_a_run_is_warned_of(overrides, gpus, warned):
    lines = list(plan(load_recipe("satori-qwen-7b", overrides), PlanSettings(gpus=gpus)))
    assert any(line.startswith(f"warning: {warned}") for line in lines)


def test_weights_in_bfloat16_are_warned_of():
    recipe = load_recipe("satori-qwen-7b", [("model.dtype", "bfloat16")])
    assert any("lose small updates" in line for line in plan(recipe, MACHINE))


def test_a_step_of_the_papers_rate_is_lost_in_bfloat16_weights():
    weight = torch.tensor(0.02, dtype=torch.bfloat16)
    assert weight - 2e-7 == weight
    assert load_recipe("satori-qwen-7b").model.dtype == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "satori-qwen-7b", "--gpus", "0"], "--gpus: Input should be greater than 0"),
        (["plan", "satori-qwen-7b", "--gpu-memory", "-1"], "--gpu-memory"),
        (["plan", "nowhere"], "no recipe 'nowhere'"),
        (["plan", "satori-qwen-7b", "--model.name", "some/model"], "the shape of some/model is not known here"),
    ],
)
def test_bad_input(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_model_is_an_error_that_names_the_known():
    with pytest.raises(RecipeError, match=r"Qwen/Qwen2\.5-Math-7B"):
        shape_of("some/model")
