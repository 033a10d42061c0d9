"""How reinforcement learning went: reward parts, accuracy by start, and the health of PPO over the steps."""

from collections.abc import Callable, Mapping, Sequence

from satori.report import charts
from satori.report.blocks import Block, Figure, Section, Table, Text
from satori.report.canvas import LINE_COLOURS
from satori.report.charts import Line, Panel
from satori.report.data import ReportData, stage_label
from satori.report.values import buckets, decimal, mean, number, percent, significant

Records = Sequence[Mapping[str, float]]
Columns = Mapping[str, tuple[str, Callable[[float | None], str]]]

STRETCHES = 8

# A panel: its title, whether it shows rates, and the metric and label of each curve.
_PANELS: tuple[tuple[str, bool, dict[str, str]], ...] = (
    ("Reward and its parts", False, {
        "reward": "total", "reward_rule": "rule", "reward_preference": "preference", "reward_bonus": "bonus",
    }),
    ("Accuracy by start", True, {
        "accuracy": "all", "accuracy_problem": "problem", "accuracy_positive": "restart +",
        "accuracy_negative": "restart −",
    }),
    ("Accuracy on validation", True, {"validation_accuracy": "validation"}),
    ("Response length, tokens", False, {"response_length": "all", "length_problem": "problem"}),
    ("Truncated responses", True, {"truncation_rate": "truncated"}),
    ("Entropy of the policy", False, {"entropy": "entropy"}),
    ("KL", False, {"kl": "KL"}),
    ("Clipped share of tokens", True, {"clip_fraction": "clipped"}),
    ("Explained variance of the critic", False, {"explained_variance": "explained variance"}),
    ("Policy loss", False, {"policy_loss": "policy"}),
    ("Value loss", False, {"value_loss": "value"}),
    ("Gradient norms", False, {"policy_grad_norm": "policy", "critic_grad_norm": "critic"}),
)  # fmt: skip
_SPARSE = ("validation_accuracy", "validation_length")

_ROWS: Columns = {
    "reward": ("Reward: total", significant),
    "reward_rule": ("Reward: rule", significant),
    "reward_preference": ("Reward: preference bonus", significant),
    "reward_bonus": ("Reward: reflection bonus", significant),
    "accuracy": ("Accuracy: all starts", percent),
    "accuracy_problem": ("Accuracy: plain problems", percent),
    "accuracy_positive": ("Accuracy: restarts from right", percent),
    "accuracy_negative": ("Accuracy: restarts from wrong", percent),
    "validation_accuracy": ("Accuracy: validation", percent),
    "response_length": ("Response length, tokens", decimal),
    "truncation_rate": ("Truncated", percent),
    "entropy": ("Entropy", significant),
    "kl": ("KL", significant),
    "clip_fraction": ("Clipped share", percent),
    "explained_variance": ("Explained variance", significant),
    "policy_loss": ("Policy loss", significant),
    "value_loss": ("Value loss", significant),
    "policy_grad_norm": ("Gradient norm, policy", significant),
    "critic_grad_norm": ("Gradient norm, critic", significant),
    "seconds": ("Seconds per step", significant),
}


def metric_line(records: Records, key: str, label: str, colour: str, smooth: bool = True) -> Line:
    """A metric over the steps that have it."""
    found = [(number(record, "step"), number(record, key)) for record in records]
    kept = [(step, value) for step, value in found if step is not None and value is not None]
    return Line(label, colour, [step for step, _ in kept], [value for _, value in kept], smooth)


def stretch_table(records: Records, columns: Columns, caption: str) -> Table:
    """Means of some metrics over a few equal stretches of the training steps."""
    rows = []
    for stretch in buckets(records, STRETCHES):
        cells = [write(mean(number(record, key) for record in stretch)) for key, (_, write) in columns.items()]
        rows.append((_steps(stretch), *cells))
    return Table(("Steps", *(name for name, _ in columns.values())), tuple(rows), caption, folded=True)


def stretch_tables(data: ReportData, columns: Columns, caption: str) -> list[Table]:
    """Such a table for each round; the caption ends with the round's name."""
    return [stretch_table(data.rl_metrics[name], columns, f"{caption} {stage_label(name)}.") for name in data.rl_rounds]


def _steps(stretch: Records) -> str:
    """The steps a stretch covers: ``11–20``."""
    first, last = number(stretch[0], "step"), number(stretch[-1], "step")
    return "–".join(dict.fromkeys("?" if step is None else f"{step:.0f}" for step in (first, last)))


def training_section(data: ReportData) -> Section:
    """Curves of each round, and a table of where each metric started and ended."""
    blocks: list[Block] = [
        Text(
            "The reward of a rollout is the rule's verdict (0 right, -1 wrong), plus the preference bonus of the "
            "reward model, plus the reflection bonus that restarts earn by repairing a wrong answer or lose by "
            "spoiling a right one. Thin lines are single steps, thick lines a running mean."
        )
    ]
    for name in data.rl_rounds:
        svg = charts.small_multiples(f"training-{name.replace('_', '-')}", _panels(data.rl_metrics[name]))
        if svg:
            blocks.append(Figure(svg, f"{stage_label(name)}: {len(data.rl_metrics[name])} steps of PPO."))
    blocks.append(_start_and_end(data) if data.rl_rounds else Text("No reinforcement learning in this run.", note=True))
    return Section("training", "Reward and PPO health", tuple(blocks))


def _panels(records: Records) -> list[Panel]:
    return [
        Panel(
            title,
            [
                metric_line(records, key, label, colour, smooth=key not in _SPARSE)
                for (key, label), colour in zip(curves.items(), LINE_COLOURS, strict=False)
            ],
            is_rate,
        )
        for title, is_rate, curves in _PANELS
    ]


def _start_and_end(data: ReportData) -> Table:
    """The mean of each metric over the first and the last tenth of every round."""
    ends = []
    for name in data.rl_rounds:
        records = data.rl_metrics[name]
        tenth = max(1, len(records) // 10)
        ends += [(f"{stage_label(name)}, start", records[:tenth]), (f"{stage_label(name)}, end", records[-tenth:])]
    rows = tuple(
        (label, *(write(mean(number(record, key) for record in stretch)) for _, stretch in ends))
        for key, (label, write) in _ROWS.items()
    )
    return Table(
        ("Metric", *(label for label, _ in ends)),
        rows,
        "Means over the first and the last tenth of each round's steps.",
    )
