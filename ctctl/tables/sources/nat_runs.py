"""SNAT listings in passes: rows of lines as the Cilium CLI prints them, as a table's bytes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ctctl.abi.constants import IPV4_NAT_ENTRY_NEEDS_CT
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED
from ctctl.decode.nat import VALUE_ADDRESS, VALUE_SIZE
from ctctl.tables.sources.ct_forms import PROTOCOL_WORDS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.passes import FormRuns
from ctctl.tables.sources.regular import Form, octets

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What rewrites the source is of packets that leave, what rewrites the destination of those that come back.
_DIRECTIONS, _XLATES = {"OUT": 0, "IN": TUPLE_IN}, {"SRC": 0, "DST": TUPLE_IN}


@functools.cache
def _form() -> Form:
    form = Form()
    form.word("proto", PROTOCOL_WORDS).literal(" ").word("direction", _DIRECTIONS).literal(" ")
    form.address("src", port=True).literal(" -> ").address("dst", port=True).same("src_family", "dst_family")
    with form.maybe("related"):
        form.literal(" related")
    form.literal(" XLATE_").word("xlate", _XLATES).same("xlate", "direction")
    form.literal(" ").address("to", port=True).same("to_family", "src_family")
    form.literal(" Created=").signed("age").literal("sec")
    with form.maybe("ago"):
        form.literal(" ago")
    with form.maybe("shows_ct"):
        form.literal(" NeedsCT=").decimal("needs_ct", 8)
    return form.end()


class NatRuns(FormRuns[Dump]):
    """Rows of an SNAT listing."""

    work = 20  # bytes beside each other, of which a lake makes objects later
    form = staticmethod(_form)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        kept = self._into.listings.listed_nat()
        for family in (4, 6):
            for shows_ct in (True, False):
                mine = rows[(rows["src_family"] == family) & (rows["shows_ct"] == shows_ct)]
                if len(mine):
                    part = kept.part(family, shows_ct=shows_ct)
                    part.keys += _keys(mine, family)
                    part.values += _values(mine, family)
                    part.ages.frombytes(mine["age"].tobytes())


def _keys(rows: NDArray[Any], family: int) -> bytes:
    """As ``decode.nat`` has them: destination first, ports in network order."""
    import numpy as np

    half = 4 if family == 4 else 16
    src, dst = (octets(rows[name])[:, :half] for name in ("src", "dst"))
    ports = (octets(rows[name].astype(">u2")) for name in ("dst_port", "src_port"))
    flags = rows["direction"] | rows["related"] * TUPLE_RELATED
    keys = np.hstack([dst, src, *ports, rows["proto"][:, None], flags[:, None].astype(np.uint8)])
    return keys.tobytes()


def _values(rows: NDArray[Any], family: int) -> bytes:
    import numpy as np

    half = 4 if family == 4 else 16
    end = VALUE_ADDRESS + half
    values = np.zeros((len(rows), VALUE_SIZE[family]), np.uint8)
    values[:, IPV4_NAT_ENTRY_NEEDS_CT : IPV4_NAT_ENTRY_NEEDS_CT + 8] = octets(rows["needs_ct"])
    values[:, VALUE_ADDRESS:end] = octets(rows["to"])[:, :half]
    values[:, end : end + 2] = octets(rows["to_port"].astype(">u2"))
    return values.tobytes()
