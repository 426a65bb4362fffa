"""Listings of two columns as JSON, as many rows as wanted, as each version's CLI writes them."""

from __future__ import annotations

import json
from collections.abc import Callable

#: Versions whose JSON differs.
VERSIONS = ("1.14", "1.16", "1.17", "1.19")
#: What Go writes for characters that have a meaning in HTML.
GO_ESCAPES = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})


def as_printed(rows: dict[str, str], *, go: bool = True) -> str:
    """Rows as Go writes them: by their names, two blanks deep. ``go`` False: as jq does, without its escapes."""
    text = json.dumps({left: [rows[left]] for left in sorted(rows)}, indent=2, ensure_ascii=False)
    return (text.translate(GO_ESCAPES) if go else text) + "\n"


def _frontend(number: int, version: str) -> str:
    addr = f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}:80"
    addr = f"[fd00:96::{number:x}]:80" if number % 7 == 3 else addr
    return addr + ("/TCP" if version >= "1.17" else "")


def _is_six(front: str) -> bool:
    return front.startswith("[")


def lb(count: int, version: str) -> dict[str, str]:
    """``bpf lb list``: a third of them frontends, their backends behind them."""
    rows = {}
    for number in range((count + 2) // 3):
        front, proto = _frontend(number, version), "/TCP" if version >= "1.17" else ""
        zero = "[::]:0" if _is_six(front) else "0.0.0.0:0"
        words = ("ClusterIP, non-routable", "LoadBalancer", "NodePort, Local, two-scopes, non-routable, dsr")[
            number % 3
        ]
        rows[f"{front} (0)"] = f"{zero} ({number % 60000 + 1}) (0) [{words}] "
        for slot in (1, 2):
            end = f"10.61.{number >> 8 & 255}.{number & 255}:800{slot}"
            end = f"[fd61::{number:x}:{slot}]:8000" if _is_six(front) else end
            rows[f"{front} ({slot})"] = f"{end}{proto} ({number % 60000 + 1}) ({slot})"
    return dict(list(rows.items())[:count])


def frontends(count: int, version: str) -> dict[str, str]:
    """``bpf lb list --frontends``."""
    held = "[0]" if version >= "1.17" else ""
    rows = {}
    for number in range((count + 1) // 2):
        front = _frontend(number, version)
        rows[f"{front} (0)"] = f"0 1{held} ({number % 60000}) [0x42 0x80]"
        rows[f"{front} (1)"] = f"{number + 1} 0{held} ({number % 60000}) [0x0 0x0]"
    return dict(list(rows.items())[:count])


def backends(count: int, version: str) -> dict[str, str]:
    """``bpf lb list --backends``."""
    proto = "TCP" if version >= "1.17" else "ANY"
    return {
        str(number + 1): f"{proto}://10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(count)
    }


def rev_nats(count: int, version: str) -> dict[str, str]:
    """``bpf lb list --revnat``: there are 65,535 ids."""
    return {str(number + 1): _frontend(number, version).removesuffix("/TCP") for number in range(min(count, 65535))}


def ipcache(count: int, version: str) -> dict[str, str]:
    """``bpf ipcache list``."""
    flags = {"1.14": "", "1.16": ", flags=<none>"}.get(version, " flags=hastunnel")
    rows = {}
    for number in range(count):
        prefix = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"
        prefix = f"fd00:10::{number >> 12:x}:{number & 4095:x}/128" if number % 5 == 2 else prefix
        node = f"192.168.{number % 50}.12" if number % 9 else "0.0.0.0"
        rows[prefix] = f"identity={1000 + number % 5000} encryptkey=0 tunnelendpoint={node}{flags}"
    return rows


def endpoints(count: int, version: str) -> dict[str, str]:
    """``bpf endpoint list``."""
    more = " parent_ifindex=0  " if version >= "1.19" else ""
    rows = {}
    for number in range(count):
        end = f"fd10::{number:x}:0" if number % 4 == 1 else f"10.61.{number >> 8}.{number & 255}:0"
        mac = f"9E:70:D2:CF:{number >> 8:02X}:{number & 255:02X}"
        numbers = f"id={number:<5} sec_id={1000 + number:<5} flags=0x0000 ifindex={number % 900:<3}"
        rows[end] = f"{numbers} mac={mac} nodemac={mac}{more}"
    return rows


def sockets(count: int, version: str) -> dict[str, str]:
    """``bpf socknat list``: ports and the rev-NAT id in network order."""
    del version
    return {
        str(number): f"10.61.{number >> 8 & 255}.{number & 255}:16415 -> 10.96.0.10:20480 (revnat=2560)"
        for number in range(1, count + 1)
    }


#: By the list of ``Listings`` that has them.
KINDS: dict[str, Callable[[int, str], dict[str, str]]] = {
    "services": lb,
    "frontends": frontends,
    "backends": backends,
    "rev_nats": rev_nats,
    "ipcache": ipcache,
    "endpoints": endpoints,
    "sockets": sockets,
}
