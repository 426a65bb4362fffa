"""What ``make dist`` builds, tried where a stranger has it: without compiler, libbpf, root or home."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.support.kubeapi import Cluster, served
from tests.support.names import unique_name
from tests.support.tools import tool

ROOT = Path(__file__).parents[2]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")
#: Nothing of this checkout, of its environment or of the user's is on the way.
CLEAN = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C.UTF-8")
#: An entry as Cilium 1.16 prints it.
DUMP = ROOT / "tests/data/samples/cilium-dbg-1.16.4/ct-list-global.ipv4-only.txt"

#: What a module does that must not be imported.
TRAP = "import os\nos._exit(77)\n"

#: A shell command in a mount namespace where libbpf, libelf, the compilers and make are not there.
BARE = """
lib=/usr/lib/*-linux-gnu
for file in $(ls $lib/libbpf.so.1.* $lib/libelf*.so* /usr/bin/clang-19 /usr/bin/gcc /usr/bin/make 2>/dev/null); do
  mount --bind /dev/null "$(realpath "$file")" || exit 99
done
exec "$@"
"""


def run(*command: object, check: bool = True, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
    """Run a program with a clean environment; its stderr is in the message when it fails."""
    words: Sequence[str] = [*CLEAN, *map(str, command)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def bare(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run("unshare", "--mount", "sh", "-c", BARE, "bare", *command, check=check)


@pytest.fixture(scope="session")
def open_place() -> Iterator[Path]:
    """A folder that every user reaches (pytest's own are root's alone)."""
    with tempfile.TemporaryDirectory(prefix="ctctl-dist-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@pytest.fixture(scope="session")
def dist(open_place: Path) -> Path:
    """The folder that ``make dist`` fills, all but the arm64 wheel."""
    place = open_place / "dist"
    command = [
        "env",
        f"DIST={place}",
        f"PYTHON={sys.executable}",
        ROOT / "tools/dist.sh",
        "sdist",
        "wheel",
        "pex",
        "krew",
        "deb",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("ctctl-*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, open_place: Path) -> Path:
    """``bin/ctctl`` of an environment that has the wheel and nothing else."""
    place = open_place / "env"
    # The system's: a user who is not root may not reach the interpreter that runs the tests.
    subprocess.run(["/usr/bin/python3", "-m", "venv", place], check=True)
    subprocess.run([place / "bin/pip", "install", "-qq", "--disable-pip-version-check", wheel], check=True)
    return place / "bin/ctctl"


def test_the_wheel_carries_everything_a_node_needs(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for source in (ROOT / "bpf").glob("*.bpf.c"):
        assert f"ctctl/bpf/{source.name.removesuffix('.c')}.o" in names
    for library in ("rows.so", "libbpf.so.1", "libelf.so.1", "libz.so.1", "build.json"):
        assert f"ctctl/native/{library}" in names
    for library in ("libbpf.so.1", "libelf.so.1", "libz.so.1"):
        assert f"ctctl/native/{library}.LICENSE" in names
    assert not [name for name in names if name.endswith((".c", ".h"))]
    assert any(name.endswith("LICENSES/BSD-2-Clause.txt") for name in names)
    shared = {name.split(".data/data/share/")[1] for name in names if ".data/data/share/" in name}
    for file in (
        "man/man1/ctctl.1",
        "bash-completion/completions/ctctl",
        "zsh/site-functions/_ctctl",
        "fish/vendor_completions.d/ctctl.fish",
        "ctctl/deploy/ctctl-gc.service",
        "ctctl/deploy/grafana-dashboard.json",
        "ctctl/examples/pod-to-pod.yaml",
    ):
        assert file in shared


def test_the_wheels_platform_is_what_its_libraries_ask_for(wheel: Path) -> None:
    asked = {
        int(minor)
        for name in zipfile.ZipFile(wheel).namelist()
        if re.search(r"\.so(\.\d+)*$", name)
        for minor in re.findall(rb"GLIBC_2\.(\d+)", zipfile.ZipFile(wheel).read(name))
    }
    tagged = re.search(r"-manylinux_2_(\d+)_(\w+)\.whl$", wheel.name)
    assert tagged
    assert int(tagged[1]) == max(asked)


@pytest.mark.kernel
def test_a_node_without_libbpf_or_a_compiler_can_do_everything(installed: Path) -> None:
    said = json.loads(bare(installed, "version", "-o", "json").stdout)
    assert said["libbpf_path"].startswith(str(installed.parents[1]))
    assert said["libbpf"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said["commit"] == (commit.stdout.strip() or None)
    if not subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=False).stdout:
        # Made of a commit it is of that commit's time, so that the same can be made again.
        at = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert said["built_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(at.stdout)))
    assert set(said["bpf"]) == {source.name.removesuffix(".bpf.c") for source in (ROOT / "bpf").glob("*.bpf.c")}
    example = installed.parents[1] / "share/ctctl/examples/pod-to-pod.yaml"
    bare(installed, "trace", "--scenario", example)
    # The same machine with its own libbpf hidden, and a ctctl that carries none, says what to install.
    missing = bare(sys.executable, "-I", "-m", "ctctl", "trace", "--scenario", example, check=False)
    assert missing.returncode == 4
    assert missing.stderr.splitlines()[-1].count("apt install libbpf1") == 1


def test_files_need_no_root_and_no_home(installed: Path, open_place: Path) -> None:
    dump = open_place / "ct.txt"
    dump.write_text(DUMP.read_text())
    done = run(*NOBODY, installed, "ct", "list", "--from", dump, "-o", "jsonl")
    assert len(list(map(json.loads, done.stdout.splitlines()))) == sum(
        "expires=" in line for line in DUMP.read_text().splitlines()
    )


def test_the_pages_are_true_for_who_installed_it(installed: Path) -> None:
    """The first command of the first page and of each how-to, typed where the first page says."""
    examples = Path(run(installed, "version", "--examples").stdout.strip())
    assert examples == installed.parents[1] / "share/ctctl/examples"
    run_pages = tool("run_pages")
    pages = [ROOT / "docs/index.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]
    shown = [next(run_pages.shown(page)) for page in pages if next(run_pages.shown(page), None)]
    shown += [place for place in run_pages.shown(ROOT / "docs/how-to/sysdump.md") if "report" in place.command]
    assert len(shown) > 10
    for place in shown:
        said = run_pages.printed(place.command, installed.parent, examples.parent)
        # What a bare wheel does not do it says, and so does the page.
        lacks = re.search(r"pip install '(ctctl\[\w+\])'", "\n".join(said))
        assert run_pages.check(place, said) == "" or (lacks and f"`{lacks[1]}`" in place.page.read_text()), place.name


def test_what_it_says_to_install_is_installed_where_it_is_missing(installed: Path) -> None:
    """Into its own environment, whichever pip is first on the path, and its own wheel is not fetched from anywhere."""
    lacks = run(installed, "report", "--from", DUMP, check=False)
    assert lacks.returncode == 4
    command = shlex.split(lacks.stderr.strip().rpartition(": ")[2])
    # pip's own settings say where packages come from.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [*command, "--dry-run", "--disable-pip-version-check"]
    done = subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"^Requirement already satisfied: ctctl\[report\]", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^Would install .*\bJinja2-", done.stdout, re.MULTILINE | re.IGNORECASE), done.stdout


def _newer_pythons() -> list[Path]:
    """Interpreters of this machine that are newer than the oldest that there are wheels for, one of each version."""
    there = [Path(found) for minor in range(12, 20) if (found := shutil.which(f"python3.{minor}"))]
    there += sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    found: dict[tuple[int, ...], Path] = {}
    for path in there:
        asked = [path, "-I", "-c", "import sys, ensurepip; print(*sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        version = tuple(map(int, said.stdout.split()))
        if said.returncode == 0 and version > (3, 11):
            found.setdefault(version, path)
    return [path for _version, path in sorted(found.items())]


@pytest.mark.kernel
@pytest.mark.parametrize("python", _newer_pythons() or [None], ids=str)
def test_newer_pythons_have_the_same_of_it(python: Path | None, wheel: Path, installed: Path, tmp_path: Path) -> None:
    """One wheel for all of them: a listing, a packet through the datapath, and the help are what 3.11 prints."""
    if python is None:
        pytest.skip("this machine has no Python beside that of the tests")
    place = tmp_path / "env"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-m", "venv", place], env=environment, check=True)
    words = [place / "bin/pip", "install", "-qq", "--disable-pip-version-check", wheel]
    subprocess.run(words, env=environment, check=True)
    example = installed.parents[1] / "share/ctctl/examples/pod-to-pod.yaml"
    for command in (
        ["ct", "list", "--from", DUMP, "-o", "wide"],
        ["ct", "list", "tcp and state != new", "--from", DUMP, "-o", "jsonl"],
        ["doctor", "--from", ROOT / "examples/cilium-bugtool.tar.xz", "-o", "json"],
        ["trace", "--scenario", example],
        ["gc", "--help"],
    ):
        ours, theirs = (run(each, *command, check=False) for each in (place / "bin/ctctl", installed))
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr), command
        assert ours.stdout == theirs.stdout
        assert theirs.stdout


@pytest.mark.kernel
def test_the_tutorials_lab_comes_along(installed: Path) -> None:
    """From two nodes to a request that is answered, and everything away again, without a checkout."""
    name = unique_name("dist")
    try:
        run(installed, "lab", "up", "--name", name)
        asked = run(installed, "lab", "exec", "--name", name, "pod1", "--", "curl", "-sS", "http://10.68.174.146/")
        assert asked.stdout.strip() == "pod3"
        listed = run(installed, "ct", "list", "tcp and src == 10.64.0.36", "--node", f"{name}-node-a", "-o", "jsonl")
        assert {json.loads(line)["direction"] for line in listed.stdout.splitlines()} == {"SVC", "OUT"}
    finally:
        run(installed, "lab", "down", "--name", name)


def trapped(folder: Path) -> dict[str, list[str]]:
    """By the way in which a Python finds code of its caller's, put below ``folder``: what ``env`` is given for it."""
    packages = folder / "home/.local/lib"
    versions = run("/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])").stdout, sys.version_info[1]
    places = [folder / "here", *(packages / f"python3.{int(minor)}/site-packages" for minor in versions)]
    for place in places:
        (place / "ctctl").mkdir(parents=True, exist_ok=True)
        for name in ("ctctl/__init__", "numpy", "typer", "sitecustomize", "usercustomize"):
            (place / f"{name}.py").write_text(TRAP)
    return {"PYTHONPATH": [f"PYTHONPATH={folder}/here"], "here": [], "home": [f"HOME={folder}/home"]}


@pytest.mark.parametrize("way", ["wheel", "file"])
def test_nothing_can_put_other_code_in_place(installed: Path, dist: Path, tmp_path: Path, way: str) -> None:
    """All ways at once: any would be told by the trap's exit. The file unpacks itself meanwhile, then starts again."""
    ways = trapped(tmp_path)
    every = [f"PEX_ROOT={tmp_path}/root", *(word for words in ways.values() for word in words)]
    program = installed if way == "wheel" else dist / "ctctl.pex"
    for _ in range(2):
        assert run("env", *every, program, "version", cwd=tmp_path / "here").stdout.startswith("ctctl ")
    # Each trap is real: the interpreter itself, not told to be isolated, walks into it.
    for name, words in ways.items():
        place = tmp_path / "here" if name == "here" else tmp_path
        assert run("env", *words, "/usr/bin/python3", "-m", "ctctl", "version", check=False, cwd=place).returncode == 77


def test_a_link_to_the_command_works(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "ct-tool").symlink_to(installed)
    assert run(tmp_path / "ct-tool", "version").stdout.startswith("ctctl ")


@pytest.fixture(scope="session")
def from_source(dist: Path, open_place: Path) -> Path:
    """``bin/ctctl`` of an environment in which pip has built and installed the source distribution."""
    (archive,) = dist.glob("ctctl-*.tar.gz")
    place = open_place / "from-source"
    run("/usr/bin/python3", "-m", "venv", place)
    # pip's own settings say where packages come from; no way leads to this checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [place / "bin/pip", "install", "-qq", "--disable-pip-version-check", archive]
    subprocess.run(command, check=True, cwd="/", env=environment)
    return place / "bin/ctctl"


@pytest.mark.kernel
def test_a_source_distribution_installs_and_is_what_the_wheel_is(from_source: Path, installed: Path) -> None:
    """Compiled anew by pip, with nothing of this checkout: the same objects, and the machine's libbpf inside."""
    said, theirs = (json.loads(run(program, "version", "-o", "json").stdout) for program in (from_source, installed))
    assert said["path"].startswith(str(from_source.parents[1]))
    assert said["libbpf_path"].startswith(str(from_source.parents[1]))
    assert said["commit"] is None
    assert said["bpf"] == theirs["bpf"]
    share = from_source.parents[1] / "share"
    there = {str(path.relative_to(share)) for path in share.rglob("*") if path.is_file()}
    wheels = installed.parents[1] / "share"
    assert there == {str(path.relative_to(wheels)) for path in wheels.rglob("*") if path.is_file()}
    bare(from_source, "trace", "--scenario", share / "ctctl/examples/pod-to-pod.yaml")
    listed = [
        run(*NOBODY, program, "ct", "list", "--from", share / "ctctl/examples/cilium-bugtool.tar.xz").stdout
        for program in (from_source, installed)
    ]
    assert listed[0] == listed[1] != ""


def test_a_source_distribution_builds_and_says_what_it_lacks(dist: Path, tmp_path: Path) -> None:
    (archive,) = dist.glob("ctctl-*.tar.gz")
    with tarfile.open(archive) as members:
        names = {name.split("/", 1)[1] for name in members.getnames() if "/" in name}
        members.extractall(tmp_path)
    for name in (
        "tools/dist.sh",
        "tools/gen_abi.py",
        "packaging/ctctl",
        "bpf/netdev.bpf.c",
        "native/rows.c",
        "native/lines.c",
        "native/hash.h",
        "Makefile",
    ):
        assert name in names
    rooms = {f"tests/{path.name}" for path in (ROOT / "tests").glob("*") if (path / "__init__.py").exists()}
    assert rooms <= {str(Path(*Path(name).parts[:2])) for name in names}
    (tree,) = tmp_path.iterdir()
    # Everything but the compilers.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "env", "make"):
        (programs / name).symlink_to(shutil.which(name) or "/bin/" + name)
    (programs / "python3").symlink_to(sys.executable)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--disable-pip-version-check",
            "-w",
            tmp_path / "out",
            tree,
        ],
        env={"PATH": str(programs), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "clang-19 (apt install clang-19" in said
    assert "Traceback" not in said


def test_a_source_distribution_builds_where_no_git_is(dist: Path, tmp_path: Path) -> None:
    """As in an image: the wheel knows no commit then, and not that of a repository around it."""
    (archive,) = dist.glob("ctctl-*.tar.gz")
    with tarfile.open(archive) as members:
        members.extractall(tmp_path)
    (tree,) = tmp_path.iterdir()
    # Compiled already, and newer than their sources: what is tried is what comes after.
    for made in [*(ROOT / "ctctl/bpf").glob("*.o"), ROOT / "ctctl/native/rows.so"]:
        place = tree / made.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(made, place)
    programs = tmp_path / "bin"
    programs.mkdir()
    for path in Path("/usr/bin").iterdir():
        if not path.name.startswith("git"):
            (programs / path.name).symlink_to(path)
    for number, path in enumerate((programs, Path("/usr/bin"))):
        out = tmp_path / f"out{number}"
        if number:
            subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
            commit = [
                "git",
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.org",
                "commit",
                "--allow-empty",
                "-qm",
                "x",
            ]
            subprocess.run(commit, cwd=tmp_path, check=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--disable-pip-version-check",
            "-w",
            out,
            tree,
        ]
        done = subprocess.run(
            command, env={**os.environ, "PATH": str(path)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        (wheel,) = out.glob("ctctl-*.whl")
        with zipfile.ZipFile(wheel) as made_wheel:
            assert json.loads(made_wheel.read("ctctl/native/build.json"))["commit"] is None


def test_the_single_file_runs_for_anybody_and_the_checksums_hold(dist: Path) -> None:
    done = run(*NOBODY, "env", "TMPDIR=/tmp", dist / "ctctl.pex", "version")
    assert done.stdout.startswith("ctctl ")
    # A home that cannot be written is no matter for whoever asks for a version.
    assert done.stderr == ""
    # What it does not carry no pip brings into it.
    lacks = run(*NOBODY, "env", "TMPDIR=/tmp", dist / "ctctl.pex", "cluster", "ct", "list", check=False)
    assert lacks.returncode == 4
    assert lacks.stderr.splitlines()[-1] == (
        "ctctl: clusters need lightkube and websockets, which this build does not carry:"
        " install the wheel by pip, as 'ctctl[k8s]'"
    )
    run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=dist)


def test_krews_archive_is_the_one_of_its_manifest_and_runs_as_krew_installs_it(dist: Path, tmp_path: Path) -> None:
    """Fetched by its manifest, unpacked into a store, with a link to ``bin`` on the path: then a cluster is asked."""
    manifest = yaml.safe_load((dist / "ctctl.krew.yaml").read_text())
    (platform,) = manifest["spec"]["platforms"]
    archive = dist / platform["uri"].rpartition("/")[2]
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == platform["sha256"]
    assert platform["files"] == [{"from": "*", "to": "."}]
    store, path = tmp_path / "store", tmp_path / "bin"
    with tarfile.open(archive) as members:
        assert {member.uid for member in members.getmembers()} == {0}
        members.extractall(store)
    path.mkdir()
    (path / "kubectl-ctctl").symlink_to(store / platform["bin"])
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "cilium-dbg").write_text(f'#!/bin/sh\ncase "$2 $3" in "ct list") cat {DUMP};; *) exit 0;; esac\n')
    (agent / "cilium-dbg").chmod(0o755)
    with served(Cluster({"node-1": "ok", "node-2": "ok"}, agent), tmp_path) as kubeconfig:
        # kubectl finds and starts a plugin by its name on the path, with the words behind it.
        place = ("env", f"PATH={path}:/usr/bin:/bin", f"HOME={tmp_path}", f"KUBECONFIG={kubeconfig}")
        kubectl = ["kubectl", "ctctl"] if shutil.which("kubectl") else ["kubectl-ctctl"]
        done = run(*place, *kubectl, "ct", "list", "-o", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    each = sum("expires=" in line for line in DUMP.read_text().splitlines())
    assert Counter(row["node"] for row in rows) == {"node-1": each, "node-2": each}
    completed = run(*place, store / "kubectl_complete-ctctl", "ct", "li").stdout.splitlines()
    assert completed[0].split("\t")[0] == "list"
    assert completed[-1] == ":4"


#: Install the package in a throw-away copy of this machine's root, without the machine's libbpf; use it; remove it.
PACKAGE = r"""
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind /proc "$1/root/proc"
mount --bind /sys "$1/root/sys"
mount --rbind /dev "$1/root/dev"
cp "$2" "$1/root/var/ctctl.deb"
cp -r "$3" "$1/root/trap"
chroot "$1/root" sh -ec '
  dpkg -i /var/ctctl.deb >/dev/null
  rm -f /usr/lib/*/libbpf.so*
  ctctl version
  ctctl cluster ct list 2>&1 || true
  ls /usr/share/man/man1/ctctl.1.gz /usr/share/bash-completion/completions/ctctl /lib/systemd/system/ctctl-gc.service
  touch /var/before
  ctctl --help >/dev/null
  find /usr/lib/ctctl -newer /var/before
  find /usr/lib/ctctl /usr/bin/ctctl -perm /6000
  for how in HOME=/trap/home PYTHONPATH=/trap/here; do env $how ctctl version >/dev/null; done
  (cd /trap/here && ctctl version >/dev/null)
  dpkg --purge ctctl >/dev/null
  ! ls -d /usr/lib/ctctl /usr/bin/ctctl 2>/dev/null'
"""


def test_the_debian_package_installs_works_and_goes(dist: Path, tmp_path: Path) -> None:
    (package,) = dist.glob("ctctl_*.deb")
    needs = run("dpkg-deb", "--field", package, "Depends").stdout
    mine = f"python3 (>= 3.{sys.version_info[1]})"
    assert mine in needs
    if run("/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])").stdout.strip() != str(
        sys.version_info[1]
    ):
        pytest.skip("built for another Python than this machine's /usr/bin/python3")
    trapped(tmp_path / "trap")
    (tmp_path / "root").mkdir()
    done = run("unshare", "--mount", "sh", "-c", PACKAGE, "package", tmp_path / "root", package, tmp_path / "trap")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ctctl ")
    assert "(/usr/lib/ctctl/ctctl/native/libbpf.so.1)" in lines[1]
    assert any("which this build does not carry: install the wheel by pip, as 'ctctl[k8s]'" in line for line in lines)
    # Nothing is written into /usr by using it, and nothing there is set-uid.
    assert lines[-1] == "/usr/share/man/man1/ctctl.1.gz"


@pytest.fixture(scope="session")
def arm64_wheel(open_place: Path) -> Path:
    if not shutil.which("aarch64-linux-gnu-gcc"):
        pytest.skip("no cross compiler: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    place = open_place / "arm64"
    command = ["env", f"DIST={place}", ROOT / "tools/dist.sh", "arm64"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("ctctl-*_aarch64.whl")
    return wheel


def test_the_wheel_for_arm64_is_of_that_machine(arm64_wheel: Path) -> None:
    with zipfile.ZipFile(arm64_wheel) as archive:
        for name in ("rows.so", "libbpf.so.1", "libelf.so.1", "libz.so.1"):
            # e_machine of an ELF header: EM_AARCH64
            assert int.from_bytes(archive.read(f"ctctl/native/{name}")[18:20], "little") == 183


def test_the_wheel_for_arm64_lists_there_what_this_machine_lists(arm64_wheel: Path) -> None:
    if not shutil.which("qemu-aarch64-static"):
        pytest.skip("no emulator: apt install qemu-user-static")
    done = subprocess.run([ROOT / "tools/try_arm64.sh", arm64_wheel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^kernel \S+ aarch64$", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1] == "the arm64 wheel lists what this machine's ctctl does"
