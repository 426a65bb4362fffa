"""The files in deploy/: that they parse, and agree with the command line and the metrics that exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))


def metric_names() -> set[str]:
    """Names of all metrics that ctctl can export, as samples are called."""
    from prometheus_client import generate_latest

    from ctctl.gc.metrics import GcMetrics
    from ctctl.metrics.tables import TablesCollector

    names = {"ctctl_datapath_events_lost_total", "ctctl_datapath_ct_create_failed_total"}
    of_gc = text_string_to_metric_families(generate_latest(GcMetrics().registry).decode())
    for family in (*TablesCollector(Path("/nonexistent")).describe(), *of_gc):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def parses(arguments: list[str]) -> None:
    """Hold a ctctl command line against the real parser, without running it."""
    from ctctl.cli.main import COMMANDS, _load

    assert arguments[0] in COMMANDS
    command = _load(arguments[0])
    context = command.make_context(arguments[0], arguments[1:], resilient_parsing=False)
    rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
    if rest:
        name, sub, more = command.resolve_command(context, rest)
        sub.make_context(name, more, parent=context)


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_unit_starts_a_command_that_exists(unit: Path) -> None:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read(unit)
    assert {"Unit", "Service", "Install"} <= set(parsed.sections())
    words = shlex.split(parsed["Service"]["ExecStart"])
    assert Path(words[0]).name == "ctctl"
    parses(words[1:])


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # The binary need not be where the unit will find it.
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/bin/ctctl", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert unit.name not in done.stderr, done.stderr


def daemonset() -> dict:
    documents = list(yaml.safe_load_all((DEPLOY / "daemonset.yaml").read_text()))
    assert [d["kind"] for d in documents] == ["Namespace", "ServiceAccount", "DaemonSet"]
    return documents[-1]


def test_daemonset_is_read_only_and_runs_a_command_that_exists() -> None:
    spec = daemonset()["spec"]
    template = spec["template"]
    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    assert container["command"] == ["ctctl"]
    parses(container["args"])
    assert "--allow-foreign" not in container["args"]
    (mount,) = container["volumeMounts"]
    assert mount["readOnly"] is True
    assert {v["name"] for v in template["spec"]["volumes"]} == {mount["name"]}
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
    assert f":{ports['metrics']}" in container["args"]


def test_the_collecting_form_in_the_comment_parses_too() -> None:
    text = (DEPLOY / "daemonset.yaml").read_text()
    (args,) = re.findall(r"^#\s+(\[gc,.*\])$", text, re.MULTILINE)
    parses([str(word) for word in yaml.safe_load(args)])


def test_dashboard_asks_only_for_metrics_that_exist() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    known, panels = metric_names(), dashboard["panels"]
    asked = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"\bctctl_\w+", target["expr"])
    }
    assert asked <= known, asked - known
    assert {"ctctl_bpf_map_pressure", "ctctl_datapath_conntrack_gc_interval_seconds"} <= asked
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(cells)) == len(cells)
    variables = {v["name"] for v in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used <= variables


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_is_exposed_little(unit: Path) -> None:
    """systemd's own judgement: at most 3 of 10, private files, and no address but this machine's."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", unit], capture_output=True, text=True, check=False
    )
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= 3
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    assert parser["Service"]["UMask"] == "0077"
    assert not re.search(r"0\.0\.0\.0|\[::\]|\s:\d", parser["Service"]["ExecStart"])
