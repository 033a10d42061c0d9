"""The analyses of any evaluated run as a document: accuracy, verdicts, corrections, lengths, actions (paper section 6).

The same tables and charts as in a pipeline's report, with benchmarks or runs in the place of stages. What it leaves
out: comparison with the paper, which :mod:`satori.report.comparison` has.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from satori.grading.forms import Status
from satori.report.actions import action_blocks
from satori.report.behaviour import length_blocks
from satori.report.blocks import Document, Section, Table
from satori.report.corrections import self_correction_section
from satori.report.results import accuracy_section, level_section
from satori.report.series import ResultSet, Series, named_results
from satori.report.values import number, percent, whole


def analysis_document(title: str, results: Mapping[str, Mapping[str, Any]], kind: str = "Benchmark") -> Document:
    """A document of results by label, each as :func:`satori.evaluation.analyses.analyse` gives it.

    ``kind`` says what the labels name, such as benchmarks or runs.
    """
    found = named_results(kind, results)
    graded = replace(found, series=tuple(one for one in found.series if len(one.results.get("by_level") or {}) > 1))
    sections = [accuracy_section(found, {}), _verdict_section(found)]
    if sampled := [one for one in found.series if one.results.get("sampling")]:
        sections.append(_sampling_section(kind, sampled))
    if graded.series:
        sections += [level_section(graded), Section("length", "Response length", length_blocks(graded, {}))]
    sections += [self_correction_section(found), Section("actions", "Use of meta-actions", action_blocks(found))]
    return Document(title, "", (), tuple(sections))


def _verdict_section(results: ResultSet) -> Section:
    header = (results.kind, "Responses", *(status.value.replace("_", " ") for status in Status))
    rows = tuple(
        (
            one.label,
            whole(number(one.results, "responses")),
            *(whole(number(one.results, "statuses", status.value)) for status in Status),
        )
        for one in results.series
    )
    caption = "What the grader said of the responses. One that was cut off counts as wrong even where it said correct."
    return Section("verdicts", "Verdicts", (Table(header, rows, caption),))


def _sampling_section(kind: str, sampled: list[Series]) -> Section:
    measures = {"pass_at_k": "pass@k", "majority_at_k": "majority@k", "best_of_k": "best-of-k"}
    rows = tuple(
        (one.label, k, *(percent(number(one.results, "sampling", measure, k)) for measure in measures))
        for one in sampled
        for k in one.results["sampling"]["pass_at_k"]
    )
    return Section("samples", "Several samples", (Table((kind, "k", *measures.values()), rows, "By k."),))
