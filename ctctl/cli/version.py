"""``ctctl version``."""

from __future__ import annotations

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def version() -> None:
    """Print the versions that a bug report needs: ctctl, libbpf, kernel, Python.

    \b
    ctctl version
    """
    import platform

    from ctctl import __version__
    from ctctl.kernel.features import libbpf_version

    typer.echo(f"ctctl {__version__}")
    typer.echo(f"libbpf {libbpf_version() or 'not found'}")
    typer.echo(f"kernel {platform.release()}")
    typer.echo(f"python {platform.python_version()}")
