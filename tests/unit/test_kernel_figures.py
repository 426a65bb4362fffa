"""The committed figures of the kernels that `make test-kernels` boots: complete, and under the limit."""

from __future__ import annotations

import pytest

from tests.kernels.complexity import FIGURES, LIMIT, cases, committed

KERNELS = sorted(path.stem for path in FIGURES.glob("*.json"))


def test_the_oldest_and_newer_kernels_have_figures() -> None:
    assert "6.1" in KERNELS
    assert len(KERNELS) >= 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_figures_are_of_the_programs_that_there_are(kernel: str) -> None:
    """``probe_return`` is missing where fexit is forbidden; nothing else may be."""
    told = committed(kernel)
    assert {str(case) for case in cases()} - told.keys() <= {
        "proberet-probe_return-compiled",
        "proberet-probe_return-everything",
    }
    assert told.keys() <= {str(case) for case in cases()}
    assert max(told.values()) < LIMIT
