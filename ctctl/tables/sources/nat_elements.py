"""Elements of ``bpf nat list -o json`` of the Cilium CLI by the million: where the values of one lie in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctctl.decode.ct import KEY_SIZE
from ctctl.decode.nat import VALUE_ADDRESS, VALUE_SIZE
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.json_forms import Path, form_like
from ctctl.tables.sources.regular import Form, Learned, Sample, octets

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The numbers that a value starts with, of eight bytes each.
_NUMBERS = ("Created", "NeedsCT", "Pad1", "Pad2")
#: Width, and place behind the addresses, of the numbers of a key.
_KEY = {"DestPort": (2, 0), "SourcePort": (2, 2), "NextHeader": (1, 4), "Flags": (1, 5)}
_LISTS = ("DestAddr", "SourceAddr", "Addr")


class _Places:
    """Where the values of an element go; ``taken`` are those that had a place."""

    def __init__(self, half: int) -> None:
        self.taken: set[Path] = set()
        self._half = half

    def __call__(self, form: Form, path: Path, _word: str) -> bool:
        found = self._of(path)
        if found is None:
            return False
        self.taken.add(path)
        width, place = found
        form.decimal(".".join(map(str, path)), width, at=form.place(str(path[0]).lower()) + place)
        return True

    def _of(self, path: Path) -> tuple[int, int] | None:
        if len(path) == 3 and path[:2] in (("Key", "DestAddr"), ("Key", "SourceAddr")):
            return 1, self._half * (path[1] == "SourceAddr") + int(path[2])
        if len(path) == 3 and path[:2] == ("Value", "Addr"):
            return 1, VALUE_ADDRESS + int(path[2])
        if path[:1] == ("Key",) and len(path) == 2 and path[1] in _KEY:
            width, place = _KEY[str(path[1])]
            return width, 2 * self._half + place
        if path == ("Value", "Port"):
            return 2, VALUE_ADDRESS + self._half
        if path[:1] == ("Value",) and len(path) == 2 and path[1] in _NUMBERS:
            return 8, 8 * _NUMBERS.index(str(path[1]))
        return None


def element_like(dump: Dump, sample: Sample) -> Learned | None:
    """The form of elements like this one, which was added. None: it is written in a way that tells none."""
    value = sample.element["Value"]
    half = len(value["Addr"])
    family, places = 4 if half == 4 else 6, _Places(half)
    form = Form(strict=True).room("key", KEY_SIZE[family]).room("value", VALUE_SIZE[family]).literal(sample.before)
    wanted: set[Path] = {("Key", name, at) for name in ("DestAddr", "SourceAddr") for at in range(half)}
    wanted |= {("Value", "Addr", at) for at in range(half)} | {("Key", name) for name in _KEY} | {("Value", "Port")}
    wanted |= {("Value", name) for name in _NUMBERS if name in value}
    if form_like(sample.text, form, places, _LISTS) is None or places.taken != wanted:
        return None

    def add(rows: NDArray[Any]) -> None:
        dump.listings.listed_nat().add_many(octets(rows["key"]), octets(rows["value"]))

    return Learned(form, add)
