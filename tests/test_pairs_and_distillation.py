"""What is made of graded samples: preference pairs, RM@k, the trajectories to distil, and sampling itself."""

import random
from collections import Counter
from types import SimpleNamespace

import pytest

from satori import distillation, reward_model, sampling
from satori.coat import META_ACTION_TOKENS, encode_prompt
from satori.distillation import describe, hardest, one_correct
from satori.engines.base import Sampling
from satori.engines.scripted import ScriptedEngine
from satori.grading import grade
from satori.models import load_tokenizer
from satori.pretraining import SHIPPED_BASE
from satori.reward_model import PreferencePair, make_pairs, rm_at_k
from satori.run_folder import ArtifactError
from satori.sampling import Response, decode_response, sample_records, sample_responses
from satori.types import Completion, FinishReason, Problem

PROMPT = (90, 91)


def response(*ids, right, finished=True, problem="p"):
    """A response whose text is its answer; only its ids matter."""
    reason = FinishReason.STOP if finished else FinishReason.LENGTH
    text = "\\boxed{5}" if right else "\\boxed{6}"
    return Response(Problem(problem, "2+3=?", "5"), PROMPT, Completion(ids, reason), text, grade(text, "5"))


def right(*ids, **options):
    return response(*ids, right=True, **options)


def wrong(*ids, **options):
    return response(*ids, right=False, **options)


def pairs(responses, most=10, seed=0):
    return make_pairs(responses, most, random.Random(seed))


# --- preference pairs ---


def test_a_pair_prefers_the_correct_response():
    assert pairs([wrong(1, 2), right(3)]) == [PreferencePair("p", PROMPT, chosen_ids=(3,), rejected_ids=(1, 2))]


def test_there_are_at_most_so_many_pairs_of_a_problem():
    assert len(pairs([*map(right, range(5)), *map(wrong, range(10, 15))], most=2)) == 2


@pytest.mark.parametrize(("rights", "wrongs"), [(1, 4), (4, 1), (3, 3)])
def test_there_are_as_many_pairs_as_the_rarer_kind_allows(rights, wrongs):
    assert len(pairs([*map(right, range(rights)), *map(wrong, range(10, 10 + wrongs))])) == min(rights, wrongs)


@pytest.mark.parametrize("responses", [[], [right(1), right(2)], [wrong(1), wrong(2)]])
def test_a_problem_without_both_kinds_makes_no_pair(responses):
    assert pairs(responses) == []


def test_no_response_is_used_twice():
    made = pairs([*map(right, range(4)), *map(wrong, range(10, 14))])
    assert len({pair.chosen_ids for pair in made}) == len({pair.rejected_ids for pair in made}) == 4


def test_the_same_text_sampled_twice_is_one_response():
    assert len(pairs([right(1), right(1), right(1), wrong(2), wrong(2), wrong(3)])) == 1


def test_a_truncated_response_is_rejected_even_with_the_answer_in_it():
    [pair] = pairs([right(1, finished=False), right(2)])
    assert (pair.chosen_ids, pair.rejected_ids) == ((2,), (1,))


def test_pairs_are_drawn_at_random():
    responses = [*map(right, range(4)), wrong(9)]
    chosen = Counter(pairs(responses, seed=seed)[0].chosen_ids for seed in range(400))
    assert all(count == pytest.approx(100, abs=36) for count in chosen.values())
    assert len(chosen) == 4


# --- RM@k ---


@pytest.fixture
def scores(monkeypatch):
    """Scores by the first sampled id, in place of a reward model; remembers the sequences it was asked to score."""
    table, asked = {}, []

    def logits(model, sequences):
        asked.extend(sequences)
        return [table[sampled[0]] for _, sampled in sequences]

    monkeypatch.setattr(reward_model, "reward_logits", logits)
    return table, asked


GROUPS = [
    [wrong(1), right(2), wrong(3)],  # the first is wrong, the second highest
    [right(4), wrong(5), wrong(6)],  # the first is right, a wrong one highest
    [wrong(7), wrong(8), wrong(9)],
    [wrong(10), wrong(11), right(12)],
]
SCORES = {1: 0.1, 2: 0.9, 3: -1.0, 4: 0.0, 5: 0.2, 6: 0.1, 7: 5.0, 8: 4.0, 9: 3.0, 10: -3.0, 11: -2.0, 12: -1.0}


def test_rm_at_k_counts_correct_picks(scores):
    scores[0].update(SCORES)
    assert rm_at_k(None, GROUPS) == {"first_sample": 0.25, "reward_model": 0.5, "oracle": 0.75}


def test_rm_at_k_scores_prompt_and_response_of_every_sample(scores):
    scores[0].update(SCORES)
    rm_at_k(None, GROUPS)
    assert scores[1] == [(PROMPT, (number,)) for number in range(1, 13)]


def test_of_equal_scores_the_first_is_picked(scores):
    scores[0].update({1: 1.0, 2: 1.0})
    assert rm_at_k(None, [[wrong(1), right(2)]])["reward_model"] == 0.0
    assert rm_at_k(None, [[right(2), wrong(1)]])["reward_model"] == 1.0


def test_a_truncated_pick_is_not_correct(scores):
    scores[0].update({1: 1.0, 2: 0.0})
    assert rm_at_k(None, [[right(1, finished=False), right(2)]]) == {
        "first_sample": 0.0,
        "reward_model": 0.0,
        "oracle": 1.0,
    }


def test_groups_of_different_sizes_keep_their_own_scores(scores):
    scores[0].update({1: 0.0, 2: 1.0, 3: 2.0})
    assert rm_at_k(None, [[right(1)], [right(2), wrong(3)]])["reward_model"] == 0.5


def test_rm_at_k_with_a_model(make_critic):
    groups = [[wrong(2, 3), right(4, 5, 6)], [right(7), wrong(8, 9)]]
    prompt = (10, 11)
    groups = [[Response(r.problem, prompt, r.completion, r.text, r.grade) for r in group] for group in groups]
    shares = rm_at_k(make_critic(), groups)
    assert shares["first_sample"] == 0.5
    assert shares["oracle"] == 1.0
    assert shares["reward_model"] in (0.0, 0.5, 1.0)


# --- distillation ---


def chosen(groups, keep=100, seed=0):
    found = [describe(r, share) for group in groups for share, r in one_correct(group, random.Random(seed))]
    return [(record["correct_share"], record["id"]) for record in hardest(iter(found), keep)]


def solved(problem, corrects, length, samples=4):
    """A problem with so many correct ones among its samples, all of one length."""
    return [response(*range(length), right=i < corrects, problem=problem) for i in range(samples)]


def test_the_rarest_solved_problems_come_first():
    groups = [solved("easy", 4, 5), solved("hard", 1, 5), solved("middle", 2, 5)]
    assert chosen(groups) == [(0.25, "hard"), (0.5, "middle"), (1.0, "easy")]


def test_of_equally_rare_ones_the_longest_comes_first():
    groups = [solved("short", 1, 3), solved("long", 1, 9), solved("medium", 1, 6)]
    assert [name for _, name in chosen(groups)] == ["long", "medium", "short"]


def test_rarity_comes_before_length():
    assert [name for _, name in chosen([solved("long", 2, 50), solved("rare", 1, 2)])] == ["rare", "long"]


def test_only_so_many_are_kept():
    groups = [solved("easy", 4, 5), solved("hard", 1, 5), solved("middle", 2, 5)]
    assert [name for _, name in chosen(groups, keep=2)] == ["hard", "middle"]


def test_a_problem_never_solved_gives_nothing():
    assert chosen([solved("unsolved", 0, 5)]) == []


def test_a_truncated_response_is_no_solution():
    assert chosen([[right(1, 2, finished=False)]]) == []


def test_every_solved_problem_gives_one_correct_response():
    group = [wrong(1), right(2), wrong(3), right(4)]
    kept = [one_correct(group, random.Random(seed)) for seed in range(30)]
    assert {response.completion.token_ids for [(_, response)] in kept} == {(2,), (4,)}


def test_a_trajectory_is_written_with_the_ids_it_was_sampled_with():
    assert describe(right(1, 2), 0.25) == {
        "id": "p",
        "level": 0,
        "correct_share": 0.25,
        "response": "\\boxed{5}",
        "prompt_ids": [90, 91],
        "token_ids": [1, 2],
    }


# --- sampling ---


class Counting(ScriptedEngine):
    """Remembers the number of each request, and breaks off after so many calls."""

    def __init__(self, tokenizer, calls=99):
        super().__init__(lambda prompt: tokenizer.encode("x", add_special_tokens=False), tokenizer.eos_token_id)
        self.calls, self.numbers = calls, []

    def generate(self, prompts, sampling, seed, first=0):
        if len(self.numbers) == self.calls:
            raise KeyboardInterrupt
        self.numbers.append(range(first, first + len(prompts)))
        return super().generate(prompts, sampling, seed, first)


def test_many_responses_are_sampled_in_chunks_and_an_interrupted_call_goes_on(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 6)
    problems = [Problem(f"p{i}", f"{i}+1=?", str(i + 1)) for i in range(7)]

    def records(engine, done=lambda more: None):
        def describe(responses):
            return [{"id": responses[0].problem.id, "responses": len(responses)}]

        return list(sample_records(engine, tokenizer, problems, 2, Sampling(), 0, describe, tmp_path / "parts", done))

    broken = Counting(tokenizer, calls=1)
    with pytest.raises(KeyboardInterrupt):
        records(broken)
    engine, told = Counting(tokenizer), []
    assert records(engine, told.append) == [{"id": problem.id, "responses": 2} for problem in problems]
    assert broken.numbers + engine.numbers == [range(6), range(6, 12), range(12, 14)]
    assert sum(told) == 14


def sample(tokenizer, problems, samples, text, max_new_tokens=100, on_done=lambda more: None):
    engine = ScriptedEngine(lambda prompt: tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)
    return sample_responses(
        engine, tokenizer, problems, samples, Sampling(max_new_tokens=max_new_tokens), 0, on_done=on_done
    )


PROBLEMS = [Problem("p", "2+3=?", "5"), Problem("q", "3+3=?", "6")]


def test_every_problem_has_its_samples_in_order(tokenizer):
    groups = sample(tokenizer, PROBLEMS, 3, "\\boxed{5}")
    assert [[r.problem.id for r in group] for group in groups] == [["p"] * 3, ["q"] * 3]
    assert groups[1][0].prompt_ids == tuple(encode_prompt(tokenizer, "3+3=?"))


def test_samples_are_graded_against_their_own_problem(tokenizer):
    groups = sample(tokenizer, PROBLEMS, 1, "\\boxed{5}")
    assert [group[0].correct for group in groups] == [True, False]


def test_a_truncated_sample_is_never_correct(tokenizer):
    [[cut]] = sample(tokenizer, PROBLEMS[:1], 1, "\\boxed{5} and so on", max_new_tokens=9)
    assert cut.grade.correct
    assert not cut.correct


def test_progress_is_told_after_every_response(tokenizer):
    calls = []
    sample(tokenizer, PROBLEMS, 3, "x", on_done=calls.append)
    assert len(calls) == 6


def test_a_decoded_response_keeps_meta_actions_and_loses_the_end_token(tokenizer):
    text = "a<|reflect|> b"
    ids = (*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)
    assert decode_response(tokenizer, Completion(ids, FinishReason.STOP)) == text
    assert decode_response(tokenizer, Completion(ids[:-2], FinishReason.LENGTH)) == text[:-1]


def test_a_base_model_does_not_learn_from_another_ones_tokens(tmp_path):
    """A policy of other people's, say, that has the same tokens in another order."""
    tokenizer = load_tokenizer(SHIPPED_BASE)
    tokenizer.add_special_tokens({"additional_special_tokens": META_ACTION_TOKENS[::-1]})
    tokenizer.save_pretrained(tmp_path / "rl_1")
    folders = {"base": SHIPPED_BASE, "rl_1": tmp_path / "rl_1"}
    context = SimpleNamespace(folder=tmp_path, recipe=SimpleNamespace(distill=None), artifact=folders.get)
    with pytest.raises(ArtifactError, match=r"rl_1 and the base model .* different vocabularies.*model\.name"):
        distillation.run_stage(context)
