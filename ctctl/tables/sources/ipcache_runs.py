"""Identities (``bpf ipcache list``) in passes: rows of lines as the Cilium CLI prints them, as records."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Any

from ctctl.decode.services import IPCACHE_FLAGS
from ctctl.model.service import IpcacheRecord
from ctctl.tables.sources.listing_text import not_given
from ctctl.tables.sources.pair_frames import Frame, PairRuns
from ctctl.tables.sources.regular import Form, addresses

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLAGS = {word: bit for bit, word in IPCACHE_FLAGS}
_SKIP = _FLAGS["skiptunnel"]


def _columns(frame: Frame) -> Form:
    form = frame.start()
    with form.maybe("bracket"):
        form.before("[")
    form.check("bracket", 0)
    with form.maybe("six"):
        form.address("prefix").check("prefix_family", 6).literal("/").decimal("bits", 1, most=128)
    with form.otherwise():
        form.address("prefix").check("prefix_family", 4).literal("/").decimal("bits", 1, most=32)
    with form.maybe("clustered"):
        form.literal("@").decimal("cluster", 2)
    frame.between(form).literal("identity=").decimal("identity", 4).literal(" encryptkey=").decimal("key", 1)
    form.literal(" tunnelendpoint=").address("tunnel")
    with form.maybe("comma"):
        form.literal(",")
    with form.maybe("unflagged"):
        form.literal(frame.written(" flags=<none>"))
    with form.maybe("flagged"):
        form.check("unflagged", 0).literal(" flags=").word("flag", _FLAGS)
    with form.maybe("twice"):
        form.check("flagged", 1).literal(",").word("other", _FLAGS)
    return frame.end(form)


class IpcacheRuns(PairRuns):
    """Rows of ``bpf ipcache list``."""

    columns = staticmethod(_columns)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        prefixes = _prefixes(rows)
        shown = (rows["unflagged"] | rows["flagged"]).tolist()
        flags = (rows["flag"] | rows["other"]).tolist()
        self._into.dump.listings.ipcache += [
            IpcacheRecord(prefix, identity, cluster, tunnel, key, flag & _SKIP != 0, flag if is_shown else None)
            for prefix, identity, cluster, tunnel, key, flag, is_shown in zip(
                prefixes,
                rows["identity"].tolist(),
                rows["cluster"].tolist(),
                _tunnels(rows),
                rows["key"].tolist(),
                flags,
                shown,
                strict=True,
            )
        ]
        cluster = f"@{rows['cluster'][-1]}" if rows["clustered"][-1] else ""
        self._into.group = f"{prefixes[-1]}{cluster}"


def _prefixes(rows: NDArray[Any]) -> list[str]:
    """As networks are written, without what is behind their bits."""
    return [
        _four(int.from_bytes(raw[:4], "big"), bits) if family == 4 else str(IPv6Network((raw, bits), strict=False))
        for raw, family, bits in zip(
            rows["prefix"].tolist(), rows["prefix_family"].tolist(), rows["bits"].tolist(), strict=True
        )
    ]


def _four(number: int, bits: int) -> str:
    number = number >> 32 - bits << 32 - bits
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/{bits}"


def _tunnels(rows: NDArray[Any]) -> list[str | None]:
    """As they are printed, each made once: there are as many as nodes. An address is slow to hash, so by its id."""
    ends = addresses(rows, "tunnel")
    texts = {key: not_given(str(end)) for key, end in {id(end): end for end in ends}.items()}
    return [texts[id(end)] for end in ends]
