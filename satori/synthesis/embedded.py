"""The three agents of the embedded problem family: a sampled base model, a symbolic checker, a likelihood.

They stand where the paper has Qwen2.5-Math, Llama-3.1-70B and Skywork-Reward. The checker behaves as the paper's
critic is asked to: it names the first wrong step, why it is wrong and a direction, or why the steps so far hold.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from satori.coat import encode_prompt
from satori.engines.base import Engine, Sampling, generate_all
from satori.problems.arithmetic import check_claims, read_claims
from satori.scoring import token_logprobs
from satori.synthesis.agents import Mistake, PartialSolution, Steps, Verification
from satori.types import Completion, FinishReason, Problem


def split_plain(text: str) -> Steps:
    """The steps of a plain solution: its lines that are not blank."""
    return tuple(line for line in text.split("\n") if line.strip())


class SampledGenerator:
    """The base model, sampled. Solutions cut off at the length limit come back without their last, broken step."""

    def __init__(self, engine: Engine, tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> None:
        self.engine, self.tokenizer, self.sampling = engine, tokenizer, sampling

    def solve(self, problems: Sequence[Problem], samples: int, seed: int) -> list[list[Steps]]:
        prompts = [encode_prompt(self.tokenizer, p.question) for p in problems for _ in range(samples)]
        texts = [self._steps(c) for c in generate_all(self.engine, prompts, self.sampling, seed)]
        return [texts[i : i + samples] for i in range(0, len(texts), samples)]

    def continue_from(self, partials: Sequence[PartialSolution], seed: int) -> list[Steps]:
        prompts = [
            encode_prompt(self.tokenizer, p.problem.question, "\n".join(p.steps) + ("\n" if p.steps else ""))
            for p in partials
        ]
        return [self._steps(c) for c in generate_all(self.engine, prompts, self.sampling, seed)]

    def _steps(self, completion: Completion) -> Steps:
        steps = split_plain(str(self.tokenizer.decode(list(completion.token_ids), skip_special_tokens=True)))
        return steps if completion.finish_reason is FinishReason.STOP else steps[:-1]


class ColumnCritic:
    """Redoes every sum of a solution from its lowest column (:func:`satori.problems.arithmetic.check_claims`).

    It compares a solution with the reference step by step. A false sum is a mistake that the columns show. On any other
    difference (a misread operand, a wrong number in the box) it is silent, and the candidate is dropped and counted.
    """

    def verify(self, partials: Sequence[PartialSolution]) -> list[Verification | None]:
        verifications: list[Verification | None] = []
        for partial in partials:
            holds = partial.steps == partial.problem.solution[: len(partial.steps)]
            claims = [claim for step in partial.steps for claim in read_claims(step)]
            verifications.append(Verification(check_claims(claims)) if holds and claims else None)
        return verifications

    def find_mistake(self, partials: Sequence[PartialSolution], reviewed_from: int = 0) -> list[Mistake | None]:
        return [self._find(partial, reviewed_from) for partial in partials]

    def _find(self, partial: PartialSolution, reviewed_from: int) -> Mistake | None:
        """The first step that differs from the reference, where the difference is a false sum the columns show."""
        right_steps = partial.problem.solution
        for index in range(reviewed_from, min(len(partial.steps), len(right_steps))):
            if partial.steps[index] == right_steps[index]:
                continue
            claims, right = read_claims(partial.steps[index]), read_claims(right_steps[index])
            if [c.terms for c in claims] != [c.terms for c in right] or all(c.true for c in claims):
                return None
            reviewed = [claim for step in partial.steps[reviewed_from : index + 1] for claim in read_claims(step)]
            return Mistake(index, check_claims(reviewed), direction="", corrected=right_steps[index])
        return None


class LikelihoodReward:
    """The mean log-probability of a solution's tokens under the base model."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model, tokenizer

    @torch.inference_mode()
    def score(self, solutions: Sequence[PartialSolution]) -> list[float]:
        sequences = []
        for solution in solutions:
            prompt = encode_prompt(self.tokenizer, solution.problem.question)
            response = self.tokenizer.encode("\n".join(solution.steps), add_special_tokens=False)
            sequences.append((prompt, [*response, self.tokenizer.eos_token_id]))
        return [float(logprobs.mean()) for logprobs in token_logprobs(self.model, sequences)]
