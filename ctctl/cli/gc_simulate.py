"""``ctctl gc simulate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctctl.cli.groups import OutputArgs, grouped
from ctctl.cli.options import NodeOpt
from ctctl.cli.predicting import (
    ForOpt,
    FromOption,
    PcapOpt,
    SetOpt,
    WorkloadArgument,
    raise_partial,
    seconds_of,
    workloads,
)
from ctctl.cli.predicting import NowOption as DumpTime


@grouped
def simulate(
    workload: WorkloadArgument = None,
    duration: ForOpt = "24h",
    change: SetOpt = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="PATH=VALUE", help="Also with this changed; may be repeated."),
    ] = None,
    from_: FromOption = None,
    pcap: PcapOpt = None,
    now: DumpTime = None,
    node: NodeOpt = None,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Charts below the table.")] = True,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the charts as SVG; needs matplotlib.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Write the charts as PNG; needs matplotlib.")
    ] = None,
    *,
    out: OutputArgs,
) -> None:
    """How tables and the GC interval develop under a workload, hours or days ahead.

    \b
    ctctl gc simulate examples/workload.yaml
    ctctl gc simulate examples/workload.yaml --compare ct.tcp-max=1048576 \\
      --compare timeouts.regular-tcp=3600s
    ctctl gc simulate --from auto --for 6h --svg forecast.svg
    ctctl gc simulate examples/workload.yaml --set nodes=10000 --set spread=0.5

    A workload is kinds of connections with a rate, durations and ways to end; --from and --pcap learn
    one from a table or a capture. Tables start empty, or as the table is that --from learns from.
    """
    from ctctl.out import figure
    from ctctl.out.files import replacing
    from ctctl.predict.fluid import predict
    from ctctl.predict.show import charts, write_predictions

    seconds = seconds_of(duration)
    if svg is not None or png is not None:
        figure.require_matplotlib()
    wanted, lacking = workloads(workload, from_, pcap, now, node=node, changes=change or [], compared=compare or [])
    predictions = [predict(one, seconds) for one in wanted]
    for path, draw in ((svg, figure.svg), (png, figure.png)):
        if path is not None:
            drawn = draw(charts(predictions))
            with replacing(path) as stream:
                stream.write(drawn)
    write_predictions(predictions, out.options(), sys.stdout, sys.stderr, plot=plot)
    raise_partial(lacking)
