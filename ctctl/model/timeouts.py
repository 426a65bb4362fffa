"""How long the datapath lets entries live: one list for node files, predictions and what is read of nodes."""

from __future__ import annotations

from dataclasses import fields

from ctctl.model.light import light_value


@light_value
class Timeouts:
    """Lifetimes in seconds, with the 1.16 agent's defaults (docs/reference/abi.md). A node file has whole ones."""

    regular_tcp: float = 8000
    regular_tcp_syn: float = 60
    regular_tcp_fin: float = 10
    regular_any: float = 60
    service_tcp: float = 8000
    service_tcp_grace: float = 60
    service_any: float = 60


TIMEOUTS = tuple(item.name for item in fields(Timeouts))
