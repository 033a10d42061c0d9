"""The three agents of the embedded problem family: a sampled base model, a symbolic checker, a likelihood.

They stand where the paper has Qwen2.5-Math, Llama-3.1-70B and Skywork-Reward. The checker behaves as the paper's
critic is asked to: it names the first wrong step, why it is wrong and a direction, or why the steps so far hold.
"""

from collections.abc import Awaitable, Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.coat import encode_prompt
from satori.config import derive_seed
from satori.engines.base import Sampling
from satori.problems.arithmetic import check_claims, read_claims
from satori.sampling import decode_response
from satori.scoring import PromptResponse, token_logprobs
from satori.synthesis.agents import Mistake, PartialSolution, Steps, Unusable, Verification
from satori.synthesis.batching import Batches
from satori.synthesis.flow import together
from satori.types import Completion, FinishReason, Problem

Complete = Callable[[Sequence[int], Sampling, int], Awaitable[Completion]]
"""One sample after a prompt, for a seed: :meth:`satori.synthesis.batching.Batcher.complete`."""


def split_plain(text: str) -> Steps:
    """The steps of a plain solution: its lines that are not blank."""
    return tuple(line for line in text.split("\n") if line.strip())


class SampledGenerator:
    """The base model, sampled. Solutions cut off at the length limit come back without their last, broken step."""

    def __init__(self, complete: Complete, tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> None:
        self.complete, self.tokenizer, self.sampling = complete, tokenizer, sampling

    async def solve(self, problem: Problem, samples: int, seed: int) -> list[Steps]:
        prompt = encode_prompt(self.tokenizer, problem.question)
        return await together(self._steps(prompt, derive_seed(seed, "sample", number)) for number in range(samples))

    async def continue_from(self, partial: PartialSolution, seed: int) -> Steps:
        so_far = "".join(f"{step}\n" for step in partial.steps)
        return await self._steps(encode_prompt(self.tokenizer, partial.problem.question, so_far), seed)

    async def _steps(self, prompt: Sequence[int], seed: int) -> Steps:
        completion = await self.complete(prompt, self.sampling, seed)
        steps = split_plain(decode_response(self.tokenizer, completion))
        return steps if completion.finish_reason is FinishReason.STOP else steps[:-1]


class ColumnCritic:
    """Redoes every sum of a solution from its lowest column (:func:`satori.problems.arithmetic.check_claims`).

    It compares a solution with the reference step by step. A false sum is a mistake that the columns show. On any other
    difference (a misread operand, a wrong number in the box) it says nothing of use.
    """

    async def verify(self, partial: PartialSolution, seed: int) -> Verification | Unusable:
        if partial.steps != partial.problem.solution[: len(partial.steps)]:
            return Unusable("not the steps of the reference")
        claims = [claim for step in partial.steps for claim in read_claims(step)]
        return Verification(check_claims(claims)) if claims else Unusable("nothing to check")

    async def find_mistake(self, partial: PartialSolution, reviewed_from: int, seed: int) -> Mistake | Unusable:
        """The first step that differs from the reference, where the difference is a false sum the columns show."""
        right_steps = partial.problem.solution
        for index in range(reviewed_from, min(len(partial.steps), len(right_steps))):
            if partial.steps[index] == right_steps[index]:
                continue
            claims, right = read_claims(partial.steps[index]), read_claims(right_steps[index])
            if [c.terms for c in claims] != [c.terms for c in right] or all(c.true for c in claims):
                break
            reviewed = [claim for step in partial.steps[reviewed_from : index + 1] for claim in read_claims(step)]
            return Mistake(index, check_claims(reviewed), direction="", corrected=right_steps[index])
        return Unusable("no false sum where it differs from the reference")


class LikelihoodReward:
    """The mean log-probability of a solution's tokens under the base model."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batches: Batches) -> None:
        self.model, self.tokenizer, self.batches = model, tokenizer, batches

    async def score(self, solution: PartialSolution) -> float:
        prompt = encode_prompt(self.tokenizer, solution.problem.question)
        response = self.tokenizer.encode("\n".join(solution.steps), add_special_tokens=False)
        sequence = prompt, [*response, self.tokenizer.eos_token_id]
        return await self.batches.ask("likelihood", sequence, sequence, self._score)

    @torch.inference_mode()
    def _score(self, sequences: Sequence[PromptResponse], seed: int) -> list[float]:
        return [float(logprobs.mean()) for logprobs in token_logprobs(self.model, sequences)]
