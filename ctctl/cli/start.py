"""The console script: interrupted while it still imports, it is as quiet as later."""

from __future__ import annotations


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    try:
        from ctctl.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130
