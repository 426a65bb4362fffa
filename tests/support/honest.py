"""Listings as busy nodes have them, drawn: what no limit may cut short, however large they are and however packed."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache


@cache
def listings(rows: int, seed: int = 5) -> dict[str, str]:
    """A listing of each kind, of so many rows, each with values of its own."""
    rng = random.Random(seed)

    def number(limit: int) -> int:
        return rng.randrange(limit)

    def ip() -> str:
        return f"10.{number(8)}.{number(256)}.{number(256)}"

    def end() -> str:
        return f"{ip()}:{number(1 << 16)}"

    def entry() -> str:
        seen = f"RxFlagsSeen=0x1b LastRxReport={number(1 << 20)} TxFlagsSeen=0x1b LastTxReport={number(1 << 20)}"
        return (
            f"TCP OUT {end()} -> {ip()}:80 expires={number(1 << 20)} Packets={number(999)} Bytes={number(1 << 18)} "
            f"{seen} Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ] RevNAT=1 SourceSecurityID={number(1 << 16)} "
            f"IfIndex=0 BackendID={number(99)} \n"
        )

    def rule(peer: str) -> str:
        return (
            f"Allow    Ingress     {peer:<30}{number(1 << 16)}/TCP    NONE         disabled    "
            f"{number(1 << 20):<10}{number(1 << 12):<10}24     \n"
        )

    def grouped() -> str:
        first = f"{ip()}:80".ljust(24)
        return "".join(
            f"{left}{end()} ({number(1 << 16)}) ({slot})\n" for slot, left in enumerate((first, " " * 24), 1)
        )

    def labels() -> str:
        names = ("k8s:io.kubernetes.pod.namespace", "k8s:io.cilium.k8s.policy.cluster")
        return rule(f"k8s:app=web-{number(999)}") + "".join(f"{'':21}{name}={number(100)}     \n" for name in names)

    policy = (
        "Endpoint ID: 5\nPOLICY   DIRECTION   {}   PORT/PROTO   PROXY PORT   AUTH TYPE   BYTES   PACKETS   PREFIX\n"
    )
    kinds: dict[str, tuple[Callable[[], str], str]] = {
        "ct": (entry, ""),
        "ct behind words": (lambda: f"node-1: {entry()}", ""),
        "ct quoted": (lambda: f"> {entry()}", ""),
        "nat": (
            lambda: (
                f"TCP OUT {end()} -> {ip()}:80 XLATE_SRC 192.168.0.1:{number(1 << 16)} Created={number(9999)}sec "
                "ago NeedsCT=0\n"
            ),
            "",
        ),
        "ipcache": (
            lambda: (
                f"{ip()}/32     identity={number(1 << 16)} encryptkey=0 tunnelendpoint=192.168.1.{number(99)} "
                "flags=<none>\n"
            ),
            "",
        ),
        "conntrack": (
            lambda: (
                f"tcp      6 {number(9999)} ESTABLISHED src={ip()} dst={ip()} sport={number(1 << 16)} dport=80 "
                f"src={ip()} dst=10.1.1.1 sport=80 dport={number(1 << 16)} [ASSURED] mark=0 use=1\n"
            ),
            "",
        ),
        "lb": (lambda: f"{end()}/TCP (1)      {end()}/TCP ({number(1 << 16)}) (1)\n", ""),
        "lb grouped": (grouped, "SERVICE ADDRESS     BACKEND ADDRESS\n"),
        "lb without backends": (lambda: f"{end()} (1)      backend {number(1 << 16)} not found\n", ""),
        "lb one blank apart": (lambda: f"{end()} (1) {end()} ({number(1 << 16)}) (1)\n", ""),
        "service list": (lambda: f"{number(9999):<6}{ip()}:80       ClusterIP      1 => {ip()}:80 (active)\n", ""),
        "sockets": (
            lambda: f"{number(1 << 22):<12}    {end()} -> {ip()}:80 (revnat={number(1 << 16)})\n",
            "Socket Cookie   Backend -> Frontend\n",
        ),
        "maglev": (lambda: f"[{number(1 << 16)}]/v4     [{' '.join(str(number(3000)) for _ in range(31))}]\n", ""),
        "policy": (lambda: rule(str(number(1 << 16))), policy.format("IDENTITY")),
        "policy by labels": (labels, policy.format("LABELS (source:key[=value])")),
        "own rows": (
            lambda: (
                f"6,{rng.choice(['IN', 'OUT'])},{end()},{ip()}:80,{rng.choice(['new', 'closing'])},SeenNonSyn,"
                f"{number(1 << 20)},{number(1 << 16)}\n"
            ),
            "proto,direction,source,destination,state,flag_names,lifetime,src_sec_id\n",
        ),
        "an agent's log": (
            lambda: (
                f'time="2026-11-25T19:{number(60):02}:{number(60):02}.{number(10**9)}Z" level=info msg="endpoint" '
                f"endpointID={number(1 << 16)} identity={number(1 << 16)} ipv4={ip()} subsys=endpoint\n"
            ),
            entry(),
        ),
    }
    return {name: head + "".join(row() for _ in range(rows)) for name, (row, head) in kinds.items()}
