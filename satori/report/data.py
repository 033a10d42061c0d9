"""What a report is made from: the results of one evaluated run, read from its folder by the caller.

Rendering is pure: nothing in this package opens a file. Text that a model wrote comes in raw and is escaped by the
page that prints it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STAGE_LABELS: dict[str, str] = {
    "base": "Base",
    "format_tuned": "Format tuned",
    "rl_1": "RL round 1",
    "rl_2": "RL round 2",
}
VARIANT_LABELS: dict[str, str] = {
    "coat": "COAT: steps continue, reflect or explore",
    "cot": "CoT: the same pipeline without reflect and explore",
}


@dataclass(frozen=True)
class SampleTrajectory:
    """One evaluated response, shown step by step. ``answers`` are its final answers in the order they were given."""

    stage: str
    set_name: str
    level: int
    question: str
    gold: str
    response: str
    correct: bool
    answers: tuple[str, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows.

    ``summary`` is the content of ``summary.json``. Stages, values and metrics may be missing or null anywhere; the
    report prints a dash for them.
    """

    title: str
    variant: str
    recipe_yaml: str
    summary: Mapping[str, Any]
    set_descriptions: Mapping[str, str]
    plain_length_by_level: Mapping[str, float]
    rl_metrics: Mapping[str, Sequence[Mapping[str, float]]]
    synthesis_dropped: Mapping[str, int]
    trajectories: Sequence[SampleTrajectory]
    rm_samples: int = 8
    """Responses per problem that the reward model picked from."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANT_LABELS:
            raise ValueError(f"variant is {self.variant!r}; expected one of {', '.join(VARIANT_LABELS)}")

    def stage(self, name: str) -> Mapping[str, Any]:
        """A stage's results, empty where it was not evaluated."""
        results = (self.summary.get("stages") or {}).get(name)
        return results if isinstance(results, Mapping) else {}

    @property
    def stages(self) -> list[str]:
        """The four stages of the pipeline, whether evaluated or not, and any further one the summary has."""
        found = self.summary.get("stages") or {}
        return [*STAGE_LABELS, *(name for name in found if name not in STAGE_LABELS)]

    @property
    def ood_sets(self) -> list[str]:
        """The out-of-domain sets in the order the summary first names them."""
        return list(dict.fromkeys(name for stage in self.stages for name in self.stage(stage).get("ood") or {}))

    @property
    def rl_rounds(self) -> list[str]:
        """The rounds of reinforcement learning that left metrics."""
        return [name for name, records in self.rl_metrics.items() if records]


def stage_label(name: str) -> str:
    """How a stage is called in the report."""
    return STAGE_LABELS.get(name, name.replace("_", " "))
