"""``python -m ctctl``."""

import _signal  # type: ignore[import-not-found]  # part of the interpreter: what is pressed from here on is heard
import posix


def leave_at_once(_number: int, _frame: object) -> None:
    """What Ctrl-C does until a command is there that hears it (``ctctl.cli.start``)."""
    posix._exit(130)


if __name__ == "__main__":
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not where the parent had it ignored
        _signal.signal(_signal.SIGINT, leave_at_once)
    import sys

    from ctctl.cli.start import main

    sys.exit(main())
