"""The benches: how they measure, and that each of them still runs, at a size that measures nothing."""

import json
import math
import statistics
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benches are not installed

from bench import head_memory, iteration, sampler, update
from bench.head_memory import Probe
from bench.measuring import Results, Spread, interleave, machine, ratios, show, spread, write_results
from bench.subject import Size, chance_of_end, random_subject
from satori.engines.base import Sampling, generate_all
from satori.engines.torch_engine import TorchEngine

MINIATURE = Size(samples=2, group=2, limit=3, mean_length=2, optimizer_steps=1, runs=1)


@pytest.fixture(scope="module")
def subject():
    return random_subject(MINIATURE)


def is_ratio(found):
    return math.isfinite(found.median) and 0 < found.min <= found.median <= found.max


# --- measuring ---


def test_contenders_take_turns_and_begin_by_turns():
    turns = []

    def contender(name):
        return lambda run: turns.append((run, name)) or float(run)

    found = interleave({"a": contender("a"), "b": contender("b")}, runs=3)
    assert turns == [(0, "b"), (0, "a"), (1, "a"), (1, "b"), (2, "b"), (2, "a"), (3, "a"), (3, "b")]
    assert found == {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}  # the warm-up is not counted


def test_a_ratio_is_made_run_by_run():
    # The ratio of the medians would be 4 / 2 = 2.
    assert ratios([4.0, 9.0, 2.0], [1.0, 3.0, 2.0]) == Spread(median=3.0, min=1.0, max=4.0, runs=3)


@pytest.mark.parametrize(("numbers", "median"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0], 2.5)])
def test_a_spread_has_median_least_and_most(numbers, median):
    assert spread(numbers) == Spread(median, min(numbers), max(numbers), len(numbers))


def test_no_runs_have_no_median():
    with pytest.raises(ValueError, match="no runs"):
        spread([])


def test_runs_of_two_sides_belong_together():
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0, 2.0], [1.0])


def test_results_are_written_aside_and_renamed(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")
    renamed = []
    monkeypatch.setattr(
        Path, "replace", lambda aside, target: renamed.append((aside, target, path.read_text(), aside.read_text()))
    )
    write_results(Results(ratios={"a": spread([2.0]), "b": None}, reasons={"b": "not here"}), path, {"cores": 2})
    [(aside, target, before, text)] = renamed
    assert (aside.parent, target, before) == (tmp_path, path, "old")
    record = json.loads(text)
    assert record["ratios"] == {"a": {"median": 2.0, "min": 2.0, "max": 2.0, "runs": 1}, "b": None}
    assert record["reasons"] == {"b": "not here"}
    assert record["machine"] == {"cores": 2}
    assert record["command"]


def test_the_machine_is_described():
    found = machine()
    assert found["cores"] >= 1
    assert found["packages"]["torch"] == torch.__version__
    json.dumps(found)


def test_the_tables_show_ratios_reasons_and_phases():
    found = Results(
        ratios={"fast": spread([2.0, 2.5, 3.0]), "missing": None},
        reasons={"missing": "not installed"},
        wanted={"fast": ">= 2"},
        phases={"generation": {"seconds": 1.5, "share": 0.75, "beside_seconds": 0.2, "busy_cores": 1.9}},
    )
    console = Console(record=True, width=120)
    show(found, console)
    text = console.export_text()
    assert all(part in text for part in ("fast", "2.5", "2 to 3", ">= 2", "not installed", "generation", "75.0%"))


# --- the model whose responses end at random moments ---


@pytest.mark.parametrize(("mean", "limit"), [(76, 128), (2, 3), (20, 1000)])
def test_the_chance_to_end_gives_the_wanted_mean_length(mean, limit):
    chance = chance_of_end(mean, limit)
    lengths = [n * chance * (1 - chance) ** (n - 1) for n in range(1, limit)]
    assert sum(lengths) + limit * (1 - chance) ** (limit - 1) == pytest.approx(mean, rel=1e-6)


def test_no_chance_gives_a_mean_beyond_the_limit():
    with pytest.raises(ValueError, match="at most 10"):
        chance_of_end(12, 10)


def test_a_size_has_whole_groups_and_batches():
    with pytest.raises(ValueError, match="whole groups"):
        Size(samples=10, group=4)


def test_the_random_model_ends_its_responses_at_mixed_moments():
    size = Size(samples=64, group=8, limit=24, mean_length=12)
    mixed = random_subject(size)
    engine = TorchEngine(mixed.template, mixed.tokenizer.eos_token_id)
    sampling = Sampling(temperature=size.temperature, max_new_tokens=size.limit)
    found = generate_all(engine, [s.prompt_ids for s in mixed.states], sampling, 0)
    lengths = [len(c.token_ids) for c in found]
    assert statistics.mean(lengths) == pytest.approx(12, abs=4)
    assert len(set(lengths)) > 8


# --- every bench, in miniature ---


def test_training_beside_trl(subject):
    training = pytest.importorskip("bench.training")
    found = training.measure(subject, MINIATURE)
    assert set(found.ratios) == {"grpo_vs_trl_grpo", "ppo_vs_trl_grpo"}
    assert all(map(is_ratio, found.ratios.values()))
    assert all(1 <= n <= 3 for n in found.details["training"]["mean_response_tokens"].values())


def test_update_beside_a_bare_loop(subject):
    found = update.measure(subject, MINIATURE)
    assert set(found.ratios) == {"update_vs_bare", "update_with_critic_vs_bare"}
    assert all(map(is_ratio, found.ratios.values()))


def test_the_bare_loop_trains_on_the_tokens_that_the_update_trains_on(subject):
    pair = update.UpdatePair(subject, MINIATURE, "gae")
    targets = torch.cat([target.batch.targets_N for step in pair.steps for target in step])
    assert sorted(targets.tolist()) == sorted(i for r in pair.experience.rollouts for i in r.completion.token_ids)


def test_the_phases_of_an_iteration(subject):
    phases = iteration.measure(subject, MINIATURE).phases
    assert sum(row["share"] for row in phases.values()) == pytest.approx(1)
    assert {name for name, row in phases.items() if row["seconds"] + row["beside_seconds"] > 0} == {
        *iteration.PHASES,
        iteration.REST,
    }


def test_a_phase_inside_another_one_stops_its_clock(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 6.0])
    monkeypatch.setattr(iteration.time, "perf_counter", lambda: next(now))
    clock = iteration.PhaseClock()
    with clock.phase("outer"), clock.phase("inner"):
        pass
    assert clock.wall == {"outer": 1.0 + 3.0, "inner": 2.0}


def test_the_samplers_side_by_side():
    found = sampler.measure(prompts=2, limit=3, runs=1, vllm=False, mean_length=2)
    assert is_ratio(found.ratios["sampler_vs_generate"])
    assert is_ratio(found.ratios["sampler_vs_continuous_batching"])
    assert found.ratios["sampler_vs_vllm"] is None
    assert "left out" in found.reasons["sampler_vs_vllm"]
    assert found.details["sampler"]["greedy_equal"] == 1


@pytest.mark.parametrize("head", ["ours", "naive"])
def test_the_memory_of_a_head(head):
    answer = head_memory.run_probe(Probe(head, tokens=8, vocabulary=50, hidden=16))
    assert answer["seconds"] >= 0
    assert isinstance(answer["bytes"], int)


def test_the_memory_of_heads_is_measured_in_turn(monkeypatch):
    asked = []

    def answer(probe, threads):
        asked.append((probe.head, probe.later))
        return {"bytes": len(asked) * probe.logits_bytes}

    monkeypatch.setattr(head_memory, "in_process", answer)
    found = head_memory.measure(tokens=8, naive_tokens=4, vocabulary=50, hidden=16, runs=3)
    assert asked == [("ours", False), ("ours", True), ("naive", False)] * 3
    assert found.ratios["chunked_head_memory"] == Spread(4.0, 1.0, 7.0, 3)
