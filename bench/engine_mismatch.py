"""Does the engine follow the trainer? PPO steps of a real model with vLLM rollouts, and after each update the mean
difference between the log-probabilities that the engine sampled with and those that the trainer finds.

    python bench/engine_mismatch.py CHECKPOINT --dtype float32 --steps 20 --out mismatch.json

The problems are sums of two and three one-digit numbers, the rewards those of the method; advantages compare the
samples of a prompt (GRPO), so there is no critic. Every step has the same prompts and the same noise, so that its texts
are those of the step before but for what the weights changed: texts of another kind have another mismatch, also where
the engine follows exactly. A checkpoint that is right now and then moves, and its texts stay texts.

With an engine in bfloat16 the trainer's own bfloat16 stands beside it: the same difference for a copy of the policy
in that type. Where both grow alike, it is the rounding that costs more for the weights of that step, and the engine
has taken them all.
"""

import argparse
import copy
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForSequenceClassification

from satori.coat import encode_prompt
from satori.engines.base import Sampling
from satori.engines.stopping import stop_ids
from satori.engines.vllm_engine import VllmEngine, VllmSettings
from satori.models import load_policy, load_tokenizer
from satori.problems.arithmetic import Split
from satori.problems.source_settings import ProblemSource
from satori.problems.sources import open_source
from satori.reinforcement.ppo import Learner, PPOSettings, train
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome
from satori.reinforcement.rollouts import InitialState, Rollout, collect
from satori.scoring import PromptResponse, token_logprobs

SUMS = ProblemSource(
    preset="reasoning-gym:chain_sum",
    task_settings={"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 1},
)


def rounding(policy: PreTrainedModel, sequences: Sequence[PromptResponse]) -> float:
    """Mean difference between the response tokens' log-probabilities of a policy and of its copy in bfloat16."""
    copies = token_logprobs(copy.deepcopy(policy).bfloat16(), sequences)
    return float((torch.cat(token_logprobs(policy, sequences)) - torch.cat(copies)).abs().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the engine")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-6)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    policy, tokenizer = load_policy(options.checkpoint).float(), load_tokenizer(options.checkpoint)
    before = torch.cat([p.detach().flatten()[:1000].clone() for p in policy.parameters()])
    unused = Qwen2ForSequenceClassification(
        Qwen2Config(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    settings = PPOSettings(
        estimator="grpo", precision="float32", actor_lr=options.lr, lr_decay="constant", batch_size=options.samples * 2
    )
    learner = Learner(
        policy,
        unused,
        torch.optim.AdamW(policy.parameters(), lr=options.lr),
        torch.optim.AdamW(unused.parameters(), lr=options.lr),
    )
    states = [
        InitialState(problem, Start.PROBLEM, tuple(encode_prompt(tokenizer, problem.question)))
        for problem in islice(open_source(SUMS, Split.TRAIN), options.prompts)
        for _ in range(options.samples)
    ]
    sampling = Sampling(temperature=1.0, max_new_tokens=options.max_new_tokens)
    first, *others = stop_ids(policy.generation_config, tokenizer)
    limits = VllmSettings(dtype=options.dtype, kv_cache_gib=1, max_model_len=512, max_num_seqs=64)
    with VllmEngine(options.checkpoint, first, limits, others) as engine:
        rounded: float | None = None

        def follow(states: Sequence[InitialState], seed: int) -> Sequence[Rollout]:
            nonlocal rounded
            engine.update_weights(policy)
            rollouts = collect(engine, tokenizer, None, states, sampling, 0.0, seed=0)
            if options.dtype == "bfloat16":
                rounded = rounding(policy, [rollout.sequence for rollout in rollouts])
            return rollouts

        rows: list[dict[str, Any]] = []
        for step, rollouts, metrics in train(
            learner, lambda step: states, follow, settings, 1.0, range(options.steps), options.steps, seed=0
        ):
            tokens = sum(len(r.completion.token_ids) for r in rollouts)
            rows.append({"step": step, "tokens": tokens, "rounding": rounded, **metrics})
            own = "" if rounded is None else f", of the trainer's own bfloat16 {rounded:.2e}"
            difference = f"mean difference {metrics['engine_mismatch']:.2e}{own}"
            right = sum(rollout.outcome is Outcome.RIGHT for rollout in rollouts) / len(rollouts)
            rows[-1]["accuracy"] = right
            print(
                f"step {step:3d}: {tokens} tokens, {right:.0%} right, entropy {metrics['entropy']:.2f}, {difference}",
                flush=True,
            )
    after = torch.cat([p.detach().flatten()[:1000] for p in policy.parameters()])
    differences = [row["engine_mismatch"] for row in rows]
    result = {
        "dtype": options.dtype,
        "first": differences[0],
        "largest": max(differences),
        "last": differences[-1],
        "weights_moved_by": float((after - before).abs().mean()),
        "steps": rows,
    }
    print({name: value for name, value in result.items() if name != "steps"})
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
