"""The report from made data: every part is there, hostile text stays text, missing values become dashes."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from satori.report.data import ReportData, SampleTrajectory
from satori.report.document import build_report, compose
from satori.report.markdown_page import escape, fence
from satori.report.values import DASH

HOSTILE = '<script>alert(1)</script>\n```\n# heading\n````\n<img src="http://evil.example/x.png"> | & \x00\ud800\u202e'
SECTIONS = (
    "Accuracy per stage",
    "Accuracy by level",
    "Out of domain",
    "Self-correction",
    "Response length",
    "Use of meta-actions",
    "Reward and PPO health",
    "Demonstrations",
    "Sampled trajectories",
    "Recipe",
)


def stage(accuracy: float) -> dict[str, Any]:
    ci = [accuracy - 0.04, accuracy + 0.04]
    return {
        "accuracy": accuracy,
        "accuracy_ci95": ci,
        "count": 500,
        "by_level": {level: {"accuracy": accuracy, "ci95": ci, "count": 250} for level in ("1", "2")},
        "ood": {name: {"accuracy": accuracy / 2, "ci95": ci, "count": 150} for name in ("harder", "other")},
        "reflect_rate": 0.7,
        "reflect_rate_by_level": {"1": 0.6, "2": 0.8},
        "responses": 500,
        "statuses": {"correct": 300, "wrong": 190, "no_answer": 8, "timed_out": 2, "unparseable_gold": 0},
        "wrong_to_right": 0.75,
        "right_to_wrong": 0.25,
        "reflected_on": 90,
        "changed": 45,
        "changed_rate": 0.5,
        "changed_more_than_once": 3,
        "wrong_to_right_count": 30,
        "right_to_wrong_count": 10,
        "mean_length": 61.5,
        "length_by_level": {"1": 51.0, "2": 72.0},
        "truncation_rate": 0.01,
        "reflections": {
            "confirms_right": 40, "confirms_wrong": 20, "catches_error": 30, "breaks_right": 8, "changes_wrong": 2,
            "no_answer_before": 60, "no_answer_after": 5,
        },
        "actions_per_response": {"continue": 1.5, "reflect": 0.9, "explore": 0.3},
        "action_positions": {"continue": [10] * 10, "reflect": [0] * 8 + [30, 60], "explore": [0] * 10},
        "action_transitions": {
            "start": {"continue": 300, "reflect": 100, "explore": 0, "end": 100, "cut_off": 0},
            "reflect": {"continue": 0, "reflect": 0, "explore": 60, "end": 30, "cut_off": 0},
        },
    }  # fmt: skip


def rl_record(step: int) -> dict[str, float]:
    record = {
        "step": float(step),
        "reward": -0.2 + 0.01 * step,
        "reward_rule": -0.4,
        "reward_preference": 0.5,
        "accuracy": 0.6,
        "accuracy_problem": 0.5,
        "response_length": 60.0 + step,
        "reflect_per_response": 0.9,
        "entropy": 0.3,
        "kl": 0.001,
        "clip_fraction": 0.02,
        "explained_variance": 0.4,
        "policy_grad_norm": 1.1,
        "critic_grad_norm": 2.2,
    }
    return record | ({"validation_accuracy": 0.55, "validation_length": 58.0} if step % 5 == 0 else {})


@pytest.fixture(scope="module")
def data() -> ReportData:
    sample = SampleTrajectory(
        stage="rl_1",
        set_name="test",
        level=2,
        question="12+34=?",
        gold="46",
        response="12+34=45 \\boxed{45}<|reflect|> Wait. 2+4=6.<|explore|> Again.<|continue|> \\boxed{46}",
        correct=True,
        answers=("45", "46"),
    )
    hostile = replace(sample, stage="base", response=HOSTILE, question=HOSTILE, answers=(HOSTILE,), correct=False)
    return ReportData(
        title="Satori: a test run",
        variant="coat",
        recipe_yaml="rl:\n  temperature: 0.6\n",
        summary={
            "wall_seconds": 5025.0,
            "stages": {"base": stage(0.31), "format_tuned": stage(0.52), "rl_1": stage(0.64), "rl_2": stage(0.713)},
            "synthesis": {"I": 100, "II-I": 50, "II-II": 20, "III-I": 20, "III-II": 10},
            "rm_at_8": {"first_sample": 0.61, "reward_model": 0.74, "oracle": 0.88},
        },
        set_descriptions={"test": "held-out sums", "harder": "more operands", "other": "another family"},
        plain_length_by_level={"1": 20.0, "2": 33.0},
        rl_metrics={"rl_1": [rl_record(step) for step in range(1, 21)], "rl_2": [rl_record(1)]},
        synthesis_dropped={"no final answer": 7, "still wrong": 12},
        trajectories=(sample, hostile),
    )


@pytest.fixture(scope="module")
def built(data: ReportData) -> tuple[str, str]:
    return build_report(data)


@pytest.fixture
def empty() -> ReportData:
    return ReportData("Empty", "cot", "", {}, {}, {}, {}, {}, ())


class Page(HTMLParser):
    """Collects the tags, attributes and ids of a page, and checks that tags close in order."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_sections_stand_in_order_in_both_formats(built: tuple[str, str]) -> None:
    html, markdown = built
    assert tuple(re.findall(r"<section[^>]*>\n<h2>(.*?)</h2>", html)) == SECTIONS
    assert tuple(line[3:] for line in markdown.splitlines() if line.startswith("## ")) == SECTIONS


def test_headline_states_variant_and_key_figures(built: tuple[str, str], empty: ReportData) -> None:
    for text in built:
        for wanted in ("COAT", "31.0%", "52.0%", "64.0%", "71.3%", "+7.3 points", "74.0%", "1 h 23 min"):
            assert wanted in text
    assert "CoT: the same pipeline" in compose(empty).subtitle


def test_page_is_well_formed_and_self_contained(built: tuple[str, str]) -> None:
    page = Page(built[0])
    assert page.open == []
    assert not {"script", "link", "iframe", "img", "object", "base"} & set(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert references and all(value.startswith("#") and value[1:] in ids for value in references)
    assert not any("http" in value for _, value in page.attributes)
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_clip_paths_point_at_ids_of_their_own_chart(built: tuple[str, str]) -> None:
    html, _ = built
    ids = set(re.findall(r'\bid="([^"]*)"', html))
    targets = re.findall(r"url\(#([^)]*)\)", html)
    assert targets and set(targets) <= ids


def test_hostile_text_stays_text(data: ReportData) -> None:
    hostile = replace(
        data,
        title=HOSTILE,
        recipe_yaml=HOSTILE,
        set_descriptions={"test": HOSTILE, "harder": HOSTILE},
        synthesis_dropped={HOSTILE: 1},
        summary={**data.summary, "stages": data.summary["stages"] | {"x": stage(0.5) | {"ood": {HOSTILE: {}}}}},
    )
    html, markdown = build_report(hostile)
    page = Page(html)
    assert page.open == [] and not {"script", "img"} & set(page.tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    outside = without_fences(markdown)
    assert "<script" not in outside and "<img" not in outside
    assert "<script>alert(1)</script>" in markdown
    for text in (html, markdown):
        assert "\x00" not in text and "\u202e" not in text
        text.encode("utf-8")


def without_fences(markdown: str) -> str:
    """The lines that a Markdown reader takes for prose; fails where a fence stays open."""
    prose, ticks = [], ""
    for line in markdown.split("\n"):
        run = re.match("`{3,}", line)
        if ticks:
            ticks = "" if line == ticks else ticks
        elif run:
            ticks = run.group()
        else:
            prose.append(line)
    assert not ticks
    return "\n".join(prose)


def test_fence_is_longer_than_any_run_inside() -> None:
    assert fence("a") == "```\na\n```"
    assert fence("a ````` b") == "``````\na ````` b\n``````"


def test_markdown_prose_is_escaped() -> None:
    assert escape("a|b\n*c* <d> $x$") == r"a\|b \*c\* &lt;d&gt; \$x\$"


def test_trajectory_steps_are_tagged_by_meta_action(built: tuple[str, str]) -> None:
    html, markdown = built
    assert re.findall(r'<div class="step (\w+)">', html) == ["start", "start", "reflect", "explore", "continue"]
    for name in ("reflect", "explore"):
        assert f".step.{name} {{" in html
    assert '<span class="verdict right">right</span>' in html and '<span class="verdict wrong">wrong</span>' in html
    assert "<code>45</code> <i>→</i> <code>46</code>" in html
    assert "Answers in order: 45 → 46" in markdown
    assert "\n<|reflect|> Wait. 2+4=6.\n" in markdown
    assert html.index("<h3>Base</h3>") < html.index("<h3>RL round 1</h3>")


def test_self_correction_counts_changes_between_wrong_answers(built: tuple[str, str]) -> None:
    _, markdown = built
    assert "| RL round 1 | 500 | 90 | 45 (50.0%) | 3 | 30 (75.0%) | 10 (25.0%) | 5 |" in markdown
    assert "61.0%" in markdown and "Quoted from the paper" in markdown


def test_reflections_are_counted_by_what_came_of_them(built: tuple[str, str]) -> None:
    html, markdown = built
    assert "| RL round 1 | 165 | 40 | 30 | 20 | 2 | 8 | 60 | 5 |" in markdown
    assert "confirms a right answer" in html and 'id="reflections-' in html


def test_positions_and_transitions_of_actions_are_shown(built: tuple[str, str]) -> None:
    html, markdown = built
    assert "| RL round 1: reflect | 90 | 0.0% | 0.0% | 0.0% | 0.0% | 100.0% |" in markdown
    assert "| RL round 1: continue | 100 | 20.0% | 20.0% | 20.0% | 20.0% | 20.0% |" in markdown
    assert "RL round 1: explore" not in markdown  # never used
    assert "| RL round 1: start | 500 | 60.0% | 20.0% | 0.0% | 20.0% | 0.0% |" in markdown
    assert "| RL round 1: reflect | 90 | 0.0% | 0.0% | 66.7% | 33.3% | 0.0% |" in markdown
    assert 'id="positions-' in html and 'id="transitions-' in html


def test_demonstrations_and_drops_are_listed(built: tuple[str, str]) -> None:
    _, markdown = built
    assert "| II-I: one reflection that verifies | 50 | 25.0% |" in markdown
    assert "| All kinds | 200 | 100.0% |" in markdown
    assert markdown.index("still wrong | 12") < markdown.index("no final answer | 7")


def test_the_reward_model_is_called_by_the_responses_it_picked_from(data: ReportData) -> None:
    for text in build_report(replace(data, rm_samples=4)):
        assert "RM@4" in text and "RM@8" not in text


def test_missing_stages_and_null_values_become_dashes(data: ReportData) -> None:
    tuned = stage(0.5) | {"wrong_to_right": None, "right_to_wrong": None, "changed": 0, "accuracy_ci95": None}
    summary = {"stages": {"format_tuned": tuned, "rl_1": None}, "rm_at_8": None, "wall_seconds": None}
    html, markdown = build_report(replace(data, summary=summary))
    assert f"| RL round 2 | {DASH} | {DASH} | {DASH} | {DASH} | {DASH} |" in markdown
    assert f"| Format tuned | 50.0% | {DASH} | 500 |" in markdown
    assert f'<td class="missing">{DASH}</td>' in html
    for text in (html, markdown):
        assert not re.search(r"\b(None|nan|NaN)\b", text)


def test_report_without_any_results_has_every_section(empty: ReportData) -> None:
    html, markdown = build_report(empty)
    assert tuple(re.findall(r"<section[^>]*>\n<h2>(.*?)</h2>", html)) == SECTIONS
    assert "<svg" not in html and "Not measured in this run." in html
    assert "No trajectories were sampled." in markdown and "No reinforcement learning in this run." in markdown


def test_not_a_number_metrics_are_passed_over(data: ReportData) -> None:
    records = [rl_record(1), rl_record(2) | {"kl": float("nan"), "reward": float("inf")}, {"step": 3.0}]
    html, markdown = build_report(replace(data, rl_metrics={"rl_1": records}))
    assert not re.search(r"\b(nan|inf)\b", html + markdown)


def test_report_is_deterministic(data: ReportData, built: tuple[str, str]) -> None:
    assert build_report(data) == built


def test_unknown_variant_is_refused(data: ReportData) -> None:
    with pytest.raises(ValueError, match="'tree'"):
        replace(data, variant="tree")
