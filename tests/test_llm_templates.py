"""The prompt templates (satori.synthesis.llm.templates)."""

import pytest

from satori.synthesis.llm.leaks import leak_in
from satori.synthesis.llm.templates import Prompt, TemplateError, load_templates, read_template

CRITIC = (Prompt.VERIFY, Prompt.FIND_MISTAKE, Prompt.FIND_MISTAKE_AGAIN)
GENERATOR = (Prompt.SOLVE, Prompt.CONTINUE_VERIFIED, Prompt.CONTINUE_CORRECTED)
GOOD = "Solve {{question}}"


def test_the_package_has_all_six_and_none_needs_a_system_turn():
    templates = load_templates()
    assert set(templates) == set(Prompt)
    assert all(template.user and not template.system for template in templates.values())


def test_the_generator_is_told_no_reference_and_nothing_that_names_one():
    for prompt in GENERATOR:
        template = load_templates()[prompt]
        assert "{{reference}}" not in template.user and "{{answer}}" not in template.user
        assert leak_in(template.user) is None


@pytest.mark.parametrize("prompt", CRITIC)
def test_the_critic_is_told_the_reference(prompt):
    assert "{{reference}}" in load_templates()[prompt].user


@pytest.mark.parametrize("prompt", GENERATOR)
def test_the_generator_must_not_be_given_the_reference(prompt):
    known = "{{question}} {{steps}} {{review}} {{direction}}" if prompt is Prompt.CONTINUE_CORRECTED else "{{question}}"
    with pytest.raises(TemplateError, match=r"unknown placeholder \{\{reference\}\}"):
        read_template(prompt, f"{known}\n{{{{reference}}}}", "x.md")


def test_inserted_text_is_never_expanded_again():
    template = read_template(Prompt.CONTINUE_VERIFIED, "{{question}}|{{steps}}|{{ review }}|{{next}}", "x.md")
    values = {"question": "{{steps}}", "steps": "{{review}} \\1 \\g<0>", "review": "{{{{next}}}}", "next": "3"}
    assert template.messages(values) == [
        {"role": "user", "content": "{{steps}}|{{review}} \\1 \\g<0>|{{{{next}}}}|3"},
    ]


def test_a_line_of_dashes_parts_the_system_turn():
    template = read_template(Prompt.SOLVE, "You are {{question}}.\n---\n\nSolve {{question}}\n", "x.md")
    assert template.messages({"question": "it"}) == [
        {"role": "system", "content": "You are it."},
        {"role": "user", "content": "Solve it"},
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Solve\n{{queston}}", r"x\.md, line 2: unknown placeholder \{\{queston\}\}; allowed in solve\.md are"),
        ("Solve", r"x\.md: \{\{question\}\} is missing"),
        ("", r"x\.md: \{\{question\}\} is missing"),
        ("{{question}}\n\n{{question", r"x\.md, line 3: \{\{ opens no placeholder"),
        ("{{question}} {{}}", r"x\.md, line 1: \{\{ opens no placeholder"),
        ("{{question}} {{steps}}", r"unknown placeholder \{\{steps\}\}; allowed in solve.md are \{\{question\}\}$"),
        ("{{question}}\n---\n", r"x\.md, line 3: the user turn is empty"),
        ("a\n---\n{{question}}\n---\n", r"x\.md, line 4: a second line ---"),
        ("{{question}} \\frac{{a}}{b}", r"unknown placeholder \{\{a\}\}"),
    ],
)
def test_a_faulty_template_names_its_file_and_line(text, error):
    with pytest.raises(TemplateError, match=error):
        read_template(Prompt.SOLVE, text, "x.md")


def test_a_critic_may_be_told_the_answer_instead_of_the_reference():
    assert read_template(Prompt.VERIFY, "{{question}} {{steps}} {{answer}}", "x.md").user
    with pytest.raises(TemplateError, match=r"\{\{reference\}\} or \{\{answer\}\} is missing"):
        read_template(Prompt.VERIFY, "{{question}} {{steps}}", "x.md")


def test_the_second_review_must_say_where_it_begins():
    with pytest.raises(TemplateError, match=r"\{\{first\}\} is missing"):
        read_template(Prompt.FIND_MISTAKE_AGAIN, "{{question}} {{steps}} {{answer}}", "x.md")


def test_a_folder_replaces_what_it_has(tmp_path):
    (tmp_path / "solve.md").write_text(GOOD)
    (tmp_path / "README.md").write_text("about {{these}}")
    (tmp_path / "notes.txt").write_text("{{x}}")
    templates = load_templates(tmp_path)
    assert templates[Prompt.SOLVE].user == GOOD
    assert templates[Prompt.VERIFY] == load_templates()[Prompt.VERIFY]


def test_a_folder_that_cannot_be_meant_is_an_error(tmp_path):
    with pytest.raises(TemplateError, match="is no folder"):
        load_templates(tmp_path / "none")
    with pytest.raises(TemplateError, match="holds no prompt template"):
        load_templates(tmp_path)
    (tmp_path / "solve.md").write_bytes(b"{{question}} \xff")
    with pytest.raises(TemplateError, match=r"solve\.md cannot be read as text"):
        load_templates(tmp_path)
    (tmp_path / "slove.md").write_text(GOOD)
    with pytest.raises(TemplateError, match=r"slove\.md is none of the prompt templates solve\.md"):
        load_templates(tmp_path)
