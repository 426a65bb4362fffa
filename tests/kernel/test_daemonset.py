"""The DaemonSet's container has the rights that what is run in it needs, and no more is told to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.support.children import CTCTL
from tests.support.gctables import table_dir
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.kernel

DEPLOY = Path(__file__).parents[2] / "deploy"


def as_in_the_pod(*words: object) -> subprocess.CompletedProcess[bytes]:
    """A command as the container's security context has it."""
    *_, daemonset = yaml.safe_load_all((DEPLOY / "daemonset.yaml").read_text())
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    context = container["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context["allowPrivilegeEscalation"] is False
    rights = ",".join(["-all", *(f"+{name.lower()}" for name in context["capabilities"]["add"])])
    how = [
        "setpriv",
        f"--reuid={context['runAsUser']}",
        "--no-new-privs",
        f"--bounding-set={rights}",
        "--inh-caps=-all",
    ]
    return subprocess.run([*how, *CTCTL, *map(str, words)], capture_output=True, timeout=PATIENCE_S, check=False)


def test_what_runs_in_the_pod_has_the_rights_it_needs(tmp_path: Path) -> None:
    with table_dir(tmp_path) as made:
        for name in ("cilium_ct4_global", "cilium_snat_v4_external"):
            made.create(name)
        made.fill("cilium_ct4_global", 40, np.random.default_rng(1))
        page = as_in_the_pod("metrics", "serve", "--once", "--from", made.path)
        assert page.returncode == 0, page.stderr
        assert b"ctctl_bpf_map_pressure" in page.stdout
        assert b"ctctl_tables_unreadable 0.0" in page.stdout
        sent = as_in_the_pod("ct", "export", "-", "--format", "snapshot", "--from", made.path)
        assert sent.returncode == 0, sent.stderr
        assert len(sent.stdout) > 40 * 14
