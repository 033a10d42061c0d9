"""Generator and critic over scripted chats (satori.synthesis.llm.agents), alone and in the flow of synthesis."""

import asyncio

import pytest

from satori.engines.base import Sampling
from satori.synthesis.agents import Agents, Mistake, PartialSolution, Unusable, Verification
from satori.synthesis.llm.agents import LLMCritic, LLMGenerator, numbered, reference
from satori.synthesis.llm.chats import ChatReply
from satori.synthesis.llm.parsing import Useless
from satori.synthesis.llm.templates import load_templates
from satori.synthesis.pipeline import CandidateSettings, Kind, demonstrate
from satori.types import Problem

TEMPLATES = load_templates()
PROBLEM = Problem("p", "What is 3+4, doubled? {{steps}}", "14", solution=("3+4 is SECRET.", "Twice it is 14."))
STEPS = ("We add and find 3+4=8.", "Twice that is \\boxed{16}.")
PARTIAL = PartialSolution(PROBLEM, STEPS)
MISTAKE = "STEP: 1\nWHY: The sum of 3 and 4 is not 8.\nDIRECTION: Add both numbers again."


class ScriptedChat:
    """Says what ``script(text, seed)`` returns for a conversation's last turn, and keeps what it was asked."""

    def __init__(self, script):
        self.script, self.asked = script, []

    async def reply(self, messages, sampling, seed):
        self.asked.append((messages[-1]["content"], sampling, seed))
        await asyncio.sleep(0)
        said = self.script(messages[-1]["content"], seed)
        return said if isinstance(said, ChatReply) else ChatReply(said, finished=True)


def saying(*texts):
    """One after the other; the last one again and again."""
    waiting = list(texts)
    return ScriptedChat(lambda text, seed: waiting.pop(0) if len(waiting) > 1 else waiting[0])


def run(work):
    return asyncio.run(work)


# --- the generator ---


def test_samples_are_asked_with_the_papers_sampling_and_seeds_of_their_own():
    chat = ScriptedChat(
        lambda text, seed: f"Step 1: We add three and four, sample {seed}.\n\nStep 2: So \\boxed{{14}}."
    )
    found = run(LLMGenerator(chat, TEMPLATES).solve(PROBLEM, 3, seed=5))
    assert len({seed for _, _, seed in chat.asked}) == 3
    assert {sampling for _, sampling, _ in chat.asked} == {Sampling(temperature=0.3, max_new_tokens=2048)}
    assert found == [
        (f"We add three and four, sample {seed}.", "So \\boxed{14}.") for _, _, seed in chat.asked
    ]  # in the order of the samples
    assert PROBLEM.question in chat.asked[0][0]


def test_the_same_seed_asks_the_same():
    seeds = []
    for _ in range(2):
        chat = saying("Step 1: We add three and four.")
        run(LLMGenerator(chat, TEMPLATES).solve(PROBLEM, 2, seed=9))
        seeds.append([seed for _, _, seed in chat.asked])
    assert seeds[0] == seeds[1]


def test_a_text_that_was_cut_off_loses_its_last_step():
    cut = ChatReply("Step 1: We add three and four.\n\nStep 2: Then we doub", finished=False)
    assert run(LLMGenerator(saying(cut), TEMPLATES).solve(PROBLEM, 1, 0)) == [("We add three and four.",)]
    cut = ChatReply("Step 1: We add three and", finished=False)
    assert run(LLMGenerator(saying(cut), TEMPLATES).solve(PROBLEM, 1, 0)) == [()]


@pytest.mark.parametrize(
    ("review", "told"),
    [
        (Verification("NOTE-A holds."), ["NOTE-A holds."]),
        (Mistake(0, "NOTE-B is wrong.", "WAY-B instead.", None), ["NOTE-B is wrong.", "WAY-B instead."]),
    ],
)
def test_the_continuation_follows_the_steps_and_the_review(review, told):
    chat = saying("Step 3: We add again and get 7.\n\nStep 4: So \\boxed{14}.")
    partial = PartialSolution(PROBLEM, STEPS, review, reviewed=2)
    found = run(LLMGenerator(chat, TEMPLATES).continue_from(partial, 1))
    assert found == ("We add again and get 7.", "So \\boxed{14}.")
    asked = chat.asked[0][0]
    places = [asked.index(text) for text in (PROBLEM.question, numbered(STEPS), *told)]
    assert places == sorted(places)
    assert 'the first is "Step 3:"' in asked


def test_the_generator_never_sees_the_reference():
    chat = saying("Step 3: So \\boxed{14}.")
    generator = LLMGenerator(chat, TEMPLATES)
    run(generator.solve(PROBLEM, 1, 0))
    for review in (Verification("It holds."), Mistake(0, "It is wrong.", "Do it again.", None)):
        run(generator.continue_from(PartialSolution(PROBLEM, STEPS[:1], review, 1), 0))
    assert len(chat.asked) == 3
    assert not [asked for asked, _, _ in chat.asked if "SECRET" in asked or "Twice it is" in asked]


def test_steps_that_are_only_repeated_are_left_out():
    chat = saying(f"{numbered(STEPS)}\n\nStep 3: We add again and get 7.\n\nStep 4: {STEPS[0]}")
    partial = PartialSolution(PROBLEM, STEPS, Verification("It holds."), 2)
    assert run(LLMGenerator(chat, TEMPLATES).continue_from(partial, 1)) == ("We add again and get 7.", STEPS[0])


def test_a_complete_solution_has_nothing_to_follow():
    partial = PartialSolution(PROBLEM, STEPS, Verification("It holds."), 2)
    assert run(LLMGenerator(saying(" \n"), TEMPLATES).continue_from(partial, 1)) == ()


# --- the critic ---


def test_the_critic_sees_the_reference_and_the_numbered_steps():
    chat = saying("VERIFIED: Both sums hold.")
    assert run(LLMCritic(chat, TEMPLATES).verify(PARTIAL, 1)) == Verification("Both sums hold.")
    asked, sampling, _ = chat.asked[0]
    assert "3+4 is SECRET.\nTwice it is 14." in asked and numbered(STEPS) in asked
    assert "What is 3+4, doubled? {{steps}}" in asked  # never expanded
    assert sampling == Sampling(temperature=0.2, max_new_tokens=256)


def test_without_a_solution_the_critic_is_told_the_result():
    assert reference(Problem("p", "q", "14")) == "Only the result is known: 14"
    assert reference(Problem("p", "q", "14", solution=(" ",))) == "Only the result is known: 14"
    assert reference(PROBLEM) == "3+4 is SECRET.\nTwice it is 14.\n\nResult: 14"


def test_the_first_mistake_counts_from_zero():
    found = run(LLMCritic(saying(MISTAKE), TEMPLATES).find_mistake(PARTIAL, 0, 1))
    assert found == Mistake(0, "The sum of 3 and 4 is not 8.", "Add both numbers again.", None)


def test_a_second_review_is_about_the_continuation_only():
    chat = saying(MISTAKE, MISTAKE.replace("1", "2"))
    found = run(LLMCritic(chat, TEMPLATES).find_mistake(PARTIAL, 1, 1))
    assert isinstance(found, Mistake) and found.first_wrong == 1
    assert "before step 2" in chat.asked[0][0]
    chat = saying(MISTAKE)
    assert run(LLMCritic(chat, TEMPLATES).find_mistake(PARTIAL, 1, 1)) == Unusable(Useless.OUT_OF_RANGE)


def test_an_answer_of_no_use_is_asked_again_with_another_seed():
    chat = saying("Hm.", "It differs.", MISTAKE)
    assert isinstance(run(LLMCritic(chat, TEMPLATES, attempts=3).find_mistake(PARTIAL, 0, 1)), Mistake)
    assert len({seed for _, _, seed in chat.asked}) == 3
    assert len({asked for asked, _, _ in chat.asked}) == 1


def test_after_the_last_attempt_the_last_reason_is_told():
    chat = saying("Hm.", "NO MISTAKE", MISTAKE)
    assert run(LLMCritic(chat, TEMPLATES).find_mistake(PARTIAL, 0, 1)) == Unusable(Useless.NO_MISTAKE)
    assert len(chat.asked) == 2
    with pytest.raises(ValueError, match="attempts is 0"):
        LLMCritic(chat, TEMPLATES, attempts=0)


def test_an_answer_that_was_cut_off_is_asked_again():
    chat = saying(ChatReply(MISTAKE, finished=False), MISTAKE)
    assert isinstance(run(LLMCritic(chat, TEMPLATES).find_mistake(PARTIAL, 0, 1)), Mistake)


def test_a_long_reason_is_refused_by_the_set_length():
    critic = LLMCritic(saying(MISTAKE), TEMPLATES, longest_reason=20)
    assert run(critic.find_mistake(PARTIAL, 0, 1)) == Unusable(Useless.TOO_LONG)


# --- in the flow ---


class FirstReward:
    async def score(self, solution):
        return 0.0


def generator_script(text, seed):
    if "What to do instead" in text:
        return "Step 2: We add again and get 7.\n\nStep 3: Twice that is \\boxed{14}."
    return "Step 1: We add and find 3+4=8.\n\nStep 2: Twice that is \\boxed{16}."


def test_chat_agents_make_a_corrected_demonstration():
    problem = Problem("p", "What is 3+4, doubled?", "14", solution=("3+4=7.", "Twice it is 14."))
    generator = LLMGenerator(ScriptedChat(generator_script), TEMPLATES)
    agents = Agents(generator, LLMCritic(saying(MISTAKE), TEMPLATES), FirstReward())
    record = run(demonstrate(problem, agents, CandidateSettings(samples=2, correct=1, incorrect=1), seed=0))
    [demonstration] = record.demonstrations
    assert demonstration.kind is Kind.CORRECTED
    wrong, rest = demonstration.response.split("<|reflect|>")
    reflection, *others = rest.replace("<|explore|>", "<|continue|>").split("<|continue|>")
    assert wrong == "We add and find 3+4=8."
    assert reflection.endswith("The sum of 3 and 4 is not 8.")
    assert others[0].endswith("Add both numbers again.")
    assert others[1:] == [" We add again and get 7.", " Twice that is \\boxed{14}."]
