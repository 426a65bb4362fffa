"""The console script: interrupted while it still imports, it is as quiet as later."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading

#: Objects between two searches for garbage. What a start makes stays: with the usual 700 a fifth of a short
#: run is spent looking through it again and again.
_OBJECTS = 100_000


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    gc.set_threshold(_OBJECTS, 20, 50)
    try:
        status = _run()
    except KeyboardInterrupt:
        return 130
    finally:
        gc.freeze()  # the interpreter looks through everything once more as it ends
    _leave(status)
    return status


def _run() -> int:
    """The status of what the arguments ask for."""
    from ctctl.cli.root_help import asked_page

    page = asked_page()
    if page is None:
        from ctctl.cli.main import main as run

        return run()
    try:
        sys.stdout.write(page)
        sys.stdout.flush()
    except OSError as error:
        from ctctl.cli.main import report

        return report(error)
    return 0


def _leave(status: int) -> None:
    """End the process: what is left to do at exit is done, but what the kernel frees is not taken apart first.

    That takes a tenth of a short run. Where more is going on (another thread, a stream that does not take
    the rest), or a Python does not have what its own ends with (``_run_exitfuncs`` is no public name), it
    returns, and the interpreter ends in its own way.
    """
    if threading.active_count() > 1 or not hasattr(atexit, "_run_exitfuncs"):
        return
    with contextlib.suppress(OSError, ValueError):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
