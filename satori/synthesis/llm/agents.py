"""Generator and critic as chat models (paper section 4.1; the prompts are :mod:`satori.synthesis.llm.templates`).

The critic is told the reference solution, or the answer alone where a problem has no solution; the generator never is,
nor does it see who reviewed its steps: notes come to it as its own. What a critic answers is read strictly
(:mod:`satori.synthesis.llm.parsing`), and asked again where it is of no use.

Deviation from the paper: a chat model cannot go on within its own earlier answer everywhere, so the steps so far, the
reflection and the exploration stand in the user turn, and the generator writes what follows.
"""

from collections.abc import Callable
from itertools import dropwhile
from typing import TypeVar

from satori.config import derive_seed
from satori.engines.base import Sampling
from satori.synthesis.agents import Mistake, PartialSolution, Steps, Unusable, Verification
from satori.synthesis.flow import together
from satori.synthesis.llm.chats import Chat
from satori.synthesis.llm.parsing import LONGEST_REASON, Asked, parse_mistake, parse_verification
from satori.synthesis.llm.steps import SHORTEST_STEP, split_steps
from satori.synthesis.llm.templates import Prompt, Templates
from satori.types import Problem

R = TypeVar("R")


GENERATOR_SAMPLING = Sampling(temperature=0.3, max_new_tokens=2048)
"""The paper's."""
CRITIC_SAMPLING = Sampling(temperature=0.2, max_new_tokens=256)
"""The paper's."""


class LLMGenerator:
    """A :class:`~satori.synthesis.agents.Generator` over a chat model.

    A text cut off at the length limit comes back without its last, broken step.
    """

    def __init__(
        self,
        chat: Chat,
        templates: Templates,
        sampling: Sampling = GENERATOR_SAMPLING,
        shortest_step: int = SHORTEST_STEP,
    ) -> None:
        """``shortest_step``: characters that a step has at least; a shorter piece goes to its neighbour."""
        self.chat, self.templates, self.sampling, self.shortest_step = chat, templates, sampling, shortest_step

    async def solve(self, problem: Problem, samples: int, seed: int) -> list[Steps]:
        messages = self.templates[Prompt.SOLVE].messages({"question": problem.question})
        return await together(self._steps(messages, derive_seed(seed, "sample", number)) for number in range(samples))

    async def continue_from(self, partial: PartialSolution, seed: int) -> Steps:
        """The steps that follow; those that the model only repeats are left out."""
        review = partial.review
        assert review is not None, "the generator goes on from a reviewed solution"
        values = {
            "question": partial.problem.question,
            "steps": numbered(partial.steps),
            "next": str(len(partial.steps) + 1),
            "review": review.reason,
            "direction": review.direction if isinstance(review, Mistake) else "",
        }
        prompt = Prompt.CONTINUE_CORRECTED if isinstance(review, Mistake) else Prompt.CONTINUE_VERIFIED
        return _without_repeated(await self._steps(self.templates[prompt].messages(values), seed), partial.steps)

    async def _steps(self, messages: list[dict[str, str]], seed: int) -> Steps:
        reply = await self.chat.reply(messages, self.sampling, seed)
        return split_steps(reply.text, self.shortest_step, reply.finished)


class LLMCritic:
    """A :class:`~satori.synthesis.agents.Critic` over a chat model."""

    def __init__(
        self,
        chat: Chat,
        templates: Templates,
        sampling: Sampling = CRITIC_SAMPLING,
        attempts: int = 2,
        longest_reason: int = LONGEST_REASON,
    ) -> None:
        """``attempts``: how often it is asked, each time with another seed, until an answer is of use;
        ``longest_reason``: characters that a reason, or a direction, has at most."""
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}: expected 1 or more")
        self.chat, self.templates, self.sampling = chat, templates, sampling
        self.attempts, self.longest_reason = attempts, longest_reason

    async def verify(self, partial: PartialSolution, seed: int) -> Verification | Unusable:
        return await self._ask(Prompt.VERIFY, parse_verification, partial, 0, seed)

    async def find_mistake(self, partial: PartialSolution, reviewed_from: int, seed: int) -> Mistake | Unusable:
        prompt = Prompt.FIND_MISTAKE_AGAIN if reviewed_from else Prompt.FIND_MISTAKE
        return await self._ask(prompt, parse_mistake, partial, reviewed_from, seed)

    async def _ask(
        self,
        prompt: Prompt,
        parse: Callable[[str, bool, Asked], R | Unusable],
        partial: PartialSolution,
        first: int,
        seed: int,
    ) -> R | Unusable:
        """The first answer of use, or the last one of none."""
        problem = partial.problem
        asked = Asked(problem.question, range(first, len(partial.steps)), self.longest_reason)
        values = {
            "question": problem.question,
            "steps": numbered(partial.steps),
            "reference": reference(problem),
            "answer": problem.answer,
            "first": str(first + 1),
        }
        messages = self.templates[prompt].messages(values)
        for attempt in range(self.attempts):
            reply = await self.chat.reply(messages, self.sampling, derive_seed(seed, "attempt", attempt))
            answer = parse(reply.text, reply.finished, asked)
            if not isinstance(answer, Unusable):
                break
        return answer


def numbered(steps: Steps) -> str:
    """Steps as the prompts show them."""
    return "\n\n".join(f"Step {number}: {text}" for number, text in enumerate(steps, 1))


def reference(problem: Problem) -> str:
    """What the critic knows: the reference solution, or the answer where there is none."""
    steps = "\n".join(problem.solution)
    return f"{steps}\n\nResult: {problem.answer}" if steps.strip() else f"Only the result is known: {problem.answer}"


def _without_repeated(steps: Steps, so_far: Steps) -> Steps:
    """Steps without those at the beginning that are there already."""
    there = {"".join(step.split()) for step in so_far}
    new = dropwhile(lambda step: "".join(step.split()) in there, steps)
    return tuple(new)
