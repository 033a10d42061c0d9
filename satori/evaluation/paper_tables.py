"""The paper's rows of its two tables of results (section 5), quoted to stand beside ours.

Percentages and averages are as printed there: zero-shot, greedy, pass@1. What it leaves out: the paper's other
models, and its ablations.
"""

from dataclasses import dataclass

MATHS = ("gsm8k", "math500", "olympiadbench", "amc2023", "aime2024")
OUT_OF_DOMAIN = ("folio", "boardgameqa", "cruxeval", "strategyqa", "tablebench", "mmlu_pro_stem")

BENCHMARK_LABELS: dict[str, str] = {
    "gsm8k": "GSM8K",
    "math500": "MATH500",
    "olympiadbench": "OlympiadBench",
    "amc2023": "AMC2023",
    "aime2024": "AIME2024",
    "folio": "FOLIO",
    "boardgameqa": "BoardgameQA",
    "cruxeval": "CRUXEval",
    "strategyqa": "StrategyQA",
    "tablebench": "TableBench",
    "mmlu_pro_stem": "MMLU-Pro STEM",
}

# How many problems the paper's figures rest on; it gives that of BoardgameQA in thousands only.
PAPER_SIZES: dict[str, int] = {
    "gsm8k": 1319,
    "math500": 500,
    "olympiadbench": 674,
    "amc2023": 40,
    "aime2024": 30,
    "folio": 203,
    "boardgameqa": 15_000,
    "cruxeval": 800,
    "strategyqa": 2290,
    "tablebench": 491,
    "mmlu_pro_stem": 5371,
}


@dataclass(frozen=True)
class PaperRow:
    """One model of the paper: its percentages in the order of the table's benchmarks, and their printed average."""

    model: str
    percentages: tuple[float, ...]
    average: float


MATHS_ROWS: tuple[PaperRow, ...] = (
    PaperRow("Qwen2.5-Math-7B-Instruct", (95.2, 83.6, 41.6, 62.5, 16.7), 59.9),
    PaperRow("Satori-Qwen-7B", (93.2, 85.6, 46.6, 67.5, 20.0), 62.6),
    PaperRow("Satori-Qwen-7B round 2", (93.9, 83.6, 48.5, 72.5, 23.3), 64.4),
)
OUT_OF_DOMAIN_ROWS: tuple[PaperRow, ...] = (
    PaperRow("Qwen2.5-Math-7B-Instruct", (68.9, 51.3, 28.0, 85.3, 36.2, 45.2), 52.5),
    PaperRow("Satori-Qwen-7B", (71.4, 61.8, 42.5, 86.3, 43.4, 56.7), 60.4),
    PaperRow("Satori-Qwen-7B round 2", (72.9, 58.5, 41.1, 90.4, 44.6, 57.4), 60.8),
)
