"""Algorithm 1 on hand-made trajectories (satori.reinforcement.restart_buffer)."""

import random
from collections import Counter

import pytest

from satori.coat import MetaAction
from satori.grading import Grade, Status
from satori.reinforcement.restart_buffer import RestartState, Start, Trajectory, action_starts, restart_states, truncate
from satori.reinforcement.stage import RestartStageSettings, restart_states_of
from satori.sampling import Response
from satori.types import Completion, FinishReason, Problem

CONTINUE, REFLECT, EXPLORE, EOS = 100, 101, 102, 9
ACTION_IDS = {MetaAction.CONTINUE: CONTINUE, MetaAction.REFLECT: REFLECT, MetaAction.EXPLORE: EXPLORE}

# Four actions: (1 2) (C 3 4) (R 5) (E 6 7), then the end.
FOUR = (1, 2, CONTINUE, 3, 4, REFLECT, 5, EXPLORE, 6, 7, EOS)


def trajectory(ids, correct, reason=FinishReason.STOP):
    return Trajectory(Completion(tuple(ids), reason), correct)


def states_of(trajectories, seed=0, max_dropped=2):
    return restart_states("p", trajectories, max_dropped, ACTION_IDS, EOS, random.Random(seed))


def test_actions_start_at_the_first_token_and_at_every_meta_action():
    assert action_starts(FOUR, ACTION_IDS) == [0, 2, 5, 7]
    assert action_starts((REFLECT, 1, REFLECT, REFLECT), ACTION_IDS) == [0, 2, 3]


@pytest.mark.parametrize(
    ("dropped", "prefix"),
    [
        (0, (1, 2, CONTINUE, 3, 4, REFLECT, 5, EXPLORE, 6, 7, REFLECT)),  # the finished answer, without its end token
        (1, (1, 2, CONTINUE, 3, 4, REFLECT, 5, REFLECT)),
        (2, (1, 2, CONTINUE, 3, 4, REFLECT)),
        (3, (1, 2, REFLECT)),
    ],
)
def test_truncate_drops_whole_actions_and_appends_reflect(dropped, prefix):
    assert truncate(FOUR, dropped, ACTION_IDS, EOS) == prefix


def test_truncate_without_an_end_token_loses_nothing():
    assert truncate((1, CONTINUE, 2), 0, ACTION_IDS, EOS) == (1, CONTINUE, 2, REFLECT)


def test_a_correct_trajectory_makes_the_positive_state_and_a_wrong_one_the_negative():
    right, wrong = (1, CONTINUE, 2, EOS), (3, CONTINUE, 4, EOS)
    positive, negative = states_of([trajectory(wrong, False), trajectory(right, True)], max_dropped=0)
    assert positive == RestartState("p", Start.POSITIVE, (1, CONTINUE, 2, REFLECT), 0)
    assert negative == RestartState("p", Start.NEGATIVE, (3, CONTINUE, 4, REFLECT), 0)


def test_every_state_is_its_trajectory_cut_by_what_it_says_it_dropped():
    for seed in range(50):
        for state in states_of([trajectory(FOUR, True), trajectory((8, *FOUR), False)], seed):
            source = FOUR if state.start is Start.POSITIVE else (8, *FOUR)
            assert state.prefix_ids == truncate(source, state.dropped, ACTION_IDS, EOS)


def test_at_most_one_state_of_each_kind():
    many = [trajectory((i, *FOUR), i % 2 == 0) for i in range(20)]
    assert [state.start for state in states_of(many)] == [Start.POSITIVE, Start.NEGATIVE]


def test_the_trajectory_is_chosen_at_random():
    many = [trajectory((i, *FOUR), True) for i in range(4)]
    chosen = Counter(states_of(many, seed)[0].prefix_ids[0] for seed in range(400))
    assert all(70 <= chosen[i] <= 130 for i in range(4))  # 100 each expected, 3.5 standard deviations


@pytest.mark.parametrize("correct", [True, False])
def test_without_trajectories_of_a_kind_there_is_no_state_of_it(correct):
    [state] = states_of([trajectory(FOUR, correct)] * 3)
    assert state.start is (Start.POSITIVE if correct else Start.NEGATIVE)
    assert states_of([]) == []


def test_truncated_trajectories_are_passed_over():
    cut_off = trajectory(FOUR[:-1], False, FinishReason.LENGTH)
    assert states_of([cut_off]) == []
    ended = trajectory((5, CONTINUE, 6, EOS), False)
    for seed in range(20):
        [state] = states_of([cut_off, ended, cut_off], seed, max_dropped=0)
        assert state.prefix_ids == (5, CONTINUE, 6, REFLECT)


def test_a_response_of_nothing_but_the_end_token_is_passed_over():
    assert states_of([trajectory((EOS,), False)]) == []


@pytest.mark.parametrize("ids", [(1, 2, EOS), (1, CONTINUE, EOS), (CONTINUE, 2, EOS), (CONTINUE, 1, REFLECT, 2, EOS)])
def test_the_first_action_always_stays(ids):
    starts = [*action_starts(ids, ACTION_IDS), len(ids) - 1]
    first = ids[: starts[1]]
    for seed in range(30):
        [state] = states_of([trajectory(ids, True)], seed, max_dropped=5)
        assert state.prefix_ids[: len(first)] == first
        assert state.prefix_ids[-1] == REFLECT
        assert len(state.prefix_ids) > len(first)


@pytest.mark.parametrize("max_dropped", [0, 1, 2])
def test_dropped_is_uniform_from_nothing_to_the_limit(max_dropped):
    drawn = Counter(states_of([trajectory(FOUR, True)], seed, max_dropped)[0].dropped for seed in range(3000))
    expected = 3000 / (max_dropped + 1)
    assert set(drawn) == set(range(max_dropped + 1))
    assert all(abs(count - expected) < 110 for count in drawn.values())  # about four standard deviations


def test_the_end_token_stands_in_no_state():
    for seed in range(30):
        for state in states_of([trajectory(FOUR, True), trajectory((1, EOS), False)], seed):
            assert EOS not in state.prefix_ids


@pytest.mark.parametrize(("most", "kept"), [(12, 1), (11, 0)])
def test_a_prompt_and_its_prefix_are_short_enough_together(most, kept):
    """Nothing is dropped of ten tokens but the end token; ``<|reflect|>`` takes its place."""
    made = Completion((*range(10, 18), EOS), FinishReason.STOP)
    responses = [Response(Problem("p", "1+1", "2"), (5, 6, 7), made, "", Grade(Status.WRONG))]
    settings = RestartStageSettings(max_dropped=0, max_prompt_tokens=most)
    states = restart_states_of(responses, settings, ACTION_IDS, EOS, random.Random(0))
    assert [len(state.prefix_ids) for state in states] == [9] * kept
