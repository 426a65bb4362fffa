"""From the full screen to the live trace of a connection, and back."""

from __future__ import annotations

import signal
import subprocess
import sys

from ctctl.kernel.child import own_command


def follow(flow: str) -> None:
    """Run ``ctctl trace`` on a terminal that nobody else draws on; returns when it ended and Enter was typed."""
    # Ctrl-C is for the trace: a handler, unlike an ignored signal, is not passed on to it.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        print(f"ctctl trace '{flow}'    Ctrl-C ends it", flush=True)
        subprocess.run(own_command("ctctl.cli.start", "trace", flow), check=False)
        print("Enter: back to the table", flush=True)
        if sys.__stdin__ is not None:
            sys.__stdin__.readline()
    finally:
        signal.signal(signal.SIGINT, before)
