"""``--from SRC``: what the user typed to a source (docs/reference/cli.md)."""

from __future__ import annotations

from pathlib import Path

from ctctl.errors import NotFoundError, PermissionDenied
from ctctl.tables.sources.base import Source, SourceOptions


def open_source(spec: str = "auto", options: SourceOptions = SourceOptions()) -> Source:  # noqa: B008 - frozen
    """Open ``auto``, a bpffs directory, a pin, a file of any known form, ``nf`` or ``-`` (stdin).

    Raises NotFoundError, PermissionDenied, DecodeError for what is no source, KernelError.
    """
    if spec == "auto":
        from ctctl.tables.sources.live import open_default

        return open_default(options)
    if spec == "nf":
        from ctctl.tables.sources.nf import open_nf

        return open_nf(options)
    if spec == "-":
        from ctctl.tables.sources.files import open_stdin

        return open_stdin(options)
    path = Path(spec)
    try:
        is_directory = path.is_dir()
        exists = path.exists()
    except PermissionError:
        raise PermissionDenied(f"{spec}: no permission") from None
    if not exists:
        from ctctl.kernel.build import is_an_example

        raise NotFoundError(f"--from {spec}: no such file or directory{is_an_example(spec)}")
    if in_bpffs(path):
        from ctctl.tables.sources.live import open_directory, open_pin

        return open_directory(path, options) if is_directory else open_pin(path, options)
    from ctctl.tables.sources.files import open_file, open_folder

    return open_folder(path, options) if is_directory else open_file(path, options)


def in_bpffs(path: Path) -> bool:
    """Whether a path is on a bpffs: a directory of pins, or a pin."""
    from ctctl.kernel import bpffs

    return bpffs.is_bpffs(path.resolve())
