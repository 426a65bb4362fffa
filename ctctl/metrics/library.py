"""prometheus-client, an optional dependency, imported when metrics are asked for."""

from __future__ import annotations

from types import ModuleType

from ctctl.errors import MissingLibraryError


def prometheus() -> ModuleType:
    """The client library. Raises UnsupportedError that says how to get it."""
    try:
        import prometheus_client
    except ImportError:
        raise MissingLibraryError("metrics need prometheus-client", "metrics") from None
    return prometheus_client


def metric_families() -> ModuleType:
    """The library's classes for metrics that are computed when scraped. Raises UnsupportedError."""
    prometheus()
    from prometheus_client import core

    return core


#: Prefix of every metric; what follows is the Cilium agent's name for it (docs/reference/abi.md).
PREFIX = "ctctl"


def label_of_map(name: str) -> str:
    """The map_name label as the agent writes it, without the prefix of the pin."""
    return name.removeprefix("cilium_")
