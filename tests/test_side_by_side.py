"""Two pieces of work at once (satori.side_by_side)."""

import threading

import pytest
import torch

from satori.side_by_side import both

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def product() -> tuple[torch.dtype, int]:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype, threading.get_ident()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_compute_in_the_callers_precision(dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        (one, here), (other, elsewhere) = both(product, product, CPU)
    assert here != elsewhere
    assert one == other == dtype


def test_with_one_thread_one_comes_after_the_other():
    (_, here), (_, there) = both(product, product, CPU)
    assert here == there == threading.get_ident()
