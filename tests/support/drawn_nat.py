"""SNAT tables as hypothesis draws them: records by family, with a clock, names, and what a listing shows of them."""

from __future__ import annotations

from hypothesis import strategies as st

from ctctl.model.clock import Clock
from ctctl.tables.sources.nat_listed import ListedNat
from tests.support.drawn import nat_records

#: Of a listing's entries: a clock that was set back made one of them negative.
AGES = [72, 0, -5, 90_061]
NAMES = {"10.0.0.1": "ns/pod1", "fd00::1": "ns/pod6"}
#: keys and values by family, the clock, its now, names, and what a listing shows (None: it is no listing)
Drawn = tuple[dict[int, list[tuple[bytes, bytes]]], Clock, int | None, dict[str, str], bool | None]


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    found = {
        family: draw(st.lists(nat_records(family), max_size=4)) for family in draw(st.sampled_from([[4], [6], [4, 6]]))
    }
    clock = draw(st.sampled_from([Clock(), Clock(hz=250)]))
    now, names = draw(st.sampled_from([None, 0, 1000, 2**31])), draw(st.sampled_from([{}, NAMES]))
    return found, clock, now, names, draw(st.sampled_from([None, True, False]))


def listed(drawn: Drawn) -> ListedNat:
    """The same as a source keeps them."""
    found, _clock, _now, _names, shows_ct = drawn
    made = ListedNat()
    for family, pairs in found.items():
        part = made.part(family, shows_ct=shows_ct)
        for at, (key, value) in enumerate(dict(pairs).items()):
            part.keys += key
            part.values += value
            if shows_ct is not None:
                part.ages.append(AGES[at % len(AGES)])
    return made
