"""Commands for which a system call is as in a kernel that was built without it, or that forbids it.

As a program (it imports nothing but a leaf of ours): ``withoutcall.py ERRNO NUMBER COMMAND…``. Whatever the command
starts has the same; nothing changes outside.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from ctctl._ffi import syscall

_PR_SET_NO_NEW_PRIVS = 38  # include/uapi/linux/prctl.h
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2  # include/uapi/linux/seccomp.h
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
#: of struct sock_filter: load a word, jump if equal, return a constant (include/uapi/linux/bpf_common.h)
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


def without_bpf(err: int) -> tuple[str, ...]:
    """What to put before a command: in it bpf(2) answers ``err`` (ENOSYS: the kernel has no BPF; EPERM: forbidden)."""
    return sys.executable, "-m", __name__, str(err), str(syscall.bpf_number())


def _refuse(number: int, err: int) -> None:
    """The call ``number`` answers ``err`` in this process and all that it starts."""
    words = (
        (_LOAD, 0, 0, 0),
        (_IF_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _RET_ERRNO | err),
        (_RETURN, 0, 0, _RET_ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *word) for word in words))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    whole = Filter(len(words), ctypes.addressof(code))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0
    ):
        raise OSError(ctypes.get_errno(), f"no filter of system calls: {errno.errorcode[ctypes.get_errno()]}")


if __name__ == "__main__":
    _refuse(int(sys.argv[2]), int(sys.argv[1]))
    os.execvp(sys.argv[3], sys.argv[3:])
