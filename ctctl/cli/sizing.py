"""``ctctl sizing``."""

from __future__ import annotations

import sys

import typer

from ctctl.cli.groups import OutputArgs, grouped
from ctctl.cli.options import NodeOpt
from ctctl.cli.predicting import (
    ForOpt,
    FromOption,
    NowOption,
    PcapOpt,
    SetOpt,
    WorkloadArgument,
    raise_partial,
    seconds_of,
    workloads,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@grouped
def sizing(
    workload: WorkloadArgument = None,
    duration: ForOpt = "24h",
    change: SetOpt = None,
    source: FromOption = None,
    pcap: PcapOpt = None,
    now: NowOption = None,
    node: NodeOpt = None,
    *,
    out: OutputArgs,
) -> None:
    """How large the conntrack tables should be for a workload, and what memory that costs.

    \b
    ctctl sizing examples/workload.yaml
    ctctl sizing --from auto
    ctctl sizing examples/workload.yaml --set timeouts.regular-tcp=3600s

    Recommended is the least power of two whose peak stays below 75 %, GC running by its rule. Memory is
    what this kernel accounts for a table of that size.
    """
    from ctctl.predict.show import write_sizes
    from ctctl.predict.sizing import sizes

    seconds = seconds_of(duration)
    (wanted,), lacking = workloads(workload, source, pcap, now, node=node, changes=change or [], compared=[])
    write_sizes(sizes(wanted, seconds), out.options(), sys.stdout)
    raise_partial(lacking)
