"""load, apply, unload, status and features as a user meets them: one clear line, the right exit status."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from ctctl.cli.main import main
from tests.support.children import CTCTL
from tests.support.mounts import unmount
from tests.support.nodes import TestNode, make_node, run
from tests.support.otheruser import other_user
from tests.support.standin import stand_ins
from tests.support.terminal import typed
from tests.support.wait import PATIENCE_S

pytestmark = pytest.mark.kernel


def ctctl(*args: str | Path, prefix: tuple[str, ...] = (), check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run a command line: in this process, or behind ``prefix`` in one of its own."""
    command = list(map(str, args))
    if prefix:
        whole = [*prefix, *CTCTL, *command]
        done = subprocess.run(whole, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    else:
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = main(command)
        done = subprocess.CompletedProcess(command, status, stdout.getvalue(), stderr.getvalue())
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stderr.startswith("ctctl: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.fixture
def node() -> Iterator[TestNode]:
    with stand_ins(), make_node() as made:
        yield made
        ctctl("unload", "--node", made.name, check=None)


@pytest.fixture
def file(node: TestNode, tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(node.text())
    return path


def load(node: TestNode, file: Path, *args: str, **how: object) -> subprocess.CompletedProcess[str]:
    return ctctl("load", "-f", file, "--netns", node.name, *args, **how)  # type: ignore[arg-type]


def write(path: Path, text: str, old: str, new: str) -> Path:
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_load_status_apply_unload(node: TestNode, file: Path, tmp_path: Path) -> None:
    done = load(node, file)
    assert f"loaded node {node.name}" in one_line(done)
    told = json.loads(ctctl("status", "--node", node.name, "-o", "json").stdout)
    assert told["schema"] == "ctctl/status/v1"
    mine = next(found for found in told["nodes"] if found["name"] == node.name)
    assert mine["problems"] == []
    assert {program["interface"] for program in mine["programs"]} == {"eth0", "lxc1"}
    changed = write(tmp_path / "b.yaml", file.read_text(), "port: 8000", "port: 8001")
    planned = json.loads(ctctl("apply", "-f", changed, "--dry-run", "-o", "json").stdout)
    assert planned["planned"] is True
    assert [(c["action"], c["kind"], c["after"]) for c in planned["changes"]][:1] == [
        ("change", "backend", "10.244.7.11:8001 active")
    ]
    assert "record changed" in ctctl("apply", "-f", changed, "--yes").stderr
    assert "nothing to change" in ctctl("apply", "-f", changed, "--yes").stderr
    assert f"would unload node {node.name}" in ctctl("unload", "--node", node.name, "--dry-run").stderr
    assert f"unloaded node {node.name}" in ctctl("unload", "--node", node.name).stderr
    assert not node.dir.exists()


def test_output_keeps_to_its_schemas(node: TestNode, file: Path) -> None:
    from ctctl.cli.schemas import whole

    validator = jsonschema.Draft202012Validator(whole())
    commands: list[list[str | Path]] = [
        ["load", "-f", file, "--netns", node.name, "--dry-run"],
        ["load", "-f", file, "--netns", node.name],
        ["status", "--node", node.name],
        ["apply", "-f", write(file, file.read_text(), "port: 8000", "port: 8001"), "--dry-run"],
        ["apply", "-f", file, "--yes"],
        ["unload", "--node", node.name, "--dry-run"],
        ["unload", "--node", node.name],
        ["features"],
    ]
    for command in commands:
        document = json.loads(ctctl(*command, "-o", "json").stdout)
        assert [error.message for error in validator.iter_errors(document)] == [], command
        assert document["schema"] == f"ctctl/{command[0]}/v1"


def test_status_for_people(node: TestNode, file: Path) -> None:
    load(node, file)
    shown = ctctl("status", "--node", node.name).stdout
    assert shown.startswith(f"Node {node.name}: device eth0, netns /run/netns/{node.name}, attached by ")
    lines = [line.split() for line in shown.splitlines()]
    assert ["PROGRAM", "ENDPOINT", "INTERFACE", "DIRECTION", "MODE", "ID", "STATE"] in lines
    assert any(line[:1] == ["cilium_ct4_global"] and "4096" in line for line in lines)
    run("ip", "-n", node.name, "link", "del", "lxc1")
    assert "! from_container of lxc1: interface lxc1 is gone" in ctctl("status", "--node", node.name).stdout
    assert ctctl("status", "-o", "name", "--node", node.name).stdout == f"{node.name}\n"


def answer(reply: bytes, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ctctl with ``reply`` typed at a terminal."""
    with typed(reply) as terminal:
        return subprocess.run(
            [*CTCTL, *map(str, args)], stdin=terminal, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )


def test_what_destroys_asks_at_a_terminal(node: TestNode, file: Path, tmp_path: Path) -> None:
    load(node, file)
    changed = write(tmp_path / "b.yaml", file.read_text(), "port: 8000", "port: 8001")
    refused = answer(b"n\n", "apply", "-f", changed)
    assert refused.returncode == 1
    assert "not confirmed, nothing changed" in refused.stderr
    assert "10.244.7.11:8001" in refused.stdout
    assert "1 record changed" in answer(b"y\n", "apply", "-f", changed).stderr
    assert answer(b"n\n", "unload", "--node", node.name).returncode == 1
    assert node.dir.exists()
    assert answer(b"y\n", "unload", "--node", node.name).returncode == 0
    assert not node.dir.exists()


def test_load_report_and_dry_run(node: TestNode, file: Path) -> None:
    plan = json.loads(load(node, file, "--dry-run", "-o", "json").stdout)
    assert plan["planned"] is True
    assert not node.dir.exists()
    report = json.loads(load(node, file, "-o", "json").stdout)
    assert {**report, "planned": True} == plan
    assert load(node, file, "-o", "csv", check=2).stderr.startswith("ctctl: -o csv")


def test_node_option_renames_the_only_node(node: TestNode, file: Path) -> None:
    text = node.text().replace(f"name: {node.name}", "name: as-in-file")
    file.write_text(text)
    load(node, file, "--node", node.name)
    assert node.dir.exists()


def test_several_nodes_on_a_bpffs_of_their_own(node: TestNode, file: Path, tmp_path: Path) -> None:
    own = tmp_path / "bpf"
    where = ("--bpffs", str(own))
    try:
        # In a process of its own: these are the tests' mounts, and this one is the first that has them.
        assert f"mounted a BPF file system at {own}" in load(node, file, *where, prefix=("env",)).stderr
        with make_node() as other:
            second = tmp_path / "other.yaml"
            second.write_text(other.text())
            load(other, second, *where)
            told = json.loads(ctctl("status", *where, "-o", "json").stdout)
            assert [found["name"] for found in told["nodes"]] == sorted([node.name, other.name])
            assert one_line(ctctl("unload", *where, check=2)).rstrip().endswith("say which with --node, or --all")
            plan = json.loads(ctctl("unload", "--all", "--dry-run", *where, "-o", "json").stdout)
            assert [len(found["detached"]) for found in plan["nodes"]] == [4, 4]
            assert ctctl("unload", "--all", *where).stderr.count("unloaded node") == 2
        assert not (own / "ctctl").exists()
        assert not node.dir.exists()
    finally:
        unmount(own)


BAD_FILES = [
    pytest.param("datapath:", "datapaths:", "unknown key 'datapaths'", id="unknown key"),
    pytest.param("ip: 10.244.7.11", "ip: 10.244.7.311", "'10.244.7.311' is not an IPv4 address", id="bad address"),
    pytest.param("device: eth0", "device: eth9", "there is no interface 'eth9'", id="missing device"),
    pytest.param("interface: lxc1", "interface: lxc9", "there is no interface 'lxc9'", id="missing interface"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_FILES)
def test_wrong_node_file(node: TestNode, file: Path, old: str, new: str, message: str) -> None:
    write(file, node.text(), old, new)
    said = one_line(load(node, file, check=2))
    assert message in said
    assert str(file) in said
    assert not node.dir.exists()


def test_duplicate_id(node: TestNode, file: Path) -> None:
    services = node.document()["services"]
    other = {**services[0], "name": "other", "port": 81}
    file.write_text(node.text(services=[*services, other]))
    assert "id 15 is already used" in one_line(load(node, file, check=2))
    assert not node.dir.exists()


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "there is no such file" in one_line(ctctl("load", "-f", tmp_path / "none.yaml", check=1))
    assert "no node 'nosuchnode'" in one_line(ctctl("unload", "--node", "nosuchnode", check=1))
    assert "no node 'nosuchnode'" in one_line(ctctl("status", "--node", "nosuchnode", check=1))


def test_size_change_needs_the_flag(node: TestNode, file: Path) -> None:
    load(node, file)
    write(file, node.text(), "tcp-max: 4096", "tcp-max: 64")
    said = one_line(load(node, file, check=2))
    assert "cilium_ct4_global from 4096 to 64 entries" in said
    assert "--resize" in said
    load(node, file, "--resize")
    assert "ct4_global" in ctctl("status", "--node", node.name).stdout


def test_settings_of_the_node_take_a_load(node: TestNode, file: Path) -> None:
    load(node, file)
    write(file, node.text(), "datapath:\n", "datapath:\n  accounting: true\n")
    said = one_line(ctctl("apply", "-f", file, "--yes", check=2))
    assert "accounting changes from 0 to 1: that takes ctctl load" in said


@pytest.mark.parametrize("wrong", [("-o", "cilium"), ("--fields", "acton"), ("--sort", "nothing")])
def test_wrong_output_options_are_refused_before_anything_changes(
    node: TestNode, file: Path, wrong: tuple[str, str]
) -> None:
    load(node, file)
    write(file, file.read_text(), "port: 8000", "port: 8001")
    one_line(ctctl("apply", "-f", file, "--yes", *wrong, check=2))
    assert "1 record would change" in ctctl("apply", "-f", file, "--dry-run").stderr


def test_apply_needs_a_loaded_node(node: TestNode, file: Path) -> None:
    assert f"no node {node.name!r}" in one_line(ctctl("apply", "-f", file, "--yes", check=1))


KUBERNETES = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: default}
  spec:
    type: ClusterIP
    clusterIP: 10.68.9.9
    clusterIPs: [10.68.9.9]
    ports: [{port: 80, targetPort: 8080, protocol: TCP}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{port: 8080, protocol: TCP, name: ""}]
  endpoints: [{addresses: [10.244.7.11], conditions: {ready: true}}]
"""


def test_apply_kubernetes_objects(node: TestNode, file: Path, tmp_path: Path) -> None:
    load(node, file)
    objects = tmp_path / "objects.yaml"
    objects.write_text(KUBERNETES)
    done = json.loads(ctctl("apply", "-f", objects, "--node", node.name, "--yes", "-o", "json").stdout)
    changed = {(c["action"], c["kind"], c["name"]) for c in done["changes"]}
    assert ("add", "service", "10.68.9.9:80") in changed
    assert ("remove", "service", "10.68.0.1:80") in changed
    # The endpoints stay as the node file that was loaded says.
    assert not {kind for _action, kind, _name in changed} & {"endpoint", "identity", "policy"}


@pytest.mark.parametrize("command", ["load", "unload", "status", "apply"])
def test_without_permission(node: TestNode, file: Path, command: str) -> None:
    load(node, file)
    readable = Path(f"/tmp/{node.name}.yaml")
    readable.write_text(file.read_text())
    readable.chmod(0o644)
    try:
        args = {
            "load": ["-f", str(readable), "--netns", node.name],
            "apply": ["-f", str(readable)],
            "unload": ["--node", node.name],
            "status": [],
        }[command]
        said = one_line(ctctl(command, *args, prefix=other_user(), check=4))
        assert "root" in said
    finally:
        readable.unlink()


@pytest.mark.parametrize("command", ["status", "unload"])
def test_a_bpffs_for_root_only(command: str) -> None:
    """As systemd and ctctl mount it: what is missing is a right, not a better option."""
    own = tempfile.mkdtemp(prefix="ctctl-bpf", dir="/tmp")
    run("mount", "-t", "bpf", "-o", "mode=0700", "bpf", own)
    try:
        said = one_line(ctctl(command, "--bpffs", own, prefix=other_user(), check=4))
        assert "is not readable for this user: run as root" in said
    finally:
        unmount(own)
        Path(own).rmdir()


def in_private_mounts(script: str) -> tuple[str, ...]:
    """A command prefix: run the rest in a mount namespace of its own, after ``script``."""
    return ("unshare", "-m", "sh", "-c", f'{script}; "$@"; exit $?', "sh")


def test_a_plain_folder_becomes_a_bpffs(node: TestNode, file: Path) -> None:
    bare = "while mountpoint -q /sys/fs/bpf; do umount /sys/fs/bpf || exit 9; done"
    done = load(node, file, prefix=in_private_mounts(bare))
    assert "mounted a BPF file system at /sys/fs/bpf" in done.stderr
    # Of this one alone: another program's bpffs elsewhere may hold nodes.
    told = json.loads(ctctl("status", "-o", "json", "--bpffs", "/sys/fs/bpf", prefix=in_private_mounts(bare)).stdout)
    assert told["nodes"] == []


def test_a_bad_file_mounts_nothing(node: TestNode, file: Path, tmp_path: Path) -> None:
    own = tmp_path / "bpf"
    write(file, node.text(), "lxc1", "nowhere0")
    assert "there is no interface 'nowhere0'" in one_line(load(node, file, "--bpffs", own, check=2))
    assert not own.exists()


def test_a_mount_that_would_vanish_is_refused(node: TestNode, file: Path) -> None:
    bare = "while mountpoint -q /sys/fs/bpf; do umount /sys/fs/bpf || exit 9; done"
    prefix = ("unshare", "-m", "sh", "-c", f'{bare}; exec "$@"', "sh")
    said = one_line(load(node, file, prefix=prefix, check=4))
    assert "would vanish" in said


def test_a_kernel_without_btf(node: TestNode, file: Path) -> None:
    said = one_line(load(node, file, prefix=in_private_mounts("mount -t tmpfs none /sys/kernel/btf"), check=4))
    assert "no BTF" in said
    assert not node.dir.exists()


def test_features() -> None:
    told = json.loads(ctctl("features", "-o", "json").stdout)
    assert told["schema"] == "ctctl/features/v1"
    by_name = {feature["name"]: feature for feature in told["features"]}
    assert by_name["map-lru-hash"]["available"] is True
    assert all(feature["needed_for"] for feature in told["features"])
    assert "tcx" in by_name
    shown = ctctl("features").stdout.splitlines()
    assert shown[0].split()[:2] == ["NAME", "AVAILABLE"]
    assert len(shown) == len(by_name) + 1


def test_help_is_quick_to_import() -> None:
    probe = "import sys; from ctctl.cli.main import main; main(['load', '--help']); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert "'numpy'" not in shown
    assert "'pyroute2'" not in shown
    assert "ctctl load -f node.yaml" in shown
