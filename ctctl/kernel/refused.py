"""What the kernel refused for the moment only: a lock of a hash map or trie that it did not get.

Up to Linux 6.14 EBUSY (this CPU was in the bucket already), since 6.15 EDEADLK and ETIMEDOUT (its locks are given
up after a quarter of a second; kernel/bpf/hashtab.c, lpm_trie.c). Nothing was done, or in a batch what is counted:
the call can be made again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

_REFUSED: Final = frozenset((-errno.EBUSY, -errno.EDEADLK, -errno.ETIMEDOUT))
#: Far more than one call ever takes; a map whose lock is never free is an error all the same.
TRIES: Final = 16


def is_refused(result: int) -> bool:
    """Whether ``result`` (0, or -errno) says that a lock was not had."""
    return result in _REFUSED


def insist(call: Callable[[], int]) -> int:
    """The result of ``call``, which is made again while a lock is refused, ``TRIES`` times at most."""
    result = call()
    for _ in range(TRIES - 1):
        if not is_refused(result):
            break
        result = call()
    return result
