"""What ``ctctl gc simulate`` and ``ctctl sizing`` have in common: options, and the workload they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctctl.cli.numbers import table_time
from ctctl.errors import PartialDataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctctl.predict.model import Workload
    from ctctl.predict.observed import Observed

WorkloadArgument = Annotated[
    Path | None, typer.Argument(metavar="WORKLOAD", help="YAML file; see examples/workload.yaml.")
]
ForOpt = Annotated[str, typer.Option("--for", metavar="TIME", help="How long to run, e.g. 24h.")]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change the workload, e.g. ct.tcp-max=1048576.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="SRC", help="Learn the workload from a table: auto, a snapshot, a dump.")
]
PcapOpt = Annotated[Path | None, typer.Option("--pcap", metavar="FILE", help="Learn the workload from a capture.")]
NowOption = Annotated[
    int | None, typer.Option("--now", metavar="T", parser=table_time, help="With --from: the time of the dump.")
]


def seconds_of(text: str) -> float:
    """A duration above 0. Raises UsageError."""
    from ctctl.model.units import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if seconds <= 0:
        raise UsageError(f"--for {text}: must be longer than 0")
    return seconds


def raise_partial(lacking: list[str]) -> None:
    """Once what was learned is shown: raises PartialDataError where the source lacks something."""
    if lacking:
        raise PartialDataError("partial data: " + "; ".join(lacking))


def workloads(
    file: Path | None,
    source: str | None,
    pcap: Path | None,
    now: int | None,
    *,
    node: str | None,
    changes: list[str],
    compared: list[str],
) -> tuple[list[Workload], list[str]]:
    """The workload asked for, one more for each change to compare with; what the source lacks. Raises CtctlError."""
    from dataclasses import replace

    from ctctl.cli.report import require_tables, say
    from ctctl.predict import observed
    from ctctl.predict.workload import load_document, parse_workload, with_change

    if file is None and source is None and pcap is None:
        raise UsageError("which workload? name a file (see examples/workload.yaml), --from SRC or --pcap FILE")
    where = str(file or pcap or source)
    document: dict[str, Any] = (
        load_document(file) if file is not None else {"name": Path(where).stem, "kinds": [{"rate": 0}]}
    )
    for change in changes:
        document = with_change(document, change, where)
    variants = [("", document)] + [(change, with_change(document, change, where)) for change in compared]
    found: list[Workload] = []
    partial: list[str] = []
    for change, variant in variants:
        workload = parse_workload(variant, where)
        timeouts: Mapping[str, object] = variant.get("timeouts", {})
        sizes: Mapping[str, object] = variant.get("ct", {})
        given = [name.replace("-", "_") for name in timeouts]
        if file is None:
            captured = observed.kinds_of_capture(pcap) if pcap is not None else None
            kinds = captured.kinds if captured is not None else ()
            if captured is not None and captured.doubt is not None and not change:
                say(f"{pcap}: {captured.doubt} can be told by so little")
            if source is not None:
                from ctctl.tables.open import open_source
                from ctctl.tables.sources.base import SourceOptions

                with open_source(source, SourceOptions(now=now, node=node)) as opened:
                    require_tables(opened)
                    partial = opened.partial
                    seen = observed.observe(opened, workload.timeouts, given)
                kinds += seen.kinds
                workload = _as_seen(workload, seen, sizes)
            workload = replace(workload, kinds=kinds)
        found.append(replace(workload, name=change or workload.name))
    return found, partial


def _as_seen(workload: Workload, seen: Observed, given: Mapping[str, object]) -> Workload:
    """The workload with the timeouts and table sizes of what it was learned from; sizes ``given`` count first."""
    from dataclasses import replace

    sizes = dict(seen.sizes)
    for name in sizes:
        key = "any-max" if "any" in name else "tcp-max"
        if key in given:
            sizes[name] = workload.any_max if key == "any-max" else workload.tcp_max
    tcp = [size for name, size in sizes.items() if size and "any" not in name]
    others = [size for name, size in sizes.items() if size and "any" in name]
    return replace(
        workload,
        timeouts=seen.timeouts,
        tcp_max=max(tcp, default=workload.tcp_max),
        any_max=max(others, default=workload.any_max),
        alive=seen.alive,
        sizes=sizes,
    )
