"""The console script: interrupted while it still imports, or ends, it is as quiet as in between.

Until a command is there, Ctrl-C is heard by a function called ``leave_at_once``, which whoever starts Python puts there
as the first thing (``packaging/ctctl``, ``ctctl/__main__.py``): an interrupt that becomes an exception in the middle of
an import is told by the import system, in its own words. ``process.hear_ctrl_c`` is called in front of a command.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctctl.cli.plain import Plain

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
    if "_CTCTL_COMPLETE" in os.environ and sys.stdout is not None:
        with contextlib.suppress(Exception):  # typer tries, and is as silent where it fails
            from ctctl.cli.tab import answered

            answer = answered()
            if answer is not None:
                print(answer, flush=True)
                return 0
    from ctctl.cli.commands import PLAIN

    if sys.argv[1:3] in PLAIN:  # no others wait for this import
        from ctctl.cli.plain import asked

        plain = asked()
        if plain is not None:
            return _show(plain)
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


def _show(plain: Plain) -> int:
    """Show what is plainly asked for; the exit status."""
    from ctctl.cli.process import hear_ctrl_c, let_notes_go

    let_notes_go()
    hear_ctrl_c()
    try:
        plain.run()
        sys.stdout.flush()
    except Exception as error:
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
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done, and its status is that
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
