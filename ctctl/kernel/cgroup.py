"""The cgroup2 file system: where it is."""

from __future__ import annotations

from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")


def cgroup2_mount() -> Path | None:
    """Where this process finds the cgroup2 hierarchy; None: it is not mounted here."""
    for line in _MOUNTS.read_text().splitlines():
        _, place, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(place.encode().decode("unicode_escape"))
    return None
