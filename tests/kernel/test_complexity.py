"""Every program of ours through this kernel's verifier: it loads, and costs less than half of what is allowed."""

from __future__ import annotations

import pytest

from ctctl.errors import KernelError, VerifierError
from tests.kernels.complexity import LIMIT, SAME_ORDER, SMALL, Case, cases, committed, running

pytestmark = pytest.mark.kernel

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_verified_instructions(case: Case) -> None:
    try:
        figure = case.measure()
    except VerifierError:
        raise
    except KernelError as error:
        if case.program != "probe_return":
            raise
        pytest.skip(f"this kernel lets no BPF program be traced by fexit: {error}")
    assert figure < LIMIT
    before = committed(running()).get(str(case))
    if before is not None:
        assert figure < SMALL or before / SAME_ORDER < figure < before * SAME_ORDER, (
            f"{figure} instructions, {before} when the figures were written: python -m tests.kernels.complexity --write"
        )
