"""The parts that a report is put together from: values written for reading, and charts as SVG text."""

import re

from satori.report.canvas import INK
from satori.report.charts import (
    Bars,
    Grid,
    Line,
    Panel,
    grouped_bars,
    heat_maps,
    running_mean,
    small_multiples,
    stacked_shares,
)
from satori.report.values import (
    DASH,
    buckets,
    count_with_share,
    decimal,
    duration,
    interval,
    number,
    p_value,
    percent,
    points,
)


def test_number_finds_only_finite_numbers() -> None:
    nested = {"a": {"b": 2, "c": None, "d": float("nan"), "e": True, "f": "2"}}
    assert number(nested, "a", "b") == 2.0
    assert [number(nested, "a", key) for key in "cdefg"] == [None] * 5
    assert number(nested, "a", "b", "c") is None
    assert interval({"ci": [0.1, 0.2]}, "ci") == (0.1, 0.2)
    assert interval({"ci": [0.1, None]}, "ci") is None


def test_values_are_written_for_reading() -> None:
    assert (count_with_share(308, 0.9968), count_with_share(0, None)) == ("308 (99.7%)", "0")
    assert [p_value(p) for p in (1.0, 0.0213, 0.0009)] == ["1.000", "0.021", "<0.001"]
    assert (percent(0.125), percent(None), decimal(3.14159, 2)) == ("12.5%", DASH, "3.14")
    assert (points(0.5, 0.612), points(0.7, 0.6)) == ("-11.2 points", "+10.0 points")
    assert [duration(s) for s in (12.4, 250, 5025, 3599.7)] == ["12 s", "4 min 10 s", "1 h 23 min", "1 h 00 min"]


def test_buckets_cover_every_record_once() -> None:
    records = [{"step": float(i)} for i in range(11)]
    found = buckets(records, 4)
    assert [record for bucket in found for record in bucket] == records
    assert len(found) == 4 and all(len(bucket) in (2, 3) for bucket in found)
    assert buckets([], 4) == []
    assert len(buckets(records[:2], 4)) == 2


def test_running_mean_narrows_at_the_ends() -> None:
    assert running_mean([1.0, 2.0, 6.0], 3) == [1.5, 3.0, 4.0]
    assert running_mean([1.0, 2.0], 1) == [1.0, 2.0]


def test_charts_without_data_are_empty() -> None:
    assert grouped_bars("n", ["a"], [Bars("x", "red", [None])], "y", is_rate=True) == ""
    assert stacked_shares("n", ["a"], [Bars("x", "red", [None])]) == ""
    assert small_multiples("n", [Panel("p", [Line("x", "red", [], [])])]) == ""
    assert heat_maps("n", [Grid("g", ["a"], ["b"], [[None]])]) == ""


def test_chart_labels_are_text_in_svg() -> None:
    svg = grouped_bars("n", ["<a> $x$"], [Bars("x", INK, [0.5], [(0.4, 0.6)])], "rate", is_rate=True)
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert "&lt;a&gt; $x$" in svg and "http" not in svg and "<style" not in svg


def test_heat_maps_are_drawn_as_paths_with_their_shares_in_percent() -> None:
    grid = Grid("<g>", ["from a", "from b"], ["to c"], [[0.25], [None]])
    svg = heat_maps("n", [grid])
    assert "<image" not in svg and "&lt;g&gt;" in svg
    assert sorted(re.findall(r">(25|0|from a|from b|to c)<", svg)) == ["25", "from a", "from b", "to c"]
