"""``make demo`` where this user or this kernel may not do the half of it that needs BPF."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.kernel
def test_without_rights_the_offline_half_is_shown_and_the_rest_named() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a root whose rights can be taken away")
    rights = ("setpriv", "--bounding-set=-all,+sys_admin,+dac_override", "--inh-caps=-all")
    command = [*rights, "env", "LAB=demo-norights", ROOT / "tools/demo.sh"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "CAP_NET_ADMIN" in done.stderr
    assert "closed, expired: a RST ended it" in done.stdout
    assert "dry run, nothing deleted: 93 alive, 17 expired" in done.stderr
    assert "Not shown here, for the reason above" in done.stdout
