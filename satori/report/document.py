"""The report of an evaluated run, as one HTML page and as Markdown.

``build_report`` is a pure function of its data. Left out: reading the run folder, and anything a reader would have to
fetch; the page holds its charts and styles itself and runs no script.
"""

from satori.report.actions import action_section
from satori.report.behaviour import length_section
from satori.report.blocks import Block, Code, Document, Section, Table, Text, Trajectories
from satori.report.corrections import self_correction_section
from satori.report.data import VARIANT_LABELS, ReportData
from satori.report.html_page import render_html
from satori.report.markdown_page import render_markdown
from satori.report.results import accuracy_section, headline_cards, level_section, ood_section
from satori.report.series import stage_results
from satori.report.training_course import training_section
from satori.report.values import number, percent, whole

DEMONSTRATION_KINDS: dict[str, str] = {
    "I": "no reflection",
    "II-I": "one reflection that verifies",
    "II-II": "a verifying reflection, then one that finds a mistake, and an exploration",
    "III-I": "one reflection that finds a mistake, and an exploration",
    "III-II": "two rounds of reflection and exploration",
}


def build_report(data: ReportData) -> tuple[str, str]:
    """The report as HTML and as Markdown."""
    document = compose(data)
    return render_html(document), render_markdown(document)


def compose(data: ReportData) -> Document:
    """The report's parts in reading order."""
    results = stage_results(data)
    terms = {name: text for name, text in data.set_descriptions.items() if name not in data.ood_sets}
    sections = (
        accuracy_section(results, terms),
        level_section(results),
        ood_section(results, data),
        self_correction_section(results),
        length_section(results, data),
        action_section(results, data),
        training_section(data),
        demonstration_section(data),
        trajectory_section(data),
        Section("recipe", "Recipe", (Code("The resolved configuration of this run", data.recipe_yaml),)),
    )
    return Document(data.title, VARIANT_LABELS[data.variant], headline_cards(data), sections)


def demonstration_section(data: ReportData) -> Section:
    """What synthesis made (paper section 4.1) and what it threw away."""
    made = data.summary.get("synthesis") or {}
    kinds = [*DEMONSTRATION_KINDS, *(kind for kind in made if kind not in DEMONSTRATION_KINDS)]
    counts = {kind: number(made, kind) for kind in kinds}
    total = sum(count or 0.0 for count in counts.values())
    rows = [
        (
            f"{kind}: {DEMONSTRATION_KINDS[kind]}" if kind in DEMONSTRATION_KINDS else kind,
            whole(count),
            percent(count / total if count is not None and total else None),
        )
        for kind, count in counts.items()
    ]
    rows.append(("All kinds", whole(total), percent(1.0 if total else None)))
    dropped = tuple(
        (reason, whole(count)) for reason, count in sorted(data.synthesis_dropped.items(), key=lambda item: -item[1])
    )
    blocks: list[Block] = [Table(("Kind", "Demonstrations", "Share"), tuple(rows), "Demonstrations by kind.")]
    if dropped:
        blocks.append(Table(("Reason", "Dropped"), dropped, "What synthesis dropped, and why."))
    else:
        blocks.append(Text("Nothing was dropped.", note=True))
    return Section("demonstrations", "Demonstrations", tuple(blocks))


def trajectory_section(data: ReportData) -> Section:
    """Sampled responses, grouped by stage in the order of the pipeline."""
    places = {stage: place for place, stage in enumerate(data.stages)}
    ordered = tuple(sorted(data.trajectories, key=lambda sample: places.get(sample.stage, len(places))))
    if not ordered:
        return Section("trajectories", "Sampled trajectories", (Text("No trajectories were sampled.", note=True),))
    return Section("trajectories", "Sampled trajectories", (Trajectories(ordered),))
