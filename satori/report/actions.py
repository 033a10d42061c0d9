"""How models use the meta-actions: how many, where in a response, what follows what (paper section 4)."""

from satori.evaluation.meta_actions import ACTIONS, CUT_OFF, END, PARTS, START
from satori.report import charts
from satori.report.blocks import Block, Section, Table
from satori.report.canvas import ACTION_COLOURS
from satori.report.charts import Bars, Grid, Line, Panel
from satori.report.data import ReportData, stage_label
from satori.report.results import figure_or_note
from satori.report.series import ResultSet, Series
from satori.report.training_course import Columns, metric_line, stretch_tables
from satori.report.values import decimal, number, percent, whole

# What a step is followed by, with its words.
_AFTER = {**dict(zip(ACTIONS, ACTIONS, strict=True)), END: "end", CUT_OFF: "cut off"}
_FIFTHS = PARTS // 2


def action_section(results: ResultSet, data: ReportData) -> Section:
    """The use of meta-actions by the stages, and over the steps of reinforcement learning."""
    panels = [
        Panel(
            stage_label(name),
            [
                metric_line(data.rl_metrics[name], f"{action}_per_response", action, colour)
                for action, colour in ACTION_COLOURS.items()
            ],
        )
        for name in data.rl_rounds
    ]
    columns: Columns = {f"{action}_per_response": (action, _two_digits) for action in ACTIONS}
    return Section(
        "actions",
        "Use of meta-actions",
        (
            *action_blocks(results),
            figure_or_note(
                charts.small_multiples("action-steps", panels, columns=2, panel_height=2.5),
                "Meta-actions that the policy samples per rollout over the steps of RL. "
                "The token that closes a restart prefix is not counted.",
            ),
            *stretch_tables(data, columns, "Meta-actions per response over the steps of"),
        ),
    )


def action_blocks(results: ResultSet) -> tuple[Block, ...]:
    """Counts over all and by level, positions, and transitions."""
    bars = [
        Bars(action, colour, results.numbers("actions_per_response", action))
        for action, colour in ACTION_COLOURS.items()
    ]
    rows = tuple(
        (
            one.label,
            *(decimal(number(one.results, "actions_per_response", action), 2) for action in ACTIONS),
            percent(number(one.results, "reflect_rate")),
        )
        for one in results.series
    )
    return (
        figure_or_note(
            charts.grouped_bars("actions", results.labels, bars, "per response", is_rate=False, height=2.7),
            "Mean number of each meta-action in a response.",
        ),
        Table(
            (results.kind, *ACTIONS, "Responses that search"),
            rows,
            "Meta-actions per response. A response searches where it reflects or explores at least once.",
        ),
        Table(
            ("Level", *results.labels),
            results.value_rows("reflect_rate_by_level", results.levels(), percent),
            "Share of responses that search, by level.",
        ),
        *position_blocks(results),
        *transition_blocks(results),
    )


def position_blocks(results: ResultSet) -> tuple[Block, ...]:
    """Where in a response each action comes; nothing where no action was used."""
    middles = [100 * (part + 0.5) / PARTS for part in range(PARTS)]
    panels = [
        Panel(
            one.label,
            [
                Line(action, colour, middles, [count / _responses(one) for count in tenths], smooth=False, stepped=True)
                for action, colour in ACTION_COLOURS.items()
                if any(tenths := _tenths(one, action))
            ],
        )
        for one in results.series
    ]
    svg = charts.small_multiples("positions", panels, columns=4, x_label="% of the response")
    rows = tuple(
        (f"{one.label}: {action}", whole(sum(tenths)), *(percent(part / sum(tenths)) for part in _fifths(tenths)))
        for one in results.series
        for action in ACTIONS
        if any(tenths := _tenths(one, action))
    )
    if not rows:
        return ()
    ranges = (f"{100 * part // _FIFTHS}–{100 * (part + 1) // _FIFTHS}%" for part in range(_FIFTHS))
    return (
        figure_or_note(svg, "Meta-actions per response in each tenth of its length in characters."),
        Table(("Meta-action", "Count", *ranges), rows, "Where in the response each meta-action begins.", folded=True),
    )


def transition_blocks(results: ResultSet) -> tuple[Block, ...]:
    """What follows each action, as shares; nothing where it is not known."""
    befores = (START, *ACTIONS)
    grids = [
        Grid(one.label, befores, [*_AFTER.values()], [_shares(one, before) for before in befores])
        for one in results.series
        if any(_following(one, action) for action in ACTIONS)
    ]
    rows = tuple(
        (f"{one.label}: {before}", whole(_following(one, before)), *map(percent, _shares(one, before)))
        for one in results.series
        for before in befores
        if _following(one, before)
    )
    if not rows:
        return ()
    return (
        figure_or_note(
            charts.heat_maps("transitions", grids),
            "What follows a step: of the steps that open with the row's meta-action, the percentage followed by each "
            "of the columns. Start is the opening; cut off, the length limit.",
        ),
        Table(("Step", "Count", *_AFTER.values()), rows, "What follows a step, in shares.", folded=True),
    )


def _responses(one: Series) -> float:
    return number(one.results, "responses") or 1.0


def _tenths(one: Series, action: str) -> list[float]:
    """How often an action begins in each tenth of a response; empty where that is not known."""
    counts = (one.results.get("action_positions") or {}).get(action) or []
    found = [number(count) or 0.0 for count in counts]
    return found if len(found) == PARTS else []


def _fifths(tenths: list[float]) -> list[float]:
    return [tenths[part] + tenths[part + 1] for part in range(0, PARTS, 2)]


def _following(one: Series, before: str) -> float:
    """How many steps of a kind there are, that is how often something follows one."""
    return sum(number(one.results, "action_transitions", before, after) or 0.0 for after in _AFTER)


def _shares(one: Series, before: str) -> list[float | None]:
    total = _following(one, before)
    counts = [number(one.results, "action_transitions", before, after) or 0.0 for after in _AFTER]
    return [count / total if total else None for count in counts]


def _two_digits(value: float | None) -> str:
    return decimal(value, 2)
