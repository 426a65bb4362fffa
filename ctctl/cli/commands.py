"""What ``ctctl --help`` says: the commands, each with the module that holds it, and the words around them.

Without typer: who only asks for help does not wait for it (``root_help``).
"""

from __future__ import annotations

from typing import NamedTuple

#: Those that are read without typer where little is asked of them (``plain``).
PLAIN = (["ct", "list"], ["ct", "get"])
#: A page of help is no wider than this.
WIDEST = 100


class LazyCommand(NamedTuple):
    """Where a top-level command lives. ``help`` is its line in ``ctctl --help``."""

    module: str
    help: str
    #: the Typer object in the module
    attribute: str = "app"
    #: the Typer object *is* the command (a group); else the command of that name is taken out of it
    group: bool = False


_NODE = "ctctl.cli.node"
_SERVICES = "ctctl.cli.services"

COMMANDS: dict[str, LazyCommand] = {
    "ct": LazyCommand("ctctl.cli.ct", "The conntrack table: list, get, stats, top, events, diff, delete.", group=True),
    "trace": LazyCommand("ctctl.cli.trace", "What happens to a packet: live, simulated, from a scenario or a pcap."),
    "gc": LazyCommand("ctctl.cli.gc", "Collect expired entries, or say what would be collected.", group=True),
    "sizing": LazyCommand("ctctl.cli.sizing", "How large the tables should be for a workload, and their memory."),
    "doctor": LazyCommand("ctctl.cli.doctor", "Find and explain what is wrong with the tables."),
    "cluster": LazyCommand("ctctl.cli.cluster", "Any command that reads, over every node of a Kubernetes cluster."),
    "fleet": LazyCommand("ctctl.cli.fleet", "Tables of many nodes as Parquet, and questions in SQL.", group=True),
    "report": LazyCommand("ctctl.cli.reporting", "One HTML page for a ticket: tables, findings, a connection's story."),
    "ui": LazyCommand("ctctl.cli.ui", "The tables on a full screen, kept up to date."),
    "lb": LazyCommand(_SERVICES, "Load balancer tables: frontends, backends, Maglev.", "lb_app", group=True),
    "nat": LazyCommand("ctctl.cli.nat", "The SNAT table.", group=True),
    "ipcache": LazyCommand(_SERVICES, "The identity table.", "ipcache_app", group=True),
    "endpoint": LazyCommand(_SERVICES, "The endpoints of a node.", "endpoint_app", group=True),
    "tunnel": LazyCommand(_SERVICES, "The tunnel table of Cilium up to 1.16.", "tunnel_app", group=True),
    "socknat": LazyCommand(_SERVICES, "Sockets that the socket load balancer turned.", "socknat_app", group=True),
    "policy": LazyCommand("ctctl.cli.policy", "Who may talk to whom, and which rule decides.", group=True),
    "load": LazyCommand(_NODE, "Install ctctl's own datapath, or replace it without losing a connection."),
    "apply": LazyCommand(_NODE, "Change services, endpoints, identities and policy in place."),
    "unload": LazyCommand(_NODE, "Remove a node's programs, links and tables."),
    "status": LazyCommand(_NODE, "What is loaded: nodes, devices, programs, tables, drop counters."),
    "features": LazyCommand(_NODE, "What this kernel can do, and what each feature is needed for."),
    "lab": LazyCommand("ctctl.cli.lab", "A small cluster in network namespaces, with real traffic.", group=True),
    "metrics": LazyCommand("ctctl.cli.metrics", "Prometheus metrics, and the datapath's drop counters.", group=True),
    "schema": LazyCommand("ctctl.cli.schema", "The JSON Schema of everything ctctl prints as JSON."),
    "completion": LazyCommand("ctctl.cli.completion", "Completion script for bash, zsh or fish."),
    "version": LazyCommand("ctctl.cli.version", "Versions of ctctl, libbpf, the kernel and Python."),
}


HELP = """Show, trace and repair the connection tracking of a Cilium-style eBPF datapath.

\b
What is in the table:  ctctl ct list
What happens to this:  ctctl trace 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'
What would GC do:      ctctl gc --dry-run

On a live Cilium node ctctl only looks, unless a command is given --allow-foreign.
"""

EPILOG = """Exit codes: 0 fine; 1 runtime error; 2 usage; 3 findings (doctor, ct diff, a failed expect);
4 no permission, or the kernel lacks it; 5 partial data; 130 interrupted."""

#: What may stand before a command.
OPTIONS = {
    "--debug": "Show a traceback when something fails.",
    "-v, --verbose": "Say what tables are read by: version, layout and clock.",
    "--no-pager": "Do not send long lists through a pager.",
    "--version": "Print the version and exit.",
}
