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

from ctctl.cli.cluster import READING

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


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def the_pod() -> dict:
    return daemonset()["spec"]["template"]


def test_who_may_come_to_the_pods_and_who_asks_them() -> None:
    (policy,), (monitor,) = documents("network-policy.yaml"), documents("pod-monitor.yaml")
    labels, namespace = the_pod()["metadata"]["labels"], daemonset()["metadata"]["namespace"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert {one["metadata"]["namespace"] for one in (policy, monitor)} == {namespace}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"] == []
    (port,) = the_pod()["spec"]["containers"][0]["ports"]
    (rule,), (endpoint,) = policy["spec"]["ingress"], monitor["spec"]["podMetricsEndpoints"]
    assert rule["ports"] == [{"port": port["containerPort"], "protocol": port["protocol"]}]
    assert rule["from"]
    assert endpoint["port"] == port["name"]


def test_an_operator_may_read_and_nothing_else() -> None:
    roles = documents("operator-role.yaml")
    assert {one["kind"] for one in roles} == {"ClusterRole", "Role"}
    rights = {
        (what, verb) for one in roles for rule in one["rules"] for what in rule["resources"] for verb in rule["verbs"]
    }
    assert {verb for what, verb in rights if what != "pods/exec"} == {"get", "list"}
    assert {verb for what, verb in rights if what == "pods/exec"} == {"get", "create"}
    wide = [rule for one in roles if one["kind"] == "ClusterRole" for rule in one["rules"]]
    assert not any("exec" in what for rule in wide for what in rule["resources"])


def test_the_image_has_no_compiler() -> None:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE))
    build, final = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert "AS build" in build.splitlines()[0]
    installed = {
        word for line in re.findall(r"apt-get install (.*?)(?:&&|$)", final, re.MULTILINE) for word in line.split()
    }
    assert {"python3", "libbpf1"} <= installed
    assert not {word for word in installed if re.search(r"gcc|clang|llvm|make|-dev$|pip|venv", word)}
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", final, re.MULTILINE)
    assert json.loads(entry) == the_pod()["spec"]["containers"][0]["command"]
    for source in re.findall(r"^COPY --from=(\w+)", final, re.MULTILINE):
        assert source == "build"


def test_krews_manifest_is_one() -> None:
    """What krew's own linter asks for, as far as it can be seen before a release."""
    text = (
        (ROOT / "packaging/krew.yaml")
        .read_text()
        .replace("@VERSION@", "1.2.3")
        .replace("@ARCH@", "amd64")
        .replace("@URL@", "https://x")
    )
    manifest = yaml.safe_load(text.replace("@SHA256@", "0" * 64))
    assert (manifest["apiVersion"], manifest["kind"]) == ("krew.googlecontainertools.github.com/v1alpha2", "Plugin")
    spec = manifest["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert 0 < len(spec["shortDescription"]) <= 50
    assert not spec["shortDescription"].endswith(".")
    (platform,) = spec["platforms"]
    assert platform["selector"]["matchLabels"] == {"os": "linux", "arch": "amd64"}
    assert re.fullmatch(r"[0-9a-f]{64}", platform["sha256"])
    assert (ROOT / "packaging" / platform["bin"]).stat().st_mode & 0o111
    for command in re.findall(r"kubectl ctctl ([a-z ]+)", spec["description"]):
        assert command.split()[0] in READING


def rules() -> list[dict]:
    (document,) = documents("alerts.yaml")
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def test_alerts_ask_only_for_what_there_is_and_say_what_to_do() -> None:
    from ctctl.cli.cluster import command_of

    known = metric_names()
    asked = {name for rule in rules() for name in re.findall(r"\bctctl_\w+", rule["expr"])}
    assert asked <= known, asked - known
    wanted = {"ctctl_bpf_map_pressure", "ctctl_datapath_ct_create_failed_total", "ctctl_snat_port_pressure"}
    assert wanted <= asked
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert "$labels.instance" in rule["annotations"]["summary"], rule["alert"]
        told = rule["annotations"]["description"].replace("{{ $labels.remote }}", "x")
        for text in re.findall(r"\bctctl ([a-z][^.;,]*)", told):
            assert command_of(shlex.split(text)) is not None, text


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(documents("alerts.yaml")[0]["spec"]))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


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
