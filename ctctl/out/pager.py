"""A pager for long output on a terminal, as git has one: ``$CTCTL_PAGER``, ``$PAGER``, else ``less``."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ctctl.errors import CtctlError
from ctctl.out.text import safe

#: What less does if the user has not said otherwise: end at once where all fits, colours, leave the text there.
_LESS = "FRX"
_OFF = ("", "cat")
#: How a shell ends that did not find what to run, or must not run it.
_NOT_RUN = (126, 127)


class _Paged(io.TextIOWrapper):
    """Standard output while a pager reads it: still a terminal, for widths and colours."""

    def isatty(self) -> bool:
        """What it is in the end."""
        return True


def pager_command() -> str | None:
    """What to run, None where there is to be no pager, or the one asked for is not there, which is said."""
    import shutil

    for name in ("CTCTL_PAGER", "PAGER"):
        if name in os.environ:
            command = os.environ[name].strip()
            if command in _OFF:
                return None
            # What only a shell understands is the shell's to find.
            first = command.split()[0]
            if re.fullmatch(r"[\w./+-]+", first) and shutil.which(first) is None:
                sys.stderr.write(f"ctctl: ${name} is {safe(command)!r}, which is not there: not paged\n")
                return None
            return command
    return "less" if shutil.which("less") else None


@contextmanager
def paged() -> Iterator[None]:
    """Send ``sys.stdout`` through a pager inside the block, where it is a terminal; wait for the pager after it."""
    command = pager_command() if sys.stdout.isatty() and os.environ.get("TERM") not in ("", "dumb") else None
    if command is None:
        yield
        return
    import shutil
    import subprocess  # 10 ms that only a pager needs

    size = shutil.get_terminal_size()
    environment = {"LESS": _LESS, "LV": "-c", **os.environ}
    try:
        pager = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, env=environment)
    except OSError:
        yield
        return
    assert pager.stdin is not None
    before, columns = sys.stdout, os.environ.get("COLUMNS")
    # The pager's pipe has no size of its own.
    os.environ["COLUMNS"] = str(size.columns)
    sys.stdout = _Paged(pager.stdin, encoding="utf-8", errors="replace", write_through=True)
    gone: BrokenPipeError | None = None
    try:
        yield
    except BrokenPipeError as error:
        gone = error
    finally:
        with suppress(BrokenPipeError):
            sys.stdout.close()
        sys.stdout = before
        if columns is None:
            del os.environ["COLUMNS"]
        # Ctrl-C is the pager's now: it ends a search, not the listing.
        old = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            pager.wait()
        finally:
            signal.signal(signal.SIGINT, old)
    if pager.returncode in _NOT_RUN:
        raise CtctlError(f"the pager {command!r} could not be run: --no-pager lists without it")
    if gone is not None:
        raise gone
