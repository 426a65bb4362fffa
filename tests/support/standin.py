"""Objects that stand in for the datapath's where a test is about the loader: same maps, programs that only count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctctl.node import programs
from tests.support.bpf import SOURCES, compile_source

_PROGRAM = 'SEC("tc") int {name}(struct __sk_buff *ctx) {{ return count(ctx, HOOK_{upper}); }}'
_OBJECTS = {
    "lxc": ("from_container", "to_container"),
    "netdev": ("from_netdev", "to_netdev"),
}


def compile_stand_ins() -> Path:
    """The directory with the compiled objects."""
    header = (SOURCES / "stand_in.h").read_text()
    built = [
        compile_source(
            f"{name}.bpf.c",
            "\n".join([header, *(_PROGRAM.format(name=hook, upper=hook.upper()) for hook in hooks)]),
        )
        for name, hooks in _OBJECTS.items()
    ]
    return built[0].parent


@contextmanager
def stand_ins() -> Iterator[None]:
    """The loader takes its objects from ``compile_stand_ins``."""
    own, programs.OBJECTS = programs.OBJECTS, compile_stand_ins()
    try:
        yield
    finally:
        programs.OBJECTS = own
