"""Free text of a generator as steps (satori.synthesis.llm.steps)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satori.synthesis.llm.steps import split_steps

FIRST, SECOND, THIRD = "We add three and four.", "The sum is doubled then.", "So it is \\boxed{14}."


@pytest.mark.parametrize(
    "label",
    [
        "Step {}: ",
        "Step {}. ",
        "Step {}) ",
        "Step {} - ",
        "step {}:",
        "STEP {}:\n",
        "Step n: ",
        "Step {}\n",
        "### Step {}\n",
        "### Step {}: ",
        "## Step {}:\n",
        "### Step {} ",
        "**Step {}:** ",
        "**Step {}**: ",
        "**Step {}** ",
        "**Step {}: ** ",
        "### **Step {}:**\n",
        "__Step {}:__ ",
        "  **Step {}.**\n\n",
        "{}. ",
        "{}) ",
        "**{}.** ",
    ],
)
@pytest.mark.parametrize("first", [1, 5])
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_labels_begin_steps_and_are_dropped(label, first, between):
    bodies = (FIRST, SECOND, THIRD)
    text = between.join(label.format(first + i) + body for i, body in enumerate(bodies))
    assert split_steps(text) == bodies


def test_emphasis_around_more_than_the_label_stays():
    text = "**Step 1: Add both numbers.** Three and four.\n**Step 2: Double it.** Seven twice."
    assert split_steps(text) == ("**Add both numbers.** Three and four.", "**Double it.** Seven twice.")


def test_the_text_before_the_first_label_is_a_step():
    assert split_steps(f"To solve this, add.\n\nStep 1: {FIRST}\nMore of it.\n\nEven more.\nStep 2: {SECOND}") == (
        "To solve this, add.",
        f"{FIRST}\nMore of it.\n\nEven more.",
        SECOND,
    )


@pytest.mark.parametrize("mention", ["Step 2 gives seven here.", "Steps 1 and 2 show it all.", "Step 2.5 is no step."])
def test_a_mention_of_a_step_is_no_label(mention):
    assert split_steps(f"{FIRST}\n\n{mention}") == (FIRST, mention)


def test_a_single_number_at_the_beginning_of_a_line_is_no_list():
    assert split_steps("The year was\n1990. It was long ago.\n\n" + SECOND) == (
        "The year was\n1990. It was long ago.",
        SECOND,
    )


def test_list_items_that_do_not_count_up_stay_in_their_step():
    text = f"1. {FIRST}\n   1. an inner item\n1. an item of another list\n2. {SECOND}\n\n{THIRD}"
    assert split_steps(text) == (f"{FIRST}\n   1. an inner item\n1. an item of another list", SECOND, THIRD)


def test_paragraphs_are_steps_where_nothing_is_labelled():
    assert split_steps(f"{FIRST}\nIt is easy.\n\n\n{SECOND}\n \n{THIRD}\n") == (f"{FIRST}\nIt is easy.", SECOND, THIRD)


def test_lines_are_steps_where_there_are_no_paragraphs():
    assert split_steps(f"{FIRST}\r\n{SECOND}\n{THIRD}") == (FIRST, SECOND, THIRD)


@pytest.mark.parametrize(
    "block",
    [
        "\\[\nx = 3\n\nStep 2: y = 4\n\\]",
        "$$\nx = 3\n\n1. y\n2. z\n$$",
        "\\begin{align}\nx \\\\[2pt]\n\nStep 2: y\n\\end{align}",
        "\\begin{cases}\n\\begin{array}{c}\nx\n\\end{array}\n\nStep 2: y\n\\end{cases}",
        "```python\nprint(1)\n\nStep 2: print(2)\n$$\n```",
        "~~~\n```\n\nStep 2: print(2)\n~~~",
    ],
)
def test_nothing_is_cut_within_a_block(block):
    assert split_steps(f"Step 1: This is so:\n{block}\nand done.\nStep 2: {SECOND}") == (
        f"This is so:\n{block}\nand done.",
        SECOND,
    )
    assert split_steps(f"This is so, you see:\n\n{block.replace('Step 2', 'And 2')}\n\n{SECOND}") == (
        (f"This is so, you see:\n\n{block.replace('Step 2', 'And 2')}", SECOND)
        if block[0] in "\\$"
        else ("This is so, you see:", block.replace("Step 2", "And 2"), SECOND)
    )


def test_escaped_dollars_and_line_breaks_open_no_block():
    text = "It costs \\$\\$ in all \\\\[2pt] here.\n\n" + SECOND
    assert split_steps(text) == ("It costs \\$\\$ in all \\\\[2pt] here.", SECOND)


def test_a_block_that_is_never_closed_reaches_to_the_end():
    assert split_steps(f"{FIRST}\n\nNow see this:\n\\[ x\n\nStep 3: {THIRD}") == (
        FIRST,
        f"Now see this:\n\\[ x\n\nStep 3: {THIRD}",
    )


def test_fragments_go_to_their_neighbour():
    assert split_steps(f"So:\n\n{FIRST}\n\nIndeed.\n\n{SECOND}\n\nDone.") == (
        f"So:\n{FIRST}\nIndeed.",
        f"{SECOND}\nDone.",
    )
    assert split_steps("a\n\nb\n\nc", shortest=0) == ("a", "b", "c")
    assert split_steps("a\n\nb\n\nc") == ("a\nb\nc",)


def test_the_broken_end_of_a_text_that_was_cut_off_is_left_out():
    assert split_steps(f"Step 1: {FIRST}\nStep 2: {SECOND}\nStep 3: So i", finished=False) == (FIRST, SECOND)
    assert split_steps(f"{FIRST}\n\n{SECOND}\n\nSo", finished=False) == (FIRST, SECOND)
    assert split_steps(FIRST, finished=False) == ()


@pytest.mark.parametrize("nothing", ["", "\n \n", "Step 1:", "**Step 1:**\n\n### Step 2\n"])
def test_nothing_has_no_steps(nothing):
    assert split_steps(nothing) == ()


def test_a_spelled_meta_action_is_left_for_the_flow_to_refuse():
    assert split_steps(f"{FIRST} <|reflect|> Wait.\n{SECOND}") == (f"{FIRST} <|reflect|> Wait.", SECOND)


def squeezed(text):
    return "".join(text.split())


_LINES = st.sampled_from(
    [
        "We add 3 and 4, of course.",
        "x",
        "",
        "  ",
        "\\[ x = 3 \\]",
        "\\[",
        "\\]",
        "$$",
        "```",
        "\\begin{align}",
        "\\end{align}",
        "So $x$ costs \\$3.",
        "3.14 is pi, 1. is one",
        "# A title",
        "**bold**",
        "\u2028odd\x0bspace\x0c",
    ]
)


@given(st.lists(_LINES), st.integers(0, 40))
def test_nothing_of_a_text_without_labels_is_lost(lines, shortest):
    steps = split_steps("\n".join(lines), shortest)
    assert squeezed("".join(steps)) == squeezed("\n".join(lines))
    assert all(step.strip() == step != "" for step in steps)


@given(st.text(alphabet="ab1. \n\\[]$*#`", max_size=200))
def test_nothing_of_any_text_is_lost_but_numbers_and_marks_of_lists(text):
    steps = split_steps(text)
    letters = [c for c in text if c in "ab[]$\\"]
    assert [c for c in "".join(steps) if c in "ab[]$\\"] == letters


_BODIES = st.sampled_from(
    ["We add 3 and 4.", "x", "\\[ x = 3 \\]", "**bold**", "```\nStep 9: x\n```", "3.14 is pi", "# A"]
)


@given(st.lists(st.tuples(st.sampled_from(["Step {}: ", "**Step {}:** ", "### Step {}\n"]), _BODIES), min_size=1))
def test_nothing_of_a_labelled_text_is_lost_but_the_labels(parts):
    bodies = [body if body[0] != "`" else f"see\n{body}" for _, body in parts]
    steps = split_steps("\n".join(parts[i][0].format(i + 1) + body for i, body in enumerate(bodies)))
    assert squeezed("".join(steps)) == squeezed("".join(bodies))


@given(st.lists(st.sampled_from(["We add 3 and 4 here.", "\\[ x = 3 \\]", "x", "Then we are done."]), min_size=1))
def test_every_step_but_a_lone_one_is_long_enough(paragraphs):
    steps = split_steps("\n\n".join(paragraphs))
    assert len(steps) == 1 or all(len(squeezed(step)) >= 12 for step in steps)


@pytest.mark.parametrize(
    "text",
    [
        "x\n\n" * 100_000,
        "Step 1: x\n" * 30_000,
        "1. x\n" * 60_000,
        "\\[" * 100_000,
        "*" * 300_000,
        "# " * 100_000,
        " " * 300_000 + "Step",
        "Step " * 60_000,
        "\\begin" * 50_000,
        "\n" * 300_000,
    ],
)
def test_long_hostile_texts_take_linear_time(text):
    start = time.perf_counter()
    split_steps(text)
    assert time.perf_counter() - start < 20
