"""``ctctl schema``: the JSON Schema of what ctctl prints as JSON."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One schema, e.g. ct-entry; else all, in one document.")
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="Only the names.")] = False,
) -> None:
    """Print the JSON Schema of everything ctctl prints as JSON.

    \b
    ctctl schema > ctctl.schema.json
    ctctl schema ct-entry
    """
    from ctctl.cli.schemas import SCHEMAS, whole
    from ctctl.errors import UsageError
    from ctctl.model.suggest import unknown_name

    if names:
        typer.echo("\n".join(SCHEMAS))
        return
    if name is None:
        typer.echo(json.dumps(whole(), indent=2))
        return
    short = {full.split("/")[1]: full for full in SCHEMAS}
    full = short.get(name, name)
    if full not in SCHEMAS:
        raise UsageError(unknown_name("schema", name, short))
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[full]}, indent=2))
