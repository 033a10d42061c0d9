"""Rollouts: draw initial states, sample responses, grade them, give them their reward.

The policy trains on the token ids it sampled; text is decoded for the grader only, and of the response alone: what
stands in a restart prefix pays nothing.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori import ranks
from satori.coat import count_actions
from satori.config import Settings
from satori.engines.base import PolicyEngine, Sampling
from satori.grading import Grade
from satori.precision import Precision, autocast
from satori.reinforcement.restart_buffer import Start
from satori.reinforcement.rewards import Outcome, RewardBreakdown, reward
from satori.run_folder import ArtifactError
from satori.sampling import answer
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

    A kind of start that has no states has no weight. Raises ArtifactError where nothing is left to draw from.
    """
    rng = random.Random(seed)
    kinds = [kind for kind in Start if states.get(kind) and getattr(weights, kind.value) > 0]
    if not kinds:
        raise ArtifactError("no initial states to draw from: every start weight is 0 or its buffer is empty")
    chosen = rng.choices(kinds, [getattr(weights, kind.value) for kind in kinds], k=-(-count // samples))
    return [state for kind in chosen for state in [rng.choice(states[kind])] * samples][:count]


def judge(completion: Completion, grade: Grade) -> Outcome:
    """Right, wrong or truncated, from the grade of the sampled response alone."""
    if completion.finish_reason is FinishReason.LENGTH:
        return Outcome.TRUNCATED
    return Outcome.RIGHT if grade.correct else Outcome.WRONG


def collect(
    engine: PolicyEngine,
    tokenizer: PreTrainedTokenizerBase,
    reward_model: PreTrainedModel | None,
    states: Sequence[InitialState],
    sampling: Sampling,
    reflection_bonus: float,
    seed: int,
    token_budget: int = 16384,
    precision: Precision = "float32",
) -> list[Rollout]:
    """One response from each initial state, rewarded. Without a reward model the preference bonus is 0.

    Finished responses are graded and scored while others are being generated; of several ranks each does its share,
    and the scoring is done once all have sampled. Then the engine sleeps. The reward model reads at most
    ``token_budget`` tokens at a time.
    """
    requests = [((*s.prompt_ids, *s.prefix_ids), s.problem) for s in states]
    with Scoring(reward_model, token_budget, precision) as scoring:

        def finished(index: int, completion: Completion) -> None:
            scoring.add(index, (requests[index][0], completion.token_ids))

        answers = answer(engine, tokenizer, requests, sampling, seed, finished)
        engine.sleep()
        sequences = [(context, a.completion.token_ids) for (context, _), a in zip(requests, answers, strict=True)]
        logits = scoring.finish(sequences)
    rollouts = []
    for state, done, logit in zip(states, answers, logits, strict=True):
        outcome = judge(done.completion, done.grade)
        breakdown = reward(state.start, outcome, logit, reflection_bonus)
        rollouts.append(Rollout(state, done.completion, done.text, outcome, breakdown))
    return rollouts


class Scoring:
    """The reward model's logits of responses, computed beside the sampling as soon as there is enough to compute.

    Beside it on a GPU: on a CPU the two would fight for the same cores. A sharded reward model computes on all ranks
    together, so with several ranks it waits until all are done.
    """

    def __init__(self, reward_model: PreTrainedModel | None, token_budget: int, precision: Precision) -> None:
        self._model, self._budget, self._precision = reward_model, token_budget, precision
        self._beside = reward_model is not None and reward_model.device.type != "cpu" and ranks.count() == 1
        self._thread = ThreadPoolExecutor(1)
        self._waiting: dict[int, PromptResponse] = {}
        self._scored: list[tuple[list[int], Future[list[float]]]] = []

    def add(self, index: int, sequence: PromptResponse) -> None:
        """A response that is finished, and its number."""
        if not self._beside:
            return
        self._waiting[index] = sequence
        longest = max(len(p) + len(r) for p, r in self._waiting.values())
        if longest * len(self._waiting) >= self._budget:
            self._score()

    def finish(self, sequences: Sequence[PromptResponse]) -> Sequence[float | None]:
        """The logits of all responses, in order; None for each where there is no reward model."""
        if self._model is None:
            return [None] * len(sequences)
        if not self._beside:
            return self._logits(self._model, sequences)
        self._score()
        logits: dict[int, float] = {}
        for indices, scores in self._scored:
            logits |= zip(indices, scores.result(), strict=True)
        return [logits[i] for i in range(len(sequences))]

    def _score(self) -> None:
        if self._model is not None and self._waiting:
            indices, sequences = list(self._waiting), list(self._waiting.values())
            self._scored.append((indices, self._thread.submit(self._logits, self._model, sequences)))
            self._waiting.clear()

    def _logits(self, model: PreTrainedModel, sequences: Sequence[PromptResponse]) -> list[float]:
        with autocast(self._precision, model.device):
            return reward_logits(model, sequences, self._budget)

    def __enter__(self) -> "Scoring":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)


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
