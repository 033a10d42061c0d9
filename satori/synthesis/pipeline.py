"""Demonstration synthesis (paper section 4.1, appendices C and D.1): from problems to COAT demonstrations.

Per problem: sample K solutions, split them into correct, incorrect and invalid, and take a few of each kind. An
incorrect one is cut at its first wrong step and goes on with a reflection that says what is wrong and an exploration;
a correct one is cut at a random step and goes on with a reflection that says why it holds. Where the continuation is
wrong, the critic reviews the continuation, at most ``critic_rounds`` times. The reward model keeps the best
candidate of each kind. Pure but for the three agents: files are :mod:`satori.synthesis.stage`'s business.

Deviation from the paper: a correct solution may also be cut after its last step. The demonstration then verifies the
finished answer and states it again in the reflection, which is what a policy restarted from a finished answer must do.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import Field

from satori.coat import EXPLORE_OPENERS, REFLECT_OPENERS, MetaAction, Step, check_steps, count_actions, render
from satori.config import Settings, derive_seed
from satori.grading import Grade, Status, grade
from satori.synthesis.agents import Critic, Generator, Mistake, PartialSolution, RewardModel, Steps, Verification
from satori.types import Problem


class Kind(StrEnum):
    """The five kinds of demonstration (paper D.1)."""

    PLAIN = "I"
    VERIFIED = "II-I"
    VERIFIED_THEN_CORRECTED = "II-II"
    CORRECTED = "III-I"
    CORRECTED_TWICE = "III-II"


_KINDS: dict[tuple[type[Verification | Mistake], ...], Kind] = {
    (): Kind.PLAIN,
    (Verification,): Kind.VERIFIED,
    (Verification, Mistake): Kind.VERIFIED_THEN_CORRECTED,
    (Mistake,): Kind.CORRECTED,
    (Mistake, Mistake): Kind.CORRECTED_TWICE,
}


class Dropped(StrEnum):
    """Why a sampled solution or a candidate did not become a demonstration."""

    INVALID_SOLUTION = "solution without an answer"
    NOT_DRAWN = "solution not drawn"
    SPELLED_ACTION = "a plain text with a meta-action token in it"
    CRITIC_SILENT = "critic gave no usable review"
    INVALID_CONTINUATION = "continuation without an answer"
    STILL_WRONG = "wrong after the last critic round"
    NOT_BEST = "not the best of its kind"


class CandidateSettings(Settings):
    """How candidates are made from sampled solutions."""

    samples: int = Field(default=8, gt=0)
    """Solutions sampled per problem (paper: 100)."""
    correct: int = Field(default=4, ge=0)
    """Correct solutions taken at random (paper: 4)."""
    incorrect: int = Field(default=4, ge=0)
    """Incorrect solutions taken at random (paper: 4)."""
    critic_rounds: int = Field(default=2, ge=1, le=2)
    """m, the critic rounds a candidate may take (paper: 2)."""


@dataclass(frozen=True)
class Demonstration:
    """One COAT demonstration: the response text with its meta-actions."""

    problem: Problem
    kind: Kind
    response: str


@dataclass(frozen=True)
class _Draft:
    """A candidate in the making: plain steps so far, the same with meta-actions spliced in, reviews so far."""

    problem: Problem
    plain: Steps
    coat: tuple[Step, ...] = ()
    reviewed: int = 0
    """Plain steps that a review has covered."""
    reviews: tuple[type[Verification | Mistake], ...] = ()


def synthesize(
    problems: Sequence[Problem],
    generator: Generator,
    critic: Critic,
    reward_model: RewardModel,
    settings: CandidateSettings,
    seed: int,
) -> tuple[list[Demonstration], Counter[str]]:
    """The best demonstration of each kind for each problem, and a count of everything dropped, by reason."""
    dropped: Counter[str] = Counter()
    rng = random.Random(derive_seed(seed, "draw"))
    done: list[_Draft] = []
    fresh: list[tuple[_Draft, bool]] = []
    solutions = generator.solve(problems, settings.samples, derive_seed(seed, "solve"))
    for problem, sampled in zip(problems, solutions, strict=True):
        correct, incorrect = _split(problem, sampled, dropped)
        for pool, count, is_correct in ((correct, settings.correct, True), (incorrect, settings.incorrect, False)):
            drawn = rng.sample(pool, min(count, len(pool)))
            dropped[Dropped.NOT_DRAWN] += len(pool) - len(drawn)
            fresh += [(_Draft(problem, steps), is_correct) for steps in drawn]
        done += [_Draft(problem, steps, _with_continue(steps, 0), len(steps)) for steps in correct]

    verified = _verify([draft for draft, is_correct in fresh if is_correct], critic, rng, dropped)
    corrected = _correct([draft for draft, is_correct in fresh if not is_correct], critic, rng, dropped)
    pending: list[tuple[_Draft, Verification | Mistake]] = [*verified, *corrected]
    for attempt in range(settings.critic_rounds):
        wrong: list[_Draft] = []
        for draft in _continue(pending, generator, derive_seed(seed, "continue", attempt)):
            status = _grade(draft.plain, draft.problem).status
            if any(count_actions(step).total() for step in draft.plain):
                dropped[Dropped.SPELLED_ACTION] += 1
            elif status is Status.CORRECT:
                done.append(draft)
            elif status is Status.WRONG:
                wrong.append(draft)
            else:
                dropped[Dropped.INVALID_CONTINUATION] += 1
        if attempt + 1 < settings.critic_rounds:
            pending = [*_correct(wrong, critic, rng, dropped)]
        else:
            dropped[Dropped.STILL_WRONG] += len(wrong)
    return _best_of_each_kind(done, reward_model, dropped), dropped


def _split(problem: Problem, sampled: Sequence[Steps], dropped: Counter[str]) -> tuple[list[Steps], list[Steps]]:
    """Correct and incorrect solutions; those without an answer that can be judged are dropped."""
    by_status: dict[Status, list[Steps]] = {status: [] for status in Status}
    for steps in sampled:
        if any(count_actions(step).total() for step in steps):
            dropped[Dropped.SPELLED_ACTION] += 1
        else:
            by_status[_grade(steps, problem).status].append(steps)
    correct, wrong = by_status[Status.CORRECT], by_status[Status.WRONG]
    dropped[Dropped.INVALID_SOLUTION] += sum(map(len, by_status.values())) - len(correct) - len(wrong)
    return correct, wrong


def _grade(steps: Steps, problem: Problem) -> Grade:
    return grade("\n".join(steps), problem.answer, problem.form)


def _with_continue(steps: Steps, position: int) -> tuple[Step, ...]:
    """Plain steps as COAT steps; the very first step of a response carries no token."""
    return tuple(
        Step(MetaAction.CONTINUE, f" {text}") if position + i else Step(None, text) for i, text in enumerate(steps)
    )


def _restated(draft: _Draft) -> str:
    """The answer once more, where the reviewed solution is complete: what follows a restart must stand by itself."""
    answer = _grade(draft.plain, draft.problem).answer
    return "" if answer is None else f" \\boxed{{{answer}}}"


def _reflect(reason: str, rng: random.Random) -> Step:
    return Step(MetaAction.REFLECT, f" {rng.choice(REFLECT_OPENERS)} {reason}")


def _verify(
    drafts: list[_Draft], critic: Critic, rng: random.Random, dropped: Counter[str]
) -> list[tuple[_Draft, Verification]]:
    """Cut each correct solution at a random step and reflect on what stands."""
    cuts = [replace(d, plain=d.plain[: rng.randint(1, len(d.plain))]) for d in drafts]
    reviews = critic.verify([PartialSolution(d.problem, d.plain) for d in cuts])
    dropped[Dropped.CRITIC_SILENT] += reviews.count(None)
    return [
        (
            replace(
                draft,
                coat=(*_with_continue(draft.plain, 0), _reflect(review.reason + _restated(draft), rng)),
                reviewed=len(draft.plain),
                reviews=(Verification,),
            ),
            review,
        )
        for draft, review in zip(cuts, reviews, strict=True)
        if review is not None
    ]


def _correct(
    drafts: list[_Draft], critic: Critic, rng: random.Random, dropped: Counter[str]
) -> list[tuple[_Draft, Mistake]]:
    """Cut each wrong solution at its first wrong step, reflect on it, and open an exploration."""
    corrected = []
    for draft in drafts:
        [review] = critic.find_mistake([PartialSolution(draft.problem, draft.plain)], draft.reviewed)
        if review is None or not draft.reviewed <= review.first_wrong < len(draft.plain):
            dropped[Dropped.CRITIC_SILENT] += 1
            continue
        cut = review.first_wrong + 1
        unreviewed = _with_continue(draft.plain[draft.reviewed : cut], draft.reviewed)
        explore = " ".join(t for t in (rng.choice(EXPLORE_OPENERS), review.direction, review.corrected) if t)
        plain = draft.plain[:cut] if review.corrected is None else (*draft.plain[: cut - 1], review.corrected)
        coat = (*draft.coat, *unreviewed, _reflect(review.reason, rng), Step(MetaAction.EXPLORE, f" {explore}"))
        corrected.append(
            (replace(draft, plain=plain, coat=coat, reviewed=cut, reviews=(*draft.reviews, Mistake)), review)
        )
    return corrected


def _continue(
    pending: Sequence[tuple[_Draft, Verification | Mistake]], generator: Generator, seed: int
) -> list[_Draft]:
    """Let the generator go on where there is no answer yet.

    A complete solution ends with the review that verified it, and a correction that completes one ends it.
    """
    answers = [_grade((_fresh_text(draft, review),), draft.problem).answer for draft, review in pending]
    unfinished = [pair for pair, answer in zip(pending, answers, strict=True) if answer is None]
    partials = [PartialSolution(draft.problem, draft.plain, review) for draft, review in unfinished]
    continuations = iter(generator.continue_from(partials, seed))
    continued = []
    for (draft, _), answer in zip(pending, answers, strict=True):
        steps = next(continuations) if answer is None else ()
        continued.append(replace(draft, plain=(*draft.plain, *steps)))
    return continued


def _fresh_text(draft: _Draft, review: Verification | Mistake) -> str:
    """The plain text that can hold a standing answer: all that was verified, or the correction alone."""
    return "\n".join(draft.plain) if isinstance(review, Verification) else review.corrected or ""


def _best_of_each_kind(done: list[_Draft], reward_model: RewardModel, dropped: Counter[str]) -> list[Demonstration]:
    scores = reward_model.score([PartialSolution(d.problem, d.plain) for d in done])
    best: dict[tuple[str, Kind], tuple[float, _Draft]] = {}
    for draft, score in zip(done, scores, strict=True):
        key = (draft.problem.id, _KINDS[draft.reviews])
        if key in best:
            dropped[Dropped.NOT_BEST] += 1
        if key not in best or score > best[key][0]:
            best[key] = (score, draft)
    demonstrations = []
    for (_, kind), (_, draft) in best.items():
        coat = draft.coat
        if kind is not Kind.PLAIN:
            coat = (*coat, *_with_continue(draft.plain[draft.reviewed :], draft.reviewed))
        check_steps(coat)
        demonstrations.append(Demonstration(draft.problem, kind, render(coat)))
    return demonstrations
