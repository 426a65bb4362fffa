"""A kernel without TCX (before Linux 6.6): what is attached another way, and what is refused in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ctctl.kernel.link import has_tcx

pytestmark = [pytest.mark.kernel, pytest.mark.skipif("has_tcx()", reason="this kernel has TCX")]


FLOW = "tcp 10.0.0.1:1 > 10.0.0.2:2"


def probed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "ctctl",
            "trace",
            "tcp 10.0.0.1:1 > 10.0.0.2:2",
            "--device",
            "lo",
            "--for",
            "1s",
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_probes_are_filters() -> None:
    done = probed()
    assert done.returncode == 0, done.stderr
    assert "probe: lo ingress: a clsact filter before nothing" in done.stderr
    assert "ready: probes attached" in done.stderr


def test_links_are_refused_in_one_line() -> None:
    done = probed("--attach", "tcx")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert "this kernel has no TCX links (Linux 6.6): use --attach tc or auto" in done.stderr


def test_features_says_so() -> None:
    from ctctl.kernel.features import probe

    tcx, clsact = probe(("tcx", "clsact"))
    assert (tcx.available, clsact.available) == (False, True)
    assert "this kernel has no TCX (Linux 6.6)" in tcx.detail
    assert not has_tcx()
