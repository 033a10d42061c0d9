"""An engine with scripted answers: a first-class tool for tests and for trying a stage without a model."""

from collections.abc import Callable, Iterator, Sequence

from transformers import PreTrainedModel

from satori.engines.base import Sampling
from satori.types import Completion, FinishReason


class ScriptedEngine:
    """Answers each prompt with what ``script`` says: token ids, without the end token, for the prompt's ids.

    Appends the end token, or cuts where no room is left as a sampler would.
    """

    def __init__(self, script: Callable[[tuple[int, ...]], Sequence[int]], eos_token_id: int) -> None:
        self.script, self.eos_token_id = script, eos_token_id

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, first: int = 0
    ) -> Iterator[tuple[int, Completion]]:
        for index, prompt in enumerate(prompts):
            ids = (*self.script(tuple(prompt)), self.eos_token_id)
            cut = ids[: sampling.room(prompt)]
            reason = FinishReason.STOP if len(cut) == len(ids) else FinishReason.LENGTH
            yield index, Completion(cut, reason, (0.0,) * len(cut))

    def update_weights(self, model: PreTrainedModel) -> None:
        """Its answers stay what the script says."""

    def sleep(self) -> None:
        """It holds nothing."""
