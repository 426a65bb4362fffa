"""The committed figures of the kernels that `make test-kernels` boots: under the limit, of every kernel promised."""

from __future__ import annotations

import pytest

from ctctl.kernel.object import OBJECTS
from tests.kernels.complexity import FIGURES, LIMIT, committed

KERNELS = sorted(path.stem for path in FIGURES.glob("*.json"))


def test_the_oldest_and_newer_kernels_have_figures() -> None:
    assert "6.1" in KERNELS
    assert len(KERNELS) >= 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_figures_are_under_the_limit(kernel: str) -> None:
    """A program that is new has none until the kernels are booted again; ``test_complexity`` holds it meanwhile."""
    told = committed(kernel)
    assert {case for case, figure in told.items() if figure >= LIMIT} == set()
    assert {case.split("-")[0] for case in told} <= {path.name.split(".")[0] for path in OBJECTS.glob("*.bpf.o")}
