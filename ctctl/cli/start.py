"""The console script: interrupted while it still imports, it is as quiet as later."""

from __future__ import annotations

import gc

#: Objects between two searches for garbage. What a start makes stays: with the usual 700 a fifth of a short
#: run is spent looking through it again and again.
_OBJECTS = 100_000


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    gc.set_threshold(_OBJECTS, 20, 50)
    try:
        from ctctl.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130
    finally:
        gc.freeze()  # the interpreter looks through everything once more as it ends
