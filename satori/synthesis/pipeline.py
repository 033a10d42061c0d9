"""Demonstration synthesis (paper section 4.1, appendices C and D.1): from a problem to COAT demonstrations.

Sample K solutions, split them into correct, incorrect and invalid, and take a few of each kind. An incorrect one is cut
at its first wrong step and goes on with a reflection that says what is wrong and an exploration; a correct one is cut
at a random step and goes on with a reflection that says why it holds. Where the continuation is wrong, the critic
reviews the continuation, at most ``critic_rounds`` times. The reward model keeps the best candidate of each kind.

Each problem is a coroutine of its own, and within it each candidate. All that is drawn at random is drawn from seeds of
the problem: what becomes of it does not depend on other problems, nor on the order in which agents answer.

Whatever agents say is untrusted: a text that spells a special token, gives away that its writer saw the known answer,
or is in another language than the question never gets into a demonstration.

Deviation from the paper: a correct solution may also be cut after its last step. The demonstration then verifies the
finished answer and states it again in the reflection, which is what a policy restarted from a finished answer must do.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import Field

from satori.coat import (
    EXPLORE_OPENERS,
    PROMPT_INSTRUCTION,
    REFLECT_OPENERS,
    MetaAction,
    Step,
    check_steps,
    render,
)
from satori.config import Settings, derive_seed
from satori.engines.server_errors import Cause, ServerError
from satori.grading import Status, grade, grade_all
from satori.grading.extraction import extract_answers
from satori.synthesis.agents import Agents, Critic, Mistake, PartialSolution, RewardModel, Steps, Unusable, Verification
from satori.synthesis.batching import PromptTooLongError
from satori.synthesis.flow import together
from satori.synthesis.llm.leaks import has_special_token, leak_in, wrong_language
from satori.types import Problem

_WORD = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{3,}|[^\W\d_\x00-\u024f\u0370-\u03ff]")
"""Three letters that are no LaTeX command, or one that is neither Latin nor Greek."""


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
    """Why a sampled solution or a candidate did not become a demonstration. Where the critic's answer was of no use,
    the reason is ``critic: `` and its own word for it."""

    INVALID_SOLUTION = "solution without an answer"
    NOT_DRAWN = "solution not drawn"
    SPECIAL_TOKEN = "a plain text with a meta-action or other special token in it"
    LEAKED = "a text that gives away the known answer was seen"
    OTHER_LANGUAGE = "a text in another language than the question"
    CRITIC_ASTRAY = "critic: a step it was not asked about"
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
class ProblemRecord:
    """What became of one problem."""

    problem: Problem
    demonstrations: tuple[Demonstration, ...] = ()
    dropped: Counter[str] = field(default_factory=Counter)
    """Solutions and candidates by why they did not become a demonstration."""
    failed: Cause | None = None
    """Why an agent could not be asked; the problem then has no demonstrations."""
    trouble: str = field(default="", compare=False)
    """The same in words."""


@dataclass(frozen=True)
class _Draft:
    """A candidate in the making: plain steps so far, the same with meta-actions spliced in, reviews so far."""

    problem: Problem
    plain: Steps
    coat: tuple[Step, ...] = ()
    reviewed: int = 0
    """Plain steps that a review has covered."""
    reviews: tuple[type[Verification | Mistake], ...] = ()


async def demonstrate(problem: Problem, agents: Agents, settings: CandidateSettings, seed: int) -> ProblemRecord:
    """What becomes of a problem: the best demonstration of each kind, and a count of everything dropped, by reason.

    Where an agent cannot be asked the record says so. Raises ServerError where none of the other problems could be
    worked on either.
    """
    try:
        return await _demonstrate(problem, agents, settings, derive_seed(seed, problem.id))
    except ServerError as error:
        if error.concerns_all:
            raise
        return ProblemRecord(problem, failed=error.cause, trouble=str(error))
    except PromptTooLongError as error:
        return ProblemRecord(problem, failed=Cause.CONTEXT, trouble=str(error))


async def _demonstrate(problem: Problem, agents: Agents, settings: CandidateSettings, seed: int) -> ProblemRecord:
    rng = random.Random(derive_seed(seed, "draw"))
    sampled = await agents.generator.solve(problem, settings.samples, derive_seed(seed, "solve"))
    correct, incorrect, dropped = await agents.aside(_split, problem, sampled)
    drawn: list[tuple[_Draft, bool]] = []
    for pool, count, is_correct in ((correct, settings.correct, True), (incorrect, settings.incorrect, False)):
        chosen = rng.sample(pool, min(count, len(pool)))
        dropped[Dropped.NOT_DRAWN] += len(pool) - len(chosen)
        drawn += [(_Draft(problem, steps), is_correct) for steps in chosen]
    outcomes = await together(
        _candidate(draft, is_correct, agents, settings.critic_rounds, derive_seed(seed, "candidate", number))
        for number, (draft, is_correct) in enumerate(drawn)
    )
    finished = [_Draft(problem, steps) for steps in correct]
    for outcome in outcomes:
        if isinstance(outcome, str):
            dropped[outcome] += 1
        else:
            finished.append(outcome)
    best = await _best_of_each_kind(finished, agents.reward_model)
    dropped[Dropped.NOT_BEST] += len(finished) - len(best)
    return ProblemRecord(problem, best, +dropped)


async def _candidate(draft: _Draft, is_correct: bool, agents: Agents, critic_rounds: int, seed: int) -> _Draft | str:
    """A sampled solution, reviewed and gone on with until it is right; or why it is dropped."""
    rng = random.Random(derive_seed(seed, "words"))
    for attempt in range(critic_rounds):
        review_seed = derive_seed(seed, "critic", attempt)
        review_it = _verify if is_correct and attempt == 0 else _correct
        reviewed = await review_it(draft, agents.critic, rng, review_seed)
        if isinstance(reviewed, str):
            return reviewed
        draft, review = reviewed
        steps: Steps = ()
        # A complete solution ends with the review that verified it, and a correction that completes one ends it.
        if _standing_answer(_fresh_text(draft, review), draft.problem) is None:
            partial = PartialSolution(draft.problem, draft.plain, review, draft.reviewed)
            steps = _written(await agents.generator.continue_from(partial, derive_seed(seed, "continue", attempt)))
            draft = replace(draft, plain=(*draft.plain, *steps))
        verdict = await agents.aside(_judge, draft, steps)
        if isinstance(verdict, Dropped):
            return verdict
        if verdict is Status.CORRECT:
            return draft
    return Dropped.STILL_WRONG


def _split(problem: Problem, sampled: Sequence[Steps]) -> tuple[list[Steps], list[Steps], Counter[str]]:
    """Correct and incorrect solutions, and why the others are dropped."""
    fit: list[Steps] = []
    dropped: Counter[str] = Counter()
    for steps in map(_written, sampled):
        if unfit := _refusal("\n".join(steps), problem):
            dropped[unfit] += 1
        else:
            fit.append(steps)
    grades = grade_all([("\n".join(steps), problem.answer, problem.form) for steps in fit])
    correct = [steps for steps, found in zip(fit, grades, strict=True) if found.status is Status.CORRECT]
    wrong = [steps for steps, found in zip(fit, grades, strict=True) if found.status is Status.WRONG]
    dropped[Dropped.INVALID_SOLUTION] += len(fit) - len(correct) - len(wrong)
    return correct, wrong, dropped


def _written(steps: Steps) -> Steps:
    """The steps in which something stands."""
    return tuple(step for step in steps if step.strip())


def _refusal(text: str, problem: Problem) -> Dropped | None:
    """Why a text must not get into a demonstration; None where it may."""
    if has_special_token(text):
        return Dropped.SPECIAL_TOKEN
    if leak_in(text) is not None:
        return Dropped.LEAKED
    # A question in figures alone is asked in the language of the prompt around it.
    language = problem.question if _WORD.search(problem.question) else PROMPT_INSTRUCTION
    return Dropped.OTHER_LANGUAGE if wrong_language(text, language) else None


def _standing_answer(text: str, problem: Problem) -> str | None:
    """The last answer that a text gives, if any."""
    answers, _ = extract_answers(text, problem.form)
    return answers[-1] if answers else None


def _with_continue(steps: Steps, position: int) -> tuple[Step, ...]:
    """Plain steps as COAT steps; the very first step of a response carries no token."""
    return tuple(
        Step(MetaAction.CONTINUE, f" {text}") if position + i else Step(None, text) for i, text in enumerate(steps)
    )


def _restated(draft: _Draft) -> str:
    """The answer once more, where the reviewed solution is complete: what follows a restart must stand by itself."""
    answer = _standing_answer("\n".join(draft.plain), draft.problem)
    return "" if answer is None else f" \\boxed{{{answer}}}"


def _reflect(reason: str, rng: random.Random) -> Step:
    return Step(MetaAction.REFLECT, f" {rng.choice(REFLECT_OPENERS)} {reason}")


async def _verify(
    draft: _Draft, critic: Critic, rng: random.Random, seed: int
) -> tuple[_Draft, Verification | Mistake] | str:
    """Cut a correct solution at a random step and reflect on what stands; or why that is not possible."""
    draft = replace(draft, plain=draft.plain[: rng.randint(1, len(draft.plain))])
    review = await critic.verify(PartialSolution(draft.problem, draft.plain), seed)
    if isinstance(review, Unusable):
        return f"critic: {review.why}"
    if unfit := _refusal(review.reason, draft.problem):
        return unfit
    coat = (*_with_continue(draft.plain, 0), _reflect(review.reason + _restated(draft), rng))
    return replace(draft, coat=coat, reviewed=len(draft.plain), reviews=(Verification,)), review


async def _correct(
    draft: _Draft, critic: Critic, rng: random.Random, seed: int
) -> tuple[_Draft, Verification | Mistake] | str:
    """Cut a wrong solution at its first wrong step, reflect on it, and open an exploration; or why that is not
    possible."""
    review = await critic.find_mistake(PartialSolution(draft.problem, draft.plain), draft.reviewed, seed)
    if isinstance(review, Unusable):
        return f"critic: {review.why}"
    if not draft.reviewed <= review.first_wrong < len(draft.plain):
        return Dropped.CRITIC_ASTRAY
    if unfit := _refusal("\n".join((review.reason, review.direction, review.corrected or "")), draft.problem):
        return unfit
    cut = review.first_wrong + 1
    unreviewed = _with_continue(draft.plain[draft.reviewed : cut], draft.reviewed)
    explore = " ".join(t for t in (rng.choice(EXPLORE_OPENERS), review.direction, review.corrected) if t)
    plain = draft.plain[:cut] if review.corrected is None else (*draft.plain[: cut - 1], review.corrected)
    coat = (*draft.coat, *unreviewed, _reflect(review.reason, rng), Step(MetaAction.EXPLORE, f" {explore}"))
    return replace(draft, plain=plain, coat=coat, reviewed=cut, reviews=(*draft.reviews, Mistake)), review


def _fresh_text(draft: _Draft, review: Verification | Mistake) -> str:
    """The plain text that can hold a standing answer: all that was verified, or the correction alone."""
    return "\n".join(draft.plain) if isinstance(review, Verification) else review.corrected or ""


def _judge(draft: _Draft, steps: Steps) -> Status | Dropped:
    """Whether a draft that goes on with these steps is right now or wrong; or why it is dropped.

    The whole is read too: words that are innocent apart may not be together.
    """
    whole = " ".join(step.text for step in _all_steps(draft))
    if unfit := _refusal("\n".join(steps), draft.problem) or _refusal(whole, draft.problem):
        return unfit
    status = grade("\n".join(draft.plain), draft.problem.answer, draft.problem.form).status
    return status if status in (Status.CORRECT, Status.WRONG) else Dropped.INVALID_CONTINUATION


def _all_steps(draft: _Draft) -> tuple[Step, ...]:
    """The steps of the demonstration that a draft is."""
    return (*draft.coat, *_with_continue(draft.plain[draft.reviewed :], draft.reviewed))


async def _best_of_each_kind(finished: Sequence[_Draft], reward_model: RewardModel) -> tuple[Demonstration, ...]:
    scores = await together(reward_model.score(PartialSolution(d.problem, d.plain)) for d in finished)
    best: dict[Kind, tuple[float, _Draft]] = {}
    for draft, score in zip(finished, scores, strict=True):
        kind, comparable = _KINDS[draft.reviews], -math.inf if math.isnan(score) else score
        if kind not in best or comparable > best[kind][0]:
            best[kind] = comparable, draft
    return tuple(_finish(draft, kind) for kind, (_, draft) in best.items())


def _finish(draft: _Draft, kind: Kind) -> Demonstration:
    coat = _all_steps(draft)
    check_steps(coat)
    return Demonstration(draft.problem, kind, render(coat))
