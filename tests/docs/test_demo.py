"""``make demo`` where this user or this kernel may not do the half of it that needs BPF."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.names import unique_name
from tests.support.otheruser import other_user
from tests.support.withoutcall import without_bpf

ROOT = Path(__file__).parents[2]


#: Of whom, or of which kernel; what is said to be missing.
_LACKING = {
    "rights": (("setpriv", "--bounding-set=-all,+sys_admin,+dac_override", "--inh-caps=-all"), "CAP_NET_ADMIN"),
    "bpf": (without_bpf(errno.ENOSYS), "CONFIG_BPF_SYSCALL"),
    "leave": (without_bpf(errno.EPERM), "this kernel forbids it"),
    "namespaces": (("unshare", "--user", "--map-root-user", "--mount", "--net"), "this kernel forbids it"),
    "anything": ((), "CAP_NET_ADMIN"),
    "place": (("unshare", "--mount", "sh", "-ec", 'mount -t tmpfs -o ro none /run; exec "$@"', "sh"), "Read-only file"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("lacking", _LACKING)
def test_what_needs_no_bpf_is_shown_and_the_rest_named(lacking: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a root whose rights can be taken away")
    before, said = _LACKING[lacking]
    # This checkout's, whatever the environment has installed.
    program = tmp_path / "ctctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ctctl "$@"\n')
    program.chmod(0o755)
    if lacking == "anything":
        before = other_user(reach=[tmp_path])
    command = [*before, "env", f"LAB={unique_name('demo')}", f"CTCTL={program}", ROOT / "tools/demo.sh"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # What this user or this kernel may not is no fault of the demo's; anything else is.
    assert done.returncode == (1 if lacking == "place" else 0), done.stderr
    assert said in done.stderr
    assert "closed, expired: a RST ended it" in done.stdout
    assert "dry run, nothing deleted: 93 alive, 17 expired" in done.stderr
    assert "Not shown here, for the reason above" in done.stdout
