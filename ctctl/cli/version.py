"""``ctctl version``."""

from __future__ import annotations

from typing import Annotated

import typer

from ctctl.cli.options import OutputOpt
from ctctl.errors import UsageError
from ctctl.out.options import Format, OutputOptions

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def version(
    output: OutputOpt = Format.table,
    examples: Annotated[
        bool, typer.Option("--examples", help="Print only the folder of the examples that came with this ctctl.")
    ] = False,
) -> None:
    """Print the versions that a bug report needs: ctctl, libbpf, kernel, Python.

    As JSON or YAML also what this ctctl was built from, and the SHA-256 of each BPF object.

    \b
    ctctl version
    ctctl version -o json
    cd "$(ctctl version --examples)/.."    to type what the pages show
    """
    import sys
    from dataclasses import asdict

    from ctctl.errors import NotFoundError
    from ctctl.kernel.build import installation

    if output in (Format.cilium, Format.csv, Format.name):
        raise UsageError(f"-o {output.value} has no form for versions; use table, json, jsonl or yaml")
    build = installation()
    if examples:
        if build.examples is None:
            raise NotFoundError("this ctctl came without examples: a wheel and the Debian package have them")
        typer.echo(build.examples)
        return
    if output not in (Format.table, Format.wide):
        from ctctl.out.output import write_document

        write_document("ctctl/version/v1", asdict(build), OutputOptions(output), sys.stdout)
        return
    made = ", ".join(word for word in (build.commit and build.commit[:12], build.built_at) if word)
    typer.echo(f"ctctl {build.ctctl}" + (f" ({made})" if made else ""))
    typer.echo(f"libbpf {build.libbpf or 'not found'}" + (f" ({build.libbpf_path})" if build.libbpf_path else ""))
    typer.echo(f"kernel {build.kernel} {build.machine}")
    typer.echo(f"python {build.python}")
    if build.examples is not None:
        typer.echo(f"examples {build.examples}")
