"""What must hold of vLLM on every rank; run by test_vllm_ranks.py under torchrun with the tensor parallel size."""

import random
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor
from vllm_models import EOS, SETTINGS, VOCABULARY, make_model, perturb, wrong_by

from satori import ranks
from satori.engines.base import EngineError, Sampling, generate_all
from satori.engines.vllm_engine import VllmEngine
from satori.sharding import shard

CLOSE = 1e-4
SAMPLING = Sampling(max_new_tokens=12)


def prompts_of(rank: int) -> list[list[int]]:
    """Other prompts for each rank, and not as many."""
    rng = random.Random(rank)
    return [[rng.randrange(2, VOCABULARY) for _ in range(rng.randint(1, 40))] for _ in range(2 + 3 * rank)]


def check_each_rank_gets_the_completions_of_its_prompts(engine, model):
    prompts = prompts_of(ranks.index())
    assert wrong_by(model, prompts, generate_all(engine, prompts, SAMPLING, 0)) < CLOSE
    asked = [[5, 6], [7, 8, 9]] if ranks.is_first() else []
    done = [completion for _, completion in engine.generate(asked, SAMPLING, 0)]
    assert len(done) == len(asked)


def check_a_share_is_sampled_as_in_the_whole(engine):
    prompts = prompts_of(1)
    mine = ranks.share(len(prompts))
    found = dict(engine.generate(prompts[mine.start : mine.stop], SAMPLING, 3, mine.start))
    parts = ranks.gather([found[i].token_ids for i in range(len(mine))])
    assert parts == [completion.token_ids for completion in generate_all(engine, prompts, SAMPLING, 3)]


def check_the_weights_of_a_sharded_model_are_sampled(engine):
    whole, policy = perturb(make_model(), 1), shard(perturb(make_model(), 1))
    assert any(isinstance(parameter, DTensor) for parameter in policy.parameters())
    engine.update_weights(policy)
    check_each_rank_gets_the_completions_of_its_prompts(engine, whole)


def check_one_rank_opens_none_by_itself(folder, settings):
    """vLLM would wait for the others."""
    if ranks.is_first():
        with ranks.alone(), pytest.raises(EngineError, match="one rank of several cannot open a vLLM engine by itself"):
            VllmEngine(folder, EOS, settings)


def main(tensor_parallel_size: int) -> None:
    torch.set_num_threads(1)
    with ranks.joined(60):
        folder = Path(ranks.first_does(tempfile.mkdtemp))
        model = make_model()
        ranks.first_does(lambda: model.save_pretrained(folder))
        settings = SETTINGS.model_copy(update={"tensor_parallel_size": tensor_parallel_size})
        with VllmEngine(folder, EOS, settings) as engine:
            check_each_rank_gets_the_completions_of_its_prompts(engine, model)
            check_a_share_is_sampled_as_in_the_whole(engine)
            check_the_weights_of_a_sharded_model_are_sampled(engine)
        check_one_rank_opens_none_by_itself(folder, settings)
        print(f"rank {ranks.index()}: all holds")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
