"""What a failed foreign call raises before anybody knows what it was for."""

from __future__ import annotations

import errno as _errno
import os


class CallError(Exception):
    """A libbpf function or system call failed with ``errno`` (positive; from 4000 up libbpf's own)."""

    def __init__(self, function: str, errno: int) -> None:
        text = os.strerror(errno) if errno < 4000 else "libbpf error"
        super().__init__(f"{function}: {text} ({_errno.errorcode.get(errno, errno)})")
        self.function = function
        self.errno = errno
