"""How responses use the meta-actions: how many, where in the response, and what follows what (paper section 4).

Pure functions over responses, results as JSON has them; actions go by their lower-case names. What it leaves out:
whether an action helped, which :mod:`satori.evaluation.reflections` tells.
"""

from collections.abc import Sequence
from itertools import pairwise

from satori.coat import MetaAction, parse, render
from satori.evaluation.records import EvaluatedResponse

ACTIONS = tuple(action.name.lower() for action in MetaAction)
START, END, CUT_OFF = "start", "end", "cut_off"
PARTS = 10


def action_positions(responses: Sequence[EvaluatedResponse]) -> dict[str, list[int]]:
    """How many of each action's tokens begin in each tenth of their response, by characters."""
    counts = {action: [0] * PARTS for action in ACTIONS}
    for response in responses:
        offset, length = 0, len(response.response)
        for step in parse(response.response):
            if step.action is not None:
                counts[step.action.name.lower()][offset * PARTS // length] += 1
            offset += len(render([step]))
    return counts


def action_transitions(responses: Sequence[EvaluatedResponse]) -> dict[str, dict[str, int]]:
    """How often each action is followed by each other one.

    Every response begins at ``start``, which stands for its opening without a meta-action, and goes to ``end`` where
    the model ended it or to ``cut_off`` where the length limit did.
    """
    counts = {before: dict.fromkeys((*ACTIONS, END, CUT_OFF), 0) for before in (START, *ACTIONS)}
    for response in responses:
        actions = [step.action.name.lower() for step in parse(response.response) if step.action is not None]
        for before, after in pairwise((START, *actions, END if response.finished else CUT_OFF)):
            counts[before][after] += 1
    return counts
