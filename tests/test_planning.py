"""``satori plan`` against counting by hand (satori.planning)."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from satori.cli import main
from satori.planning import PlanSettings, duration, measure, plan, sampling, shape_of, supervised, trained, training
from satori.recipe import RecipeError, load_recipe

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
    assert shape.head == (0 if tied else 100 * 32)
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


def test_memory_by_hand():
    shape, recipe = shape_of("Qwen/Qwen2.5-Math-7B"), load_recipe("satori-qwen-7b")
    weights, gradients, moments = trained("model", 8_000_000_000, 4, 8)
    assert (weights.value, gradients.value, moments.value) == (4.0, 4.0, 8.0)
    lines = {line.title: line.value for line in training(recipe.rl, shape, MACHINE, 4)}
    assert lines["policy: weights"] == pytest.approx(7.6156 * 4 / 8, abs=1e-3)
    assert lines["critic: weights"] == pytest.approx((7.6156 - 152064 * 3584 / 1e9) * 4 / 8, abs=1e-3)  # no output head
    assert lines["layer inputs kept"] == pytest.approx(28 * 3584 * 16384 * 2 / 1e9)
    half = sum(line.value for line in training(recipe.rl, shape, PlanSettings(gpus=16), 4))
    assert half < sum(lines.values())
    without = recipe.rl.model_copy(update={"estimator": "grpo", "use_reward_model": False})
    assert not any("critic" in line.title or "reward" in line.title for line in training(without, shape, MACHINE, 4))
    tokens = 8 * 1200  # a micro-batch of eight, by the default lengths
    kept = next(line for line in supervised(recipe, shape, MACHINE, 4) if line.title == "layer inputs kept")
    assert kept.value == pytest.approx(28 * 3584 * tokens * 2 / 1e9)


def test_the_cache_gets_what_is_left():
    recipe, shape = load_recipe("satori-qwen-7b"), shape_of("Qwen/Qwen2.5-Math-7B")
    lines = {line.title: line.value for line in sampling(recipe, shape, MACHINE, 4)}
    assert lines["a token's keys and values"] == pytest.approx(28 * 2 * 4 * 128 * 2 / 1e3)
    taken = ("policy and critic with moments", "reward model: weights", "engine: weights in bfloat16")
    assert lines["room for the cache"] == pytest.approx(72 - sum(lines[title] for title in taken))
    assert lines["sequences at a time, of full length"] == lines["room for the cache"] * 1e6 // (4096 * 57.344)


def test_time_by_hand():
    shape = shape_of("Qwen/Qwen2.5-Math-7B")
    settings = load_recipe("satori-qwen-7b").rl.model_copy(update={"rollouts_per_step": 8, "steps": 10})
    machine = PlanSettings(
        gpus=1, peak_tflops=100, mfu=0.5, bandwidth=1000, bandwidth_share=1, mean_prompt=100, mean_response=100
    )
    lines = {line.title: line.value for line in duration(settings, shape, machine)}
    n = shape.parameters
    assert lines["update, layers computed again"] == pytest.approx(16 * n * 1600 / 50e12)  # policy and critic, 8 each
    assert lines["generation"] == pytest.approx(800 * (n * 2 / 8 + 57344 * 150) / 1000e9)
    step = lines["generation"] + lines["log-probs, values, scores"] + lines["update, layers computed again"]
    assert lines["the round"] == pytest.approx(10 * step / 3600)


def test_the_command_says_what_fits(capsys):
    assert main(["plan", "recipes/satori-qwen-7b.yaml", "--gpus", "8", "--gpu-memory", "80"]) == 0
    said = capsys.readouterr().out
    assert "7.62e9 x 4 B / 8" in said
    assert said.count("usable: fits") == 2
    assert "--mfu" in said
    assert main(["plan", "satori-qwen-7b", "--gpus", "1", "--gpu-memory", "24"]) == 0
    assert "DOES NOT FIT" in capsys.readouterr().out


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
