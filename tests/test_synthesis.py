"""Demonstration synthesis with scripted agents; the embedded critic; what the stage keeps."""

import asyncio
from collections import Counter

import pytest

from satori.coat import (
    EXPLORE_OPENERS,
    META_ACTION_TOKENS,
    REFLECT_OPENERS,
    MetaAction,
    check_steps,
    encode_prompt,
    parse,
    render,
    strip_actions,
)
from satori.engines.base import Sampling
from satori.engines.scripted import ScriptedEngine
from satori.problems.arithmetic import Claim, column_check, solve
from satori.synthesis.agents import Agents, Mistake, PartialSolution, Unusable, Verification
from satori.synthesis.batching import Batcher, Batches
from satori.synthesis.embedded import ColumnCritic, SampledGenerator, split_plain
from satori.synthesis.journal import Harvest, SynthesisSettings
from satori.synthesis.pipeline import CandidateSettings, Dropped, Kind, demonstrate
from satori.types import Problem, Variant

PROBLEM = Problem("p", "2+3+4=?", "9", 1, solve((2, 3, 4)))
RIGHT = ("2+3=5.", "5+4=9. \\boxed{9}")
WRONG = ("2+3=6.", "6+4=10. \\boxed{10}")
FIRST_MISTAKE = Mistake(0, "2+3 is 5.", direction="", corrected="2+3=5.")
SECOND_MISTAKE = Mistake(1, "5+4 is 9.", direction="", corrected=RIGHT[1])
SLIP = ("5+4=8. \\boxed{8}",)
"""A wrong end of the solution after a right first step."""


SILENT = Unusable("silent")
CRITIC_SILENT = "critic: silent"


class ScriptedGenerator:
    """Solves by a table; continues as ``go_on`` says, and remembers what it was asked to continue."""

    def __init__(self, solutions, go_on=lambda partial: ()):
        self.solutions, self.go_on = solutions, go_on
        self.asked = []

    async def solve(self, problem, samples, seed):
        return self.solutions if isinstance(self.solutions, list) else self.solutions[problem.id]

    async def continue_from(self, partial, seed):
        self.asked.append(partial)
        return self.go_on(partial)


class ScriptedCritic:
    """Verifies and finds mistakes as the two functions say, and remembers from where it was asked to review."""

    def __init__(self, verify=lambda partial: SILENT, mistake=lambda partial, reviewed_from: SILENT):
        self._verify, self._mistake = verify, mistake
        self.reviewed_from = []

    async def verify(self, partial, seed):
        return self._verify(partial)

    async def find_mistake(self, partial, reviewed_from, seed):
        self.reviewed_from.append(reviewed_from)
        return self._mistake(partial, reviewed_from)


class ScriptedReward:
    def __init__(self, score=lambda steps: 0.0):
        self._score = score

    async def score(self, solution):
        return self._score(solution.steps)


def verify_cut(length):
    """Verifies solutions cut after ``length`` steps, and is silent on the others: the cut is random."""
    return lambda partial: Verification("It holds.") if len(partial.steps) == length else SILENT


def mistakes(partial, reviewed_from):
    return FIRST_MISTAKE if reviewed_from == 0 else SECOND_MISTAKE


def finish(partial):
    """The right rest of the solution, given a right start."""
    return RIGHT[len(partial.steps) :]


def slip_then_finish(partial):
    return SLIP if partial.steps == RIGHT[:1] else ()


def run(generator, critic, reward=None, problems=(PROBLEM,), seed=0, **settings):
    agents = Agents(generator, critic, reward or ScriptedReward())

    async def one_by_one():
        return [await demonstrate(problem, agents, CandidateSettings(**settings), seed) for problem in problems]

    records = asyncio.run(one_by_one())
    assert [record.problem for record in records] == list(problems)
    assert not any(record.failed for record in records)
    made = [demonstration for record in records for demonstration in record.demonstrations]
    return made, {reason: count for record in records for reason, count in record.dropped.items() if count}


def response_of(kind, demonstrations):
    """The only response of a kind, its spoken openers shortened to R: and E:."""
    [text] = [d.response for d in demonstrations if d.kind is kind]
    for openers, short in ((REFLECT_OPENERS, "R:"), (EXPLORE_OPENERS, "E:")):
        for opener in openers:
            text = text.replace(opener, short)
    return text


# --- the five kinds ---


def test_kind_one_is_the_plain_solution():
    made, _ = run(ScriptedGenerator([RIGHT]), ScriptedCritic())
    assert response_of(Kind.PLAIN, made) == "2+3=5.<|continue|> 5+4=9. \\boxed{9}"


def test_a_verified_start_goes_on():
    made, _ = run(ScriptedGenerator([RIGHT] * 8, finish), ScriptedCritic(verify_cut(1)), correct=8)
    expected = "2+3=5.<|reflect|> R: It holds.<|continue|> 5+4=9. \\boxed{9}"
    assert response_of(Kind.VERIFIED, made) == expected


def test_a_verified_complete_solution_states_its_answer_again():
    generator = ScriptedGenerator([RIGHT] * 8, lambda partial: ("99+1=100.",))  # what it says is not used
    made, _ = run(generator, ScriptedCritic(verify_cut(2)), correct=8)
    expected = "2+3=5.<|continue|> 5+4=9. \\boxed{9}<|reflect|> R: It holds. \\boxed{9}"
    assert response_of(Kind.VERIFIED, made) == expected


def test_a_verified_start_that_goes_wrong_is_corrected():
    made, _ = run(ScriptedGenerator([RIGHT] * 8, slip_then_finish), ScriptedCritic(verify_cut(1), mistakes), correct=8)
    expected = (
        "2+3=5.<|reflect|> R: It holds.<|continue|> 5+4=8. \\boxed{8}"
        "<|reflect|> R: 5+4 is 9.<|explore|> E: 5+4=9. \\boxed{9}"
    )
    assert response_of(Kind.VERIFIED_THEN_CORRECTED, made) == expected


def test_a_wrong_solution_is_corrected():
    made, _ = run(ScriptedGenerator([WRONG], finish), ScriptedCritic(mistake=mistakes))
    expected = "2+3=6.<|reflect|> R: 2+3 is 5.<|explore|> E: 2+3=5.<|continue|> 5+4=9. \\boxed{9}"
    assert response_of(Kind.CORRECTED, made) == expected


def test_a_wrong_solution_that_goes_wrong_again_is_corrected_twice():
    made, _ = run(ScriptedGenerator([WRONG], slip_then_finish), ScriptedCritic(mistake=mistakes))
    expected = (
        "2+3=6.<|reflect|> R: 2+3 is 5.<|explore|> E: 2+3=5."
        "<|continue|> 5+4=8. \\boxed{8}<|reflect|> R: 5+4 is 9.<|explore|> E: 5+4=9. \\boxed{9}"
    )
    assert response_of(Kind.CORRECTED_TWICE, made) == expected


def test_a_mistake_in_a_later_step_keeps_the_steps_before_it():
    wrong_end = (RIGHT[0], *SLIP)
    made, _ = run(ScriptedGenerator([wrong_end]), ScriptedCritic(mistake=lambda partial, start: SECOND_MISTAKE))
    expected = "2+3=5.<|continue|> 5+4=8. \\boxed{8}<|reflect|> R: 5+4 is 9.<|explore|> E: 5+4=9. \\boxed{9}"
    assert response_of(Kind.CORRECTED, made) == expected


def test_what_follows_the_first_wrong_step_is_cut():
    made, _ = run(ScriptedGenerator([(*WRONG, "And 1+1=3.")], finish), ScriptedCritic(mistake=mistakes))
    assert "6+4" not in made[0].response
    assert "1+1" not in made[0].response


@pytest.mark.parametrize("index", [-1, 2])
def test_a_mistake_in_a_step_that_is_not_there_is_of_no_use(index):
    nowhere = Mistake(index, "It is wrong.", direction="", corrected="2+3=5.")
    made, dropped = run(ScriptedGenerator([WRONG], finish), ScriptedCritic(mistake=lambda partial, start: nowhere))
    assert made == []
    assert dropped == {Dropped.CRITIC_ASTRAY: 1}


def test_a_second_mistake_in_a_step_already_reviewed_is_of_no_use():
    made, dropped = run(
        ScriptedGenerator([WRONG], slip_then_finish), ScriptedCritic(mistake=lambda partial, start: FIRST_MISTAKE)
    )
    assert made == []
    assert dropped == {Dropped.CRITIC_ASTRAY: 1}


# --- what the agents are asked ---


def test_the_generator_goes_on_from_the_corrected_step_in_place_of_the_wrong_one():
    generator = ScriptedGenerator([WRONG], finish)
    run(generator, ScriptedCritic(mistake=mistakes))
    assert generator.asked == [PartialSolution(PROBLEM, ("2+3=5.",), FIRST_MISTAKE, 1)]


def test_without_a_corrected_step_the_generator_is_told_the_direction():
    mistake = Mistake(0, "That is too much.", direction="Count again.", corrected=None)
    generator = ScriptedGenerator([WRONG], lambda partial: ("It is 5, so \\boxed{9}",))
    made, _ = run(generator, ScriptedCritic(mistake=lambda partial, start: mistake))
    assert generator.asked == [PartialSolution(PROBLEM, ("2+3=6.",), mistake, 1)]
    expected = "2+3=6.<|reflect|> R: That is too much.<|explore|> E: Count again.<|continue|> It is 5, so \\boxed{9}"
    assert response_of(Kind.CORRECTED, made) == expected


def test_the_second_round_reviews_the_continuation_only():
    critic = ScriptedCritic(mistake=mistakes)
    run(ScriptedGenerator([WRONG], slip_then_finish), critic)
    assert critic.reviewed_from == [0, 1]


def test_the_reward_model_scores_the_text_without_the_corrected_mistake():
    seen = []
    reward = ScriptedReward(lambda steps: seen.append(steps) or 0.0)
    run(ScriptedGenerator([WRONG], finish), ScriptedCritic(mistake=mistakes), reward)
    assert seen == [RIGHT]


def test_a_cut_falls_anywhere_from_the_first_step_to_the_last():
    cuts = Counter()
    long = ("2+0=2.", "2+3=5.", "5+0=5.", "5+4=9. \\boxed{9}")
    critic = ScriptedCritic(lambda partial: cuts.update([len(partial.steps)]) or SILENT)
    run(ScriptedGenerator([long] * 400), critic, correct=400)
    assert set(cuts) == {1, 2, 3, 4}
    assert all(count == pytest.approx(100, abs=36) for count in cuts.values())  # four standard deviations


# --- limits ---


def test_with_one_round_a_second_mistake_ends_the_candidate():
    critic = ScriptedCritic(mistake=mistakes)
    made, dropped = run(ScriptedGenerator([WRONG], slip_then_finish), critic, critic_rounds=1)
    assert made == []
    assert dropped == {Dropped.STILL_WRONG: 1}
    assert critic.reviewed_from == [0]


def test_with_one_round_a_verified_start_that_goes_wrong_ends_too():
    generator, critic = ScriptedGenerator([RIGHT] * 8, slip_then_finish), ScriptedCritic(verify_cut(1), mistakes)
    made, dropped = run(generator, critic, correct=8, critic_rounds=1)
    assert [d.kind for d in made] == [Kind.PLAIN]
    assert dropped[Dropped.STILL_WRONG] + dropped[CRITIC_SILENT] == 8


def test_only_so_many_solutions_of_each_kind_are_taken():
    generator = ScriptedGenerator([RIGHT] * 5 + [WRONG] * 6, finish)
    critic = ScriptedCritic(lambda partial: Verification("It holds."), mistakes)
    _, dropped = run(generator, critic, correct=2, incorrect=3)
    assert len(generator.asked) == 5
    assert dropped[Dropped.NOT_DRAWN] == 3 + 3


def test_no_solutions_taken_leaves_the_plain_one():
    made, _ = run(ScriptedGenerator([RIGHT, WRONG]), ScriptedCritic(), correct=0, incorrect=0)
    assert [d.kind for d in made] == [Kind.PLAIN]


# --- selection ---


def marked(mark):
    """A wrong solution whose correction ends with a mark: the mark tells which candidate was kept."""
    return (f"2+3=6{mark}.", "\\boxed{10}")


def marked_run(marks, score, problems=(PROBLEM,)):
    generator = ScriptedGenerator([marked(mark) for mark in marks], lambda partial: ("\\boxed{9}",))

    def mistake(partial, reviewed_from):
        return Mistake(0, "No.", "", corrected=partial.steps[0].replace("6", "5"))

    return run(generator, ScriptedCritic(mistake=mistake), ScriptedReward(score), problems)


def test_the_best_scored_candidate_of_a_kind_is_kept():
    scores = {"a": 0.1, "b": 0.7, "c": 0.4}
    [kept], dropped = marked_run("abc", lambda steps: scores[steps[0][-2]])
    assert "2+3=5b." in kept.response
    assert dropped == {Dropped.NOT_BEST: 2}


def test_kinds_do_not_compete():
    generator = ScriptedGenerator([RIGHT] * 4 + [WRONG] * 4, finish)
    critic = ScriptedCritic(lambda partial: Verification("It holds."), mistakes)
    made, _ = run(generator, critic)
    assert sorted(d.kind for d in made) == ["I", "II-I", "III-I"]


def test_problems_do_not_compete():
    other = Problem("q", "4+3+2=?", "9", 1, solve((4, 3, 2)))
    made, _ = marked_run("ab", lambda steps: 0.0, [PROBLEM, other])
    assert [(d.problem.id, d.kind) for d in made] == [("p", Kind.CORRECTED), ("q", Kind.CORRECTED)]


def everything_run():
    """One problem where every reason to drop a candidate occurs; see the test below for the account."""
    wrong = [(f"2+3={n}.", f"\\boxed{{{n}}}") for n in (6, 7, 8, 1, 0)]
    silent, breaks_off, stays_wrong = "2+3=6.", "2+3=7.", "2+3=8."

    def go_on(partial):
        if partial.steps[0] == breaks_off:
            return ("I stop.",)
        if partial.steps[0] == stays_wrong:
            return ("\\boxed{1}",)
        return RIGHT[len(partial.steps) :] if partial.steps[0] == RIGHT[0] else ("So \\boxed{9}",)

    def mistake(partial, reviewed_from):
        return SILENT if partial.steps[0] == silent else Mistake(reviewed_from, "No.", "Try.", corrected=None)

    generator = ScriptedGenerator([("No idea.",), *[RIGHT] * 3, *wrong], go_on)
    critic = ScriptedCritic(lambda partial: Verification("It holds."), mistake)
    return run(generator, critic, correct=2, incorrect=5)


def test_everything_dropped_is_counted_by_reason():
    made, dropped = everything_run()
    assert dropped == {
        Dropped.INVALID_SOLUTION: 1,
        Dropped.NOT_DRAWN: 1,  # one of three correct
        CRITIC_SILENT: 1,
        Dropped.INVALID_CONTINUATION: 1,
        Dropped.STILL_WRONG: 1,
        Dropped.NOT_BEST: 4,  # one of two verified, one of two corrected, two of three plain
    }
    # Nine solutions, and the plain candidates, which are the three correct solutions once more.
    assert len(made) + sum(dropped.values()) == 9 + 3


def test_every_demonstration_is_unambiguous_coat_text():
    made, _ = everything_run()
    for demonstration in made:
        steps = parse(demonstration.response)
        check_steps(steps)
        assert render(steps) == demonstration.response
        assert steps[0].action is None
        assert all(step.text.startswith(" ") for step in steps[1:])


def test_an_exploration_always_follows_a_reflection():
    made, _ = run(ScriptedGenerator([WRONG], slip_then_finish), ScriptedCritic(mistake=mistakes))
    actions = [step.action for step in parse(made[0].response)]
    assert actions == [
        None, MetaAction.REFLECT, MetaAction.EXPLORE, MetaAction.CONTINUE, MetaAction.REFLECT, MetaAction.EXPLORE
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_demonstrations():
    assert everything_run() == everything_run()


@pytest.mark.parametrize("token", [*META_ACTION_TOKENS, "<|im_end|>", "<|endoftext|>", "</s>"])
def test_a_solution_that_spells_a_special_token_is_dropped(token):
    made, _ = run(ScriptedGenerator([(f"2+3=5.{token}", RIGHT[1]), RIGHT]), ScriptedCritic())
    assert [strip_actions(d.response) for d in made] == ["2+3=5. 5+4=9. \\boxed{9}"]


def test_a_correction_that_completes_the_solution_ends_the_demonstration():
    wrong_end = (RIGHT[0], *SLIP)
    generator = ScriptedGenerator([wrong_end], lambda partial: ("9}",))  # a base model asked to go on from the end
    made, _ = run(generator, ScriptedCritic(mistake=lambda partial, start: SECOND_MISTAKE))
    assert made[0].response.endswith("5+4=9. \\boxed{9}")


def test_the_best_scored_plain_solution_is_kept():
    short = ("2+3+4=9. \\boxed{9}",)
    made, _ = run(ScriptedGenerator([RIGHT, short]), ScriptedCritic(), ScriptedReward(lambda steps: -len(steps)))
    assert response_of(Kind.PLAIN, made) == short[0]


# --- the embedded critic ---

NO_FALSE_SUM = Unusable("no false sum where it differs from the reference")
LONG = Problem("l", "12+34+56=?", "102", 4, solve((12, 34, 56)))  # 12+34=46. 46+56=102. \boxed{102}


def find(*steps, reviewed_from=0, problem=LONG):
    return asyncio.run(ColumnCritic().find_mistake(PartialSolution(problem, steps), reviewed_from, seed=0))


def verify(*steps, problem=LONG):
    return asyncio.run(ColumnCritic().verify(PartialSolution(problem, steps), seed=0))


def test_the_critic_names_the_first_wrong_step_and_puts_it_right():
    reason = f"{column_check(Claim((12, 34), 46))} {column_check(Claim((46, 56), 92))}"
    assert find("12+34=46.", "46+56=92. \\boxed{92}") == Mistake(1, reason, "", LONG.solution[1])


def test_the_critic_stops_at_the_first_of_two_wrong_steps():
    mistake = find("12+34=36.", "36+56=102. \\boxed{102}")
    assert mistake == Mistake(0, column_check(Claim((12, 34), 36)), "", LONG.solution[0])


def test_a_later_round_redoes_the_columns_of_the_continuation_only():
    mistake = find("12+34=46.", "46+56=92. \\boxed{92}", reviewed_from=1)
    assert mistake.first_wrong == 1
    assert mistake.reason == column_check(Claim((46, 56), 92))


def test_the_critic_passes_over_what_was_reviewed_before():
    assert find("12+34=36.", "46+56=102. \\boxed{102}", reviewed_from=1) == NO_FALSE_SUM


@pytest.mark.parametrize(
    "steps",
    [
        ("12+35=47.", "47+56=103. \\boxed{103}"),  # another operand, a true sum
        ("12+35=48.", "48+56=104. \\boxed{104}"),  # another operand, a false sum
        ("12+34=46.", "47+56=93. \\boxed{93}"),  # not the last total
        ("34+12=46.", "46+56=102. \\boxed{101}"),  # another order
        ("12+34=46.", "46+56=102. \\boxed{101}"),  # a true sum, another number boxed
        ("I do not know.",),
        ("12+34=46.", "46+56=102. \\boxed{102}", "102+1=104. \\boxed{104}"),  # beyond the reference
        (),
    ],
)
def test_the_critic_says_nothing_where_no_column_shows_the_mistake(steps):
    assert find(*steps) == NO_FALSE_SUM


@pytest.mark.parametrize("length", [1, 2])
def test_the_critic_verifies_steps_that_hold_column_by_column(length):
    verification = verify(*LONG.solution[:length])
    claims = [Claim((12, 34), 46), Claim((46, 56), 102)][:length]
    assert verification == Verification(" ".join(column_check(claim) for claim in claims))


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (("12+34=36.",), "not the steps of the reference"),
        (("34+12=46.",), "not the steps of the reference"),
        ((*LONG.solution, "And so on."), "not the steps of the reference"),
        ((), "nothing to check"),
    ],
)
def test_the_critic_verifies_nothing_else(steps, why):
    assert verify(*steps) == Unusable(why)


def test_pipeline_and_embedded_critic_fit_together():
    wrong = ("12+34=36.", "36+56=92. \\boxed{92}")
    generator = ScriptedGenerator([wrong], lambda partial: LONG.solution[len(partial.steps) :])
    made, dropped = run(generator, ColumnCritic(), problems=[LONG])
    check = "12+34: 2+4=6/6 1+3=4/3! so 46, not 36."
    expected = f"12+34=36.<|reflect|> R: {check}<|explore|> E: 12+34=46.<|continue|> 46+56=102. \\boxed{{102}}"
    assert response_of(Kind.CORRECTED, made) == expected
    assert dropped == {}


# --- the embedded generator ---


def ask_sampled(tokenizer, text, question, max_new_tokens=100):
    """What a question to a generator whose engine says ``text`` gives, and the prompts of the engine."""
    prompts = []

    def script(prompt):
        prompts.append(prompt)
        return tokenizer.encode(text, add_special_tokens=False)

    async def ask():
        async with Batches(seed=0) as batches:
            front = Batcher(batches, ScriptedEngine(script, tokenizer.eos_token_id))
            return await question(SampledGenerator(front.complete, tokenizer, Sampling(max_new_tokens=max_new_tokens)))

    return asyncio.run(ask()), prompts


def test_split_plain_takes_the_lines_that_are_not_blank():
    assert split_plain("a\n\n b \n \nc") == ("a", " b ", "c")


def test_the_generator_samples_a_problem_so_many_times(tokenizer):
    solutions, prompts = ask_sampled(tokenizer, "\n".join(RIGHT), lambda g: g.solve(PROBLEM, samples=2, seed=0))
    assert solutions == [RIGHT, RIGHT]
    assert prompts == [tuple(encode_prompt(tokenizer, PROBLEM.question))] * 2


def test_the_last_step_of_a_solution_cut_off_is_left_out(tokenizer):
    solutions, _ = ask_sampled(
        tokenizer, "2+3=5.\n5+4=9.", lambda g: g.solve(PROBLEM, samples=1, seed=0), max_new_tokens=10
    )
    assert solutions == [("2+3=5.",)]


@pytest.mark.parametrize("token", META_ACTION_TOKENS)
def test_a_meta_action_that_the_base_model_samples_is_seen(tokenizer, token):
    said = f"{RIGHT[0]}\n{token}{RIGHT[1]}"
    solutions, _ = ask_sampled(tokenizer, said, lambda g: g.solve(PROBLEM, samples=1, seed=0))
    assert solutions == [(RIGHT[0], token + RIGHT[1])]
    assert run(ScriptedGenerator(solutions), ScriptedCritic()) == ([], {Dropped.SPECIAL_TOKEN: 1})


@pytest.mark.parametrize(("steps", "prefix"), [(RIGHT[:1], "2+3=5.\n"), ((), "")])
def test_the_generator_goes_on_on_a_new_line(tokenizer, steps, prefix):
    partial = PartialSolution(PROBLEM, steps)
    rest, prompts = ask_sampled(tokenizer, RIGHT[1], lambda g: g.continue_from(partial, seed=0))
    assert rest == RIGHT[1:]
    assert prompts == [tuple(encode_prompt(tokenizer, PROBLEM.question, prefix))]


# --- what the stage keeps ---


def records(*kinds, levels=None):
    levels = levels or [1] * len(kinds)
    return [
        {"kind": kind.value, "level": level, "number": number}
        for number, (kind, level) in enumerate(zip(kinds, levels, strict=True))
    ]


def keep(records, variant, settings):
    harvest = Harvest(variant, settings)
    for record in records:
        harvest.offer(record)
    return harvest.kept


def numbers(kept):
    return [record["number"] for record in kept]


MIXED = records(Kind.PLAIN, Kind.VERIFIED, Kind.PLAIN, Kind.CORRECTED, Kind.PLAIN, Kind.CORRECTED_TWICE)


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, [0, 1, 2, 3, 4, 5]), (0.2, [0, 1, 2, 3, 5]), (0.1, [0, 1, 3, 5]), (0.0, [1, 3, 5])]
)
def test_plain_demonstrations_are_kept_up_to_their_share_of_all_asked_for(share, kept):
    settings = SynthesisSettings(demonstrations=10, max_plain_share=share)
    assert numbers(keep(MIXED, Variant.COAT, settings)) == kept


def test_demonstrations_of_one_level_are_kept_up_to_their_share():
    mixed = records(*[Kind.CORRECTED] * 6, levels=[1, 1, 2, 1, 2, 3])
    settings = SynthesisSettings(demonstrations=10, max_level_share=0.2)
    assert numbers(keep(mixed, Variant.COAT, settings)) == [0, 1, 2, 4, 5]


def test_problems_without_a_level_are_not_limited():
    mixed = records(*[Kind.CORRECTED] * 6, levels=[0, 1, 0, 1, 0, 0])
    settings = SynthesisSettings(demonstrations=10, max_level_share=0.1)
    assert numbers(keep(mixed, Variant.COAT, settings)) == [0, 1, 2, 4, 5]


def test_a_surplus_plain_demonstration_takes_no_place_of_its_level():
    mixed = records(Kind.PLAIN, Kind.PLAIN, Kind.CORRECTED)
    settings = SynthesisSettings(demonstrations=10, max_plain_share=0.1, max_level_share=0.2)
    assert numbers(keep(mixed, Variant.COAT, settings)) == [0, 2]


def test_a_share_that_is_a_whole_number_is_that_number():
    settings = SynthesisSettings(demonstrations=100, max_plain_share=0.07)
    assert len(keep(records(*[Kind.PLAIN] * 10), Variant.COAT, settings)) == 7


def lines(*groups):
    """Journal lines, a problem for each group of demonstrations."""
    return [
        {"place": place, "id": f"p{place}", "failed": None, "dropped": {"x": 1}, "demonstrations": group}
        for place, group in enumerate(groups)
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_what_is_kept_does_not_depend_on_the_order_in_which_problems_end(order):
    settings = SynthesisSettings(demonstrations=10, max_plain_share=0.2, max_level_share=0.3)
    harvest = Harvest(Variant.COAT, settings)
    found = lines(MIXED[:3], MIXED[3:4], MIXED[4:])
    for place in order:
        harvest.add(found[place])
    assert harvest.kept == keep(MIXED, Variant.COAT, settings)
    assert harvest.problems == 3


def test_problems_behind_one_that_has_not_ended_do_not_count_yet():
    harvest = Harvest(Variant.COAT, SynthesisSettings(demonstrations=2))
    found = lines(MIXED[:1], MIXED[1:2], MIXED[2:4])
    harvest.add(found[0])
    harvest.add(found[2])
    assert (numbers(harvest.kept), harvest.problems, harvest.enough) == ([0], 1, False)
    harvest.add(found[1])
    assert (numbers(harvest.kept), harvest.problems, harvest.enough) == ([0, 1], 2, True)
    assert harvest.dropped == {"x": 2}  # the third problem was not needed


def test_the_variant_without_meta_actions_keeps_the_plain_ones_alone_and_all_of_them():
    settings = SynthesisSettings(demonstrations=10, max_plain_share=0.1)
    assert numbers(keep(MIXED, Variant.COT, settings)) == [0, 2, 4]
