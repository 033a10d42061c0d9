"""Numbers of a report: looking them up where they may be missing, and writing them down."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

DASH = "–"


def number(data: Any, *keys: str) -> float | None:
    """The finite number under nested keys; None where a key is missing or the value is null or not a number."""
    for key in keys:
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    if isinstance(data, bool) or not isinstance(data, int | float) or not math.isfinite(data):
        return None
    return float(data)


def interval(data: Any, *keys: str) -> tuple[float, float] | None:
    """The pair of finite numbers under nested keys, None where there is none."""
    for key in keys:
        if not isinstance(data, Mapping):
            return None
        data = data.get(key)
    if not isinstance(data, Sequence) or len(data) != 2:
        return None
    low, high = number(data[0]), number(data[1])
    return None if low is None or high is None else (low, high)


def percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}%"


def percent_range(pair: tuple[float, float] | None) -> str:
    """An interval of rates: ``58.0–64.3%``."""
    return DASH if pair is None else f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}%"


def percent_with_range(value: float | None, pair: tuple[float, float] | None) -> str:
    """A rate with its interval in brackets, without brackets where the interval is unknown."""
    return percent(value) if value is None or pair is None else f"{percent(value)} ({percent_range(pair)})"


def count_with_share(count: float | None, share: float | None) -> str:
    """``308 (99.7%)``; without brackets where the share is unknown."""
    return whole(count) if count is None or share is None else f"{whole(count)} ({percent(share)})"


def p_value(p: float) -> str:
    """Three decimals, below which only that it is smaller."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def points(value: float | None, before: float | None) -> str:
    """The change of a rate in percentage points, signed."""
    return DASH if value is None or before is None else f"{100 * (value - before):+.1f} points"


def decimal(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def significant(value: float | None) -> str:
    """Three significant digits, for quantities of unknown scale."""
    return DASH if value is None else f"{value:.3g}"


def whole(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """``1 h 23 min``, ``4 min 10 s`` or ``12 s``."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def buckets(records: Sequence[Mapping[str, float]], count: int) -> list[Sequence[Mapping[str, float]]]:
    """A training run cut into at most ``count`` stretches of nearly equal length."""
    count = min(count, len(records))
    edges = [round(i * len(records) / count) for i in range(count + 1)] if count else [0]
    return [records[start:end] for start, end in pairwise(edges)]
