"""Files that ctctl writes: readable for their owner only, whole or not there, and never through somebody's link."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ctctl.errors import CtctlError

#: What connections there were is nobody else's business.
PRIVATE = 0o600
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class WriteError(CtctlError):
    """A file cannot be written: no room, no permission, or there is one already."""


def cannot_write(path: Path, error: OSError) -> WriteError:
    """``error`` in an operator's words."""
    return WriteError(f"cannot write {path}: {error.strerror or error}")


def new_file(path: Path) -> int:
    """A descriptor on a file that was not there. Raises WriteError, also if a link of that name is there."""
    try:
        return os.open(path, _NEW, PRIVATE)
    except FileExistsError:
        raise WriteError(f"{path} exists already: name another file") from None
    except OSError as error:
        raise cannot_write(path, error) from None


def appended(path: Path) -> int:
    """A descriptor at the end of a file, made if it is not there. Raises WriteError, also for a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, PRIVATE)
    except OSError as error:
        raise cannot_write(path, error) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the name ``path`` when the block ends well, and is gone when it does not.

    A device or a pipe (``/dev/stdout``) is written as it is: it must not be replaced by a file.
    Raises WriteError for whatever the system says about the file.
    """
    if _is_special(path):
        with _said(path), path.open("wb") as stream:
            yield stream
        return
    part = path.with_name(f".ctctl-{secrets.token_hex(8)}")
    with _said(path):
        try:
            with os.fdopen(os.open(part, _NEW, PRIVATE), "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    try:
        return path.exists() and not path.is_file()
    except OSError:
        return False


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # the reader left, which is no failure
    except OSError as error:
        raise cannot_write(path, error) from error
