"""Rollouts: draw initial states, sample responses, grade them, give them their reward.

The policy trains on the token ids it sampled; text is decoded for the grader only, and of the response alone: what
stands in a restart prefix pays nothing.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.coat import count_actions
from satori.config import Settings
from satori.engines.base import Engine, Sampling, generate_all
from satori.grading import Grade, grade_all
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome, RewardBreakdown, reward
from satori.sampling import decode_response
from satori.scoring import PromptResponse, reward_logits
from satori.types import Completion, FinishReason, Problem


class StartWeights(Settings):
    """In which proportion rollouts start from plain problems and from the two restart buffers."""

    problem: float = Field(default=1.0, ge=0)
    positive: float = Field(default=1.0, ge=0)
    negative: float = Field(default=1.0, ge=0)


@dataclass(frozen=True)
class InitialState:
    """Where an episode starts: the prompt's ids, with a restart prefix where there is one."""

    problem: Problem
    start: Start
    prompt_ids: tuple[int, ...]
    prefix_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rollout:
    """One sampled response with its outcome and reward."""

    initial: InitialState
    completion: Completion
    response: str
    outcome: Outcome
    reward: RewardBreakdown

    @property
    def sequence(self) -> PromptResponse:
        """(context, sampled ids): losses concern the second part only."""
        return (*self.initial.prompt_ids, *self.initial.prefix_ids), self.completion.token_ids


def draw_states(
    states: Mapping[Start, Sequence[InitialState]], weights: StartWeights, count: int, samples: int, seed: int
) -> list[InitialState]:
    """``count`` initial states drawn by weight, ``samples`` copies of each standing together.

    A kind of start that has no states has no weight. Raises ValueError where nothing is left to draw from.
    """
    rng = random.Random(seed)
    kinds = [kind for kind in Start if states.get(kind) and getattr(weights, kind.value) > 0]
    if not kinds:
        raise ValueError("no initial states to draw from: every start weight is 0 or its buffer is empty")
    chosen = rng.choices(kinds, [getattr(weights, kind.value) for kind in kinds], k=-(-count // samples))
    return [state for kind in chosen for state in [rng.choice(states[kind])] * samples][:count]


def judge(completion: Completion, grade: Grade) -> Outcome:
    """Right, wrong or truncated, from the grade of the sampled response alone."""
    if completion.finish_reason is FinishReason.LENGTH:
        return Outcome.TRUNCATED
    return Outcome.RIGHT if grade.correct else Outcome.WRONG


def collect(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    reward_model: PreTrainedModel | None,
    states: Sequence[InitialState],
    sampling: Sampling,
    reflection_bonus: float,
    seed: int,
    token_budget: int = 16384,
) -> list[Rollout]:
    """One response from each initial state, rewarded. Without a reward model the preference bonus is 0.

    The reward model reads at most ``token_budget`` tokens at a time.
    """
    contexts = [(*s.prompt_ids, *s.prefix_ids) for s in states]
    completions = generate_all(engine, contexts, sampling, seed)
    texts = [decode_response(tokenizer, completion) for completion in completions]
    logits: Sequence[float | None] = [None] * len(states)
    if reward_model is not None:
        logits = reward_logits(
            reward_model, [(c, done.token_ids) for c, done in zip(contexts, completions, strict=True)], token_budget
        )
    rollouts = []
    grades = grade_all((text, s.problem.answer, s.problem.form) for text, s in zip(texts, states, strict=True))
    for state, completion, text, logit, grade in zip(states, completions, texts, logits, grades, strict=True):
        outcome = judge(completion, grade)
        rollouts.append(
            Rollout(state, completion, text, outcome, reward(state.start, outcome, logit, reflection_bonus))
        )
    return rollouts


def summarize(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What a step's rollouts look like: reward parts, accuracy by start, lengths, truncation, meta-actions."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    metrics = {
        "reward": mean([r.reward.total for r in rollouts]),
        "reward_rule": mean([r.reward.rule for r in rollouts]),
        "reward_preference": mean([r.reward.preference for r in rollouts]),
        "reward_bonus": mean([r.reward.bonus for r in rollouts]),
        "accuracy": mean([r.outcome is Outcome.RIGHT for r in rollouts]),
        "truncation_rate": mean([r.outcome is Outcome.TRUNCATED for r in rollouts]),
        "response_length": mean([len(r.completion.token_ids) for r in rollouts]),
    }
    for start in Start:
        if group := [r for r in rollouts if r.initial.start is start]:
            metrics[f"accuracy_{start}"] = mean([r.outcome is Outcome.RIGHT for r in group])
            metrics[f"length_{start}"] = mean([len(r.completion.token_ids) for r in group])
    counts: Counter[str] = Counter()
    for rollout in rollouts:
        counts.update({action.name.lower(): n for action, n in count_actions(rollout.response).items()})
    return metrics | {f"{name}_per_response": n / len(rollouts) for name, n in counts.items()}
