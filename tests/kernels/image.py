"""A guest's memory: this checkout, its Python and the programs that tests call, as archives for a kernel to unpack.

    python -m tests.kernels.image base OUT              # all that is the same for every kernel
    python -m tests.kernels.image kernel OUT ROOT       # the modules of the kernel unpacked at ROOT
    python -m tests.kernels.image run OUT RECORD [STEP[=TEXT] …]

A kernel unpacks archives that follow one another in one file. In an emulator every look at a file that the host holds
costs a conversation with a device; in memory it costs nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

#: Where the tests' own objects were compiled to (``tests.support.bpf``).
OBJECTS_VARIABLE = "CTCTL_TEST_OBJECTS"
ROOT = Path(__file__).resolve().parents[2]
#: Debian packages whose programs tests and the commands call; one that is not installed is not taken.
PACKAGES = (
    "bash", "bpftool", "bsdutils", "conntrack", "coreutils", "curl", "dash", "diffutils", "ethtool", "findutils",
    "grep", "gzip", "hostname", "iperf3", "iproute2", "iptables", "iputils-ping", "kmod", "libcap2-bin", "libc-bin",
    "mawk", "mount", "ncurses-base", "nftables", "procps", "sed", "socat", "strace", "tar", "tcpdump", "util-linux",
    "xz-utils",
)  # fmt: skip
#: Opened by name at run time: no program says that it needs them.
LIBRARIES = ("libbpf.so.1", "libelf.so.1", "libgcc_s.so.1", "libz.so.1", "libc.so.6", "libpcap.so.0.8")
SETTINGS = ("passwd", "group", "hosts", "nsswitch.conf", "protocols", "services", "ld.so.cache", "iproute2", "shells")
#: of the checkout: of no use in a guest
APART = {".git", "build", "dist", "site", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
#: of the environment: large, and of no test that runs there
HEAVY = re.compile(r"(pyarrow|duckdb|_duckdb|mypy|mypyc|ruff|pip|setuptools|[0-9a-f]{20}__mypyc|pyspark)\b")
#: Folders of modules: networks, and what those need.
MODULES = ("kernel/net", "kernel/lib", "kernel/crypto", "kernel/arch/x86/crypto", "kernel/drivers/net")
DEVICES = {"veth.ko", "geneve.ko", "vxlan.ko", "dummy.ko", "ifb.ko", "tun.ko", "bareudp.ko", "netdevsim.ko", "nlmon.ko"}
LOADED = "veth geneve sch_ingress cls_bpf sctp"
USR_MERGE = ("bin", "sbin", "lib", "lib64")

INIT = """#!/bin/sh
export PATH={checkout}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /run /tmp /var/tmp
mount -t devpts devpts /dev/pts
for folder in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
exec </dev/null >/dev/ttyS0 2>&1
stty -F /dev/ttyS1 raw
ip link set lo up
hostname guest
modprobe -a {loaded}
cd {checkout}
export PYTHONDONTWRITEBYTECODE=1 CTCTL_REQUIRE_KERNEL=1 CTCTL_REQUIRE_FEXIT=1 CTCTL_RECORD_COPY=/dev/ttyS1
export CTCTL_TEST_PATIENCE_S=1800
export {objects_variable}={objects}
echo "booted: $(cut -d' ' -f1 /proc/uptime) s"
setsid .venv/bin/python -m tests.kernels.guest {record} {steps}
echo "status: $?"
echo o >/proc/sysrq-trigger
sleep 60
"""


def base_files() -> Iterator[Path]:
    """Everything but kernels, as absolute paths; folders are made by the archive."""
    python = Path(sys.base_prefix).resolve()
    programs = [*_of_packages(), *_chain(ROOT / ".venv/bin/python")]
    library = python / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    standard = list(_tree(library, {"site-packages", "dist-packages", "test", "idlelib", "ensurepip", "turtledemo"}))
    environment = [path for path in _tree(ROOT / ".venv", set()) if not any(HEAVY.match(part) for part in path.parts)]
    yield from programs
    yield from standard
    yield from environment
    yield from _tree(ROOT, {*APART, ".venv"})
    yield from _tree(_objects(), set())
    yield from _needed([*programs, *standard, *environment])
    yield from (Path("/etc") / name for name in SETTINGS if (Path("/etc") / name).exists())
    yield from _tree(Path("/etc/iproute2"), set())
    yield from _tree(Path("/usr/share/iproute2"), set())


def _chain(path: Path) -> Iterator[Path]:
    """A link, the link that it names, and so on, and the file at the end."""
    yield path
    if path.is_symlink():
        yield from _chain(path.parent / path.readlink())


def _objects() -> Path:
    """Where the tests' own objects were compiled to."""
    return Path(os.environ[OBJECTS_VARIABLE])


def _of_packages() -> Iterator[Path]:
    done = subprocess.run(["dpkg-query", "-L", *PACKAGES], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        path = Path(line)
        if line.startswith("/") and (
            "/bin/" in line or "/sbin/" in line or "/terminfo/" in line or "/xtables/" in line
        ):
            found = path if path.exists() else Path("/usr") / path.relative_to("/")
            if found.is_file():
                yield _merged(found)


def _merged(path: Path) -> Path:
    """The path below /usr of a file that may be named without it."""
    top = path.parts[1]
    return Path("/usr") / path.relative_to("/") if top in USR_MERGE and Path("/", top).is_symlink() else path


def _needed(files: Iterable[Path]) -> Iterator[Path]:
    """Shared libraries that programs and modules of Python load, and those opened by name."""
    linked = [str(path) for path in files if path.is_file() and _is_elf(path)]
    said = subprocess.run(["ldd", *linked], capture_output=True, text=True, check=False).stdout
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    named = [line.rsplit(" => ")[1] for line in cache.splitlines() if line.split()[:1] and line.split()[0] in LIBRARIES]
    for name in {*re.findall(r"(/\S+\.so\S*) \(", said), *re.findall(r"=> (/\S+)", said), *named}:
        path = _merged(Path(name))
        yield path
        if path.is_symlink():
            yield _merged(path.resolve())
    # Those of the libraries opened by name.
    if named:
        deeper = subprocess.run(["ldd", *named], capture_output=True, text=True, check=False).stdout
        for name in set(re.findall(r"=> (/\S+)", deeper)):
            yield from (_merged(Path(name)), _merged(Path(name).resolve()))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _tree(folder: Path, without: set[str]) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        yield from (Path(where) / name for name in (*names, *links))


def _archive(out: Path, files: Iterable[Path], made: Path) -> None:
    """``files`` under their own names and everything in ``made``, as one archive at ``out``."""
    listed: dict[str, None] = {}
    for path in files:
        for parent in reversed(path.parents):
            listed[str(parent)[1:] or "."] = None
        listed[str(path)[1:]] = None
    names = list(listed)
    with out.open("wb") as file:
        _cpio(Path("/"), names, file.fileno())
        file.flush()
        own = [str(path.relative_to(made)) for path in sorted(made.rglob("*"))]
        _cpio(made, own, file.fileno())


def _cpio(folder: Path, names: Sequence[str], out: int) -> None:
    if names:
        listing = "\0".join(names).encode()
        command = ["cpio", "--null", "--quiet", "-o", "-H", "newc"]
        subprocess.run(command, input=listing, stdout=out, cwd=folder, check=True)


def base(out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        for folder in ("proc", "sys", "dev", "run", "tmp", "root", "var/tmp", "mnt", "etc"):
            (made / folder).mkdir(parents=True)
        for link in USR_MERGE:
            if Path(f"/{link}").is_symlink():
                (made / link).symlink_to(f"usr/{link}")
        (made / "var/run").symlink_to("/run")
        _archive(out, base_files(), made)


def kernel(out: Path, root: Path) -> None:
    """The modules for networks of an unpacked kernel, with their index."""
    modules = next(iter([*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*")]))
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        target = made / "usr/lib/modules" / modules.name
        for folder in MODULES:
            for path in (modules / folder).rglob("*.ko*"):
                if folder == "kernel/drivers/net" and path.name.split(".ko")[0] + ".ko" not in DEVICES:
                    continue
                into = target / path.relative_to(modules)
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, into)
        for path in modules.glob("modules.*"):
            shutil.copyfile(path, target / path.name)
        subprocess.run(["depmod", "-b", str(made / "usr"), modules.name], check=True, capture_output=True)
        _archive(out, (), made)


def run(out: Path, record: Path, steps: Sequence[str]) -> None:
    """What is to be done, and what was done before."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        inside = ROOT / "build/kernels" / record.name
        (made / inside.parent.relative_to("/")).mkdir(parents=True)
        if record.is_file():
            shutil.copyfile(record, made / inside.relative_to("/"))
        init = made / "init"
        text = INIT.format(
            loaded=LOADED, checkout=ROOT, record=inside, steps=shlex.join(steps), objects=_objects(),
            objects_variable=OBJECTS_VARIABLE,
        )  # fmt: skip
        init.write_text(text, encoding="utf-8")
        init.chmod(0o755)
        _archive(out, (), made)


def main() -> None:
    what, out, *rest = sys.argv[1:]
    match what:
        case "base":
            base(Path(out))
        case "kernel":
            kernel(Path(out), Path(rest[0]))
        case "run":
            run(Path(out), Path(rest[0]), rest[1:])


if __name__ == "__main__":
    main()
