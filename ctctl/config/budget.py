"""What reading a file may cost: bytes that it unpacks to, work of whoever reads it; its own bytes pay.

All that is read of a user's has such a bound: lines, documents and archives (``tables/sources``), names, stories and
captures, and each file of YAML (``yamltree``).
"""

from __future__ import annotations

from ctctl.config.allowance import allowance
from ctctl.errors import CtctlError

#: Bytes that a file may unpack to: so many in any case, so many for each of its own, so many at most.
FREE_BYTES = 8 << 20
MAX_RATIO = 250
MAX_UNPACKED = 4 << 30
#: Work, in units of about a microsecond: so much for all files of one answer together, so much for any of them whatever
#: the others took, and so much more for each byte of its own, and for each beyond those of a small file. A listing that
#: is read in passes takes less than 1 a byte however it is packed, one that is read line by line 3 to 6, one that is
#: not packed less than 2: only what repeats itself over and over takes more. Of a small file it is less than two
#: seconds in all; a large one has more to read, and what repeats itself in it is the smaller part.
FREE_WORK = 600_000
OWN_FREE_WORK = 40_000
WORK_A_BYTE, SMALL, WORK_A_BYTE_BEYOND = 4, 256 << 10, 8
#: What a byte of YAML costs, and a node of it, where it is made into a tree.
YAML_WORK, _YAML_NODE_WORK = 1, 10


def yaml_work(text: str) -> int:
    """What YAML costs that is made into a tree: by its bytes, or its nodes, of which some stand in few bytes."""
    nodes = sum(map(text.count, (",", "[", "{", ":", ": ", ":\n", "? "))) + 3 * text.count("- ")
    return max(len(text) * YAML_WORK, _YAML_NODE_WORK * nodes)


class LimitError(CtctlError):
    """A file is too big, too deep or of too many parts: reading ends there."""


class Budget:
    """What may still be unpacked and read. ``packed`` and ``unpacked`` are bytes so far, ``spent`` is work.

    Work that its bytes do not pay for is taken from the allowance of all that is read for one answer.
    """

    def __init__(self) -> None:
        self.packed = 0
        self.unpacked = 0
        self.spent = 0
        self._allowance = allowance()
        #: what was taken from the allowance
        self._taken = 0

    @property
    def _free(self) -> int:
        """Work beyond what its bytes pay for that it may take in all."""
        return max(FREE_WORK - self._allowance.used + self._taken, min(OWN_FREE_WORK, FREE_WORK))

    @property
    def _paid(self) -> int:
        """Work that its bytes pay for."""
        small = min(self.packed, SMALL)
        return WORK_A_BYTE * small + WORK_A_BYTE_BEYOND * (self.packed - small)

    def unpaid(self, count: int) -> None:
        """Of the bytes of the file so many are what an archive writes around its members: they pay for nothing."""
        self.packed = max(self.packed - count, 0)

    @property
    def room(self) -> int:
        """Work that may still be spent."""
        return max(self._free + self._paid - self.spent, 0)

    def spend(self, work: int) -> None:
        """Count work. Raises LimitError."""
        self.spent += work
        beyond, free = max(self.spent - self._paid, 0), self._free
        if beyond != self._taken:
            self._allowance.used += min(beyond, free) - self._taken
            self._taken = min(beyond, free)
        if beyond > free:
            raise LimitError("it repeats itself far beyond its own size: not reading on")

    def take(self, count: int) -> None:
        """Count unpacked bytes. Raises LimitError."""
        self.unpacked += count
        if self.unpacked > min(FREE_BYTES + MAX_RATIO * self.packed, MAX_UNPACKED):
            raise LimitError(
                f"it unpacks to more than {MAX_RATIO} times its size: not reading on"
                if self.unpacked < MAX_UNPACKED
                else f"it unpacks to more than {MAX_UNPACKED >> 30} GiB: not reading on"
            )
