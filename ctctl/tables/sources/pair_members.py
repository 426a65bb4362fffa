"""Listings of two columns as JSON: an object with a member a row, read as it comes, however long it is."""

from __future__ import annotations

from collections.abc import Callable

from ctctl.errors import DecodeError
from ctctl.tables.sources.documents import ELEMENT_WORK, RECORD_WORK, Elements, Members
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.ipcache_runs import IpcacheRuns
from ctctl.tables.sources.listing_text import PairLines
from ctctl.tables.sources.pair_frames import PairRuns, frame_of
from ctctl.tables.sources.pair_runs import BackendRuns, EndpointRuns, RevNatRuns, SocketRuns
from ctctl.tables.sources.regular import ElementRuns, Learned, Sample
from ctctl.tables.sources.service_runs import FrontendRuns, MissingRuns, ServiceRuns


def pair_runs(pairs: PairLines) -> dict[str, PairRuns]:
    """Who reads rows in passes, by what the row before them was (``PairLines.grown``)."""
    return {
        "services": ServiceRuns(pairs),
        "frontends": FrontendRuns(pairs),
        "missing": MissingRuns(pairs),
        "ipcache": IpcacheRuns(pairs),
        "endpoints": EndpointRuns(pairs),
        "backends": BackendRuns(pairs),
        "rev_nats": RevNatRuns(pairs),
        "sockets": SocketRuns(pairs),
    }


class PairMembers:
    """Reads such an object into ``dump``. ``marks`` of lines left out by hand are counted while it is read."""

    def __init__(self, elements: Elements, dump: Dump, spend: Callable[[int], None]) -> None:
        self._elements = elements
        self._spend = spend
        self._pairs = PairLines(dump)
        self._by_kind = pair_runs(self._pairs)
        self._runs = ElementRuns(self._like)
        self.marks = 0
        self.kind = ""

    def read(self) -> None:
        """All of it; what follows is put back. Raises EndedEarlyError where it is damaged or cut off."""
        elements, gaps = self._elements, Members()
        elements.skip("{")
        try:
            while not elements.skip("}"):
                if elements.skip(","):
                    continue
                if elements.is_left_out():
                    gaps.marks += 1
                    elements.next_line()
                    continue
                left, texts = elements.member(gaps)
                self._pairs.add_member(str(left), texts)
                self.kind = self.kind or self._pairs.grown
                # One without texts, which no program writes, takes as long to find.
                self._spend(RECORD_WORK * max(len(texts) if isinstance(texts, list) else 1, 1) + ELEMENT_WORK)
                self._read_on()
        finally:
            self.marks = gaps.marks
        elements.give_back()

    def _read_on(self) -> None:
        """Read those that follow the last one, as far as they are written like it."""
        listing = self._by_kind.get(self._pairs.grown)
        if listing is not None:
            count = self._runs.read_on(self._elements, lambda: self._elements.sample(None))
            self._spend((listing.work + ELEMENT_WORK) * count)

    def _like(self, sample: Sample) -> Learned | None:
        listing, frame = self._by_kind[self._pairs.grown], frame_of(sample)
        return Learned(listing.columns(frame), listing.add_rows) if frame is not None else None


def read_pairs(elements: Elements, dump: Dump, spend: Callable[[int], None]) -> tuple[int, str]:
    """Read such an object, as far as it goes; how many marks of lines left out by hand it has, and what it lists."""
    members = PairMembers(elements, dump, spend)
    try:
        members.read()
    except DecodeError as error:
        dump.partial.append(str(error))
    return members.marks, members.kind
