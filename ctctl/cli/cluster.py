"""``ctctl cluster``: any command that reads, over every node of a Kubernetes cluster.

The command's own words follow; what it reads is fetched first, its ``--from`` is what was fetched.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ctctl.cli.answers import ended_by_unwinding
from ctctl.cli.cluster_nodes import Pushed, pushed_down, write_sums
from ctctl.cli.complete import answering
from ctctl.cli.options import Attach
from ctctl.errors import PartialDataError, UsageError
from ctctl.model.units import counted
from ctctl.out.fetched import fetched_by, without
from ctctl.out.text import safe, shell_word

if TYPE_CHECKING:
    from ctctl.cluster.fetch import Answer, Wanted
    from ctctl.cluster.kube import Api, Pod
    from ctctl.out.options import Format

#: What may follow: commands that only read, and those of their words that must not stand there.
READING = ("nodes", "ct", "nat", "lb", "ipcache", "endpoint", "doctor", "gc", "report", "fleet", "trace")
_CHANGING = {("ct", "delete"), ("ct", "flush"), ("ct", "import"), ("gc", "undo")}
_OF_TABLE = {
    "nat": ("nat-list.txt",),
    "lb": ("lb-list.txt", "lb-list-backends.txt", "lb-list-revnat.txt"),
    "ipcache": ("ipcache-list.txt",),
    "endpoint": ("endpoint-list.txt",),
}
#: How long the nodes of ``cluster trace`` are listened to, and its ways that are of one machine.
_LISTEN_S = 10.0
_OF_ONE_MACHINE = ("live", "probe", "device", "netns", "tables", "attach", "scenario", "simulate", "pcap", "file")
#: What a context has of options that were not given.
_UNSET = (None, False, (), Attach.auto)
#: Before a word that is not this command's; no argument of a program can hold it.
_NOT_OURS = "\0"
_CT_ONLY = ("ct-list.txt", "lb-list-backends.txt", "lb-list-revnat.txt")


def _words_below(ctx: typer.Context) -> Sequence[str]:
    """What may follow at a TAB."""
    return below_of(_words_of(ctx, ctx.params.get("command")))


def below_of(given: Sequence[str]) -> Sequence[str]:
    """What may follow words that did: a command, then its own commands but for those that change."""
    if not given:
        return READING
    found = command_of(given)
    if found is None or found[1] or not hasattr(found[0], "commands"):
        return ()
    return [name for name in found[0].commands if (*given, name) not in _CHANGING]


class ClusterCommand(TyperCommand):
    """A command whose own options may stand among those of the command that follows.

    ``-ojson`` is then that one's ``-o``: letter by letter, its last would be taken for ours. ``-last_tx_report`` behind
    ``--sort``, the one option whose value may start so, is what to sort by, not our ``-l`` with a selector.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ours = {option for parameter in self.params for option in parameter.opts}
        marked = []
        for before, word in pairwise(("", *args)):
            joined = len(word) > 2 and word[0] == "-" and word[1] != "-"
            marked.append(_NOT_OURS * (joined and (before == "--sort" or word[:2] not in ours)) + word)
        return super().parse_args(ctx, marked)


def _words_of(ctx: typer.Context, command: Sequence[str] | None) -> list[str]:
    """What is not this command's own."""
    return [word.removeprefix(_NOT_OURS) for word in (*(command or ()), *ctx.args)]


app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    cls=ClusterCommand,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def cluster(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND…",
            help="nodes, or ct list, ct get, …",
            autocompletion=answering(_words_below),
        ),
    ] = None,
    kubeconfig: Annotated[
        str | None,
        typer.Option("--kubeconfig", metavar="FILE", help="Else $KUBECONFIG, ~/.kube/config, the pod's own."),
    ] = None,
    context: Annotated[str | None, typer.Option("--context", metavar="NAME", help="Context in it.")] = None,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", metavar="NS", help="Where Cilium's agents run.")
    ] = "kube-system",
    selector: Annotated[
        str | None, typer.Option("-l", "--selector", metavar="A=B", help="Labels of the pods to ask, and only those.")
    ] = None,
    node: Annotated[str, typer.Option("--node", metavar="GLOB", help="Only these nodes.")] = "*",
    deadline: Annotated[float, typer.Option("--deadline", min=0.1, metavar="SECS", help="For each node.")] = 30.0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=256, metavar="N", help="Nodes asked at once.")] = 16,
    show_help: Annotated[bool, typer.Option("-h", "--help", help="This, or a command's own help.")] = False,
) -> None:
    """Run a command that reads over every node of a cluster, through the Kubernetes API. Nothing is changed.

    Pods of ctctl's DaemonSet are asked where they run, filtered there; else Cilium's agents answer with their own
    command line: nothing needs to be installed. A node that fails is named with its reason; exit status 5.

    \b
    ctctl cluster nodes                    which nodes can be read
    ctctl cluster ct list 'state == closing' --limit 20
    ctctl cluster ct get 'tcp 10.64.0.36:54260 > 10.64.0.64:8000' --context prod
    ctctl cluster doctor --node 'worker-*' -o json
    ctctl cluster gc --dry-run
    ctctl cluster fleet collect lake/      every node into a lake

    \b
    What every agent's monitor sees of a connection:
      ctctl cluster trace 'tcp 10.64.0.36 > 10.64.0.64:8000' --for 10s
    """
    words = _words_of(ctx, command)
    if not words:
        typer.echo(ctx.get_help())
        return
    if show_help:
        words.append("--help")
    if words[0] not in READING:
        from ctctl.model.suggest import unknown_name

        if words[0].startswith("-"):
            raise UsageError(
                "cluster: " + unknown_name("option", words[0], [o for p in ctx.command.params for o in p.opts])
            )
        raise UsageError("cluster: " + unknown_name("command", words[0], READING))
    _refuse_changes(words)
    if words[0] != "nodes" and (show_help or not _reads_tables(words)):
        raise typer.Exit(_inner(words))  # its help, or what is wrong with the words: no node need be asked for it
    params, form = _params(words), _form_of_nodes(words[1:]) if words[0] == "nodes" else None
    pushed = pushed_down(words, params)
    from ctctl.cluster.kube import Api

    api = Api(kubeconfig, context, deadline)
    reached = {"--kubeconfig": kubeconfig, "--context": context, "-n": namespace, "-l": selector, "--node": node}
    with ended_by_unwinding() as ending, fetched_by(_typed_again(ctx, reached), str(folder := ending.make())):
        which, api.look = (namespace, selector, node), ending.look
        if words[0] == "trace":
            raise typer.Exit(_trace(api, words, params, which, (deadline, jobs), folder))
        answers = _fetch(api, words, which, (deadline, jobs), folder, pushed)
        if pushed.sums:
            raise typer.Exit(_show_sums(api, words, params, answers, folder))
        if form is not None:
            _show_nodes(answers, form)
            return
        raise typer.Exit(_run(api, words, params, answers, folder))


def _typed_again(ctx: typer.Context, reached: dict[str, str | None]) -> str:
    """This command with the options that lead to the same nodes, for commands that are advised."""
    usual = {option: parameter.default for parameter in ctx.command.params for option in parameter.opts}
    given = [f"{name} {shell_word(value)}" for name, value in reached.items() if value not in (None, usual[name])]
    return " ".join(["ctctl cluster", *given])


def _refuse_changes(words: Sequence[str]) -> None:
    if tuple(words[:2]) in _CHANGING or (words[0] == "gc" and "--dry-run" not in words and "--help" not in words):
        raise UsageError(f"cluster only reads: no {' '.join(words[:2])} on several nodes; gc needs --dry-run")
    if "--from" in words or any(word.startswith("--from=") for word in words):
        raise UsageError("cluster reads the cluster: leave out --from")


def _fetch(
    api: Api,
    words: Sequence[str],
    which: tuple[str, str | None, str],
    limits: tuple[float, int],
    folder: Path,
    pushed: Pushed,
) -> list[Answer]:
    from ctctl.cluster.fetch import LISTINGS, Wanted, targets

    listings = _OF_TABLE.get(words[0], tuple(LISTINGS))
    if words[0] == "nodes" or tuple(words[:2]) in {("ct", "list"), ("ct", "stats"), ("ct", "top")} or words[0] == "gc":
        listings = _CT_ONLY
    wanted = Wanted(listings, pushed.words, pushed.sums, deadline_s=limits[0], jobs=limits[1])
    return _asked(api, targets(api, *which), wanted, folder)


def _asked(api: Api, pods: dict[str, Pod | None], wanted: Wanted, folder: Path) -> list[Answer]:
    """The answers, and while they come what became of each."""
    from ctctl.cli.report import say
    from ctctl.cluster.fetch import fetch

    done = 0

    def told(answer: Answer) -> None:
        nonlocal done
        done += 1
        progress = sys.stderr.isatty()
        if answer.reason is not None:
            sys.stderr.write("\r\x1b[K" if progress else "")
            say(f"{answer.node}: {answer.reason}")
        if progress:
            sys.stderr.write(f"\r\x1b[Kctctl: {done} of {len(pods)} nodes" + ("\n" if done == len(pods) else ""))

    answers = fetch(api, pods, wanted, folder, told)
    of_lack: dict[str, list[str]] = {}
    for answer in answers:
        for lack in answer.lacks:
            of_lack.setdefault(str(lack), []).append(answer.node)
    for text, nodes in of_lack.items():
        say(f"{text} ({', '.join(nodes[:3])}{f' and {len(nodes) - 3} more nodes' if len(nodes) > 3 else ''})")
    return answers


def _params(words: Sequence[str]) -> dict[str, Any]:
    """The parameters that the words give their command. Raises UsageError."""
    found = command_of(words)
    if found is None or words[0] == "nodes":
        return {}
    inner, rest = found
    name = " ".join(("ctctl cluster", *words[: len(words) - len(rest)]))
    given: dict[str, Any] = inner.make_context(name, list(rest)).params
    if given.get("every_node"):
        raise UsageError("cluster reads every node: leave out --all-nodes")
    return given


def _show_sums(api: Api, words: list[str], params: dict[str, Any], answers: Sequence[Answer], folder: Path) -> int:
    _failed(answers)
    _names(api, folder / "names.json")
    told = write_sums(words, params, answers, folder / "names.json")
    missing = [f"{one.node}: {one.reason}" for one in _failed(told)]
    missing += [f"{one.node}: {lack}" for one in told for lack in one.lacks if not lack.absent]
    if missing:
        sys.stdout.flush()
        raise PartialDataError(f"partial data: {'; '.join(missing)}")
    return 0


def _names(api: Api, path: Path) -> None:
    """What the API knows by name, in a file; what it does not tell, although it may be asked, is said."""
    from ctctl.cli.report import say
    from ctctl.cluster.fetch import write_names

    for reason in write_names(api, path):
        say(reason)


def _trace(
    api: Api,
    words: list[str],
    params: dict[str, Any],
    which: tuple[str, str | None, str],
    limits: tuple[float, int],
    folder: Path,
) -> int:
    """``ctctl trace --from`` what the agents' monitors saw, all at the same time."""
    from ctctl.cli.report import say
    from ctctl.cli.trace_listen import Limits
    from ctctl.cluster.fetch import MONITOR, Wanted, targets

    given = [f"--{name}" for name in _OF_ONE_MACHINE if params.get(name) not in _UNSET]
    if given:
        raise UsageError(f"cluster trace is told by the agents' monitors: leave out {', '.join(given)}")
    seconds = Limits(None, params.get("duration")).seconds or _LISTEN_S
    pods = targets(api, *which, agents_only=True)
    # All listen at once, else none would see the same packets.
    wanted = Wanted((), monitor_s=seconds, deadline_s=limits[0], jobs=max(limits[1], len(pods)))
    seen, names = folder / "seen", folder / "names.json"
    answers = _asked(api, pods, wanted, seen)
    failed = _failed(answers)
    if not any(path.stat().st_size for path in seen.rglob(MONITOR)):
        say(f"no event in {seconds:g} s on {counted(len(answers) - len(failed), 'node')}")
        return 5 if failed else 0
    _names(api, names)
    status = _inner([*_without_duration(words), "--from", str(seen), "--names", str(names)])
    return status if status or not failed else 5


def _without_duration(words: Sequence[str]) -> list[str]:
    left: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--for":
            next(rest, None)
        elif not word.startswith("--for="):
            left.append(word)
    return left


def _reads_tables(words: Sequence[str]) -> bool:
    """Whether the words name a command that reads a source. Raises UsageError for one that never does."""
    found = command_of(words)
    if found is None or "--from" in _options(found[0]):
        return found is not None
    if not hasattr(found[0], "get_command"):
        raise UsageError(f"cluster: ctctl {' '.join(words[:2])} reads no node's tables: leave out cluster")
    return False


def _options(command: Any) -> set[str]:
    return {name for option in command.params for name in option.opts}


def command_of(words: Sequence[str]) -> tuple[Any, list[str]] | None:
    """The command that words name, and the rest of them; None for words that name none."""
    from ctctl.cli.main import app as root

    found: Any = typer.main.get_command(root)
    rest = list(words)
    context = type(typer.main.get_command(app).make_context("ctctl", [], resilient_parsing=True))(
        found, info_name="ctctl"
    )
    while rest and not rest[0].startswith("-") and hasattr(found, "get_command"):
        below = found.get_command(context, rest[0])
        if below is None:
            return None
        found, rest = below, rest[1:]
        context = type(context)(found, parent=context, info_name=str(found.name))
    return found, rest


def _run(api: Api, words: list[str], params: dict[str, Any], answers: Sequence[Answer], folder: Path) -> int:
    """The command on what was fetched."""
    from ctctl.cluster.fetch import write_reasons

    read = [answer for answer in answers if answer.folder is not None]
    failed = {answer.node: answer.reason or "" for answer in _failed(answers)}
    found = command_of(words)
    if words[0] == "gc":
        return _gc(words, params, read, failed, folder) or (5 if failed else 0)
    more: list[str] = []
    named = any(word == "--cluster" or word.startswith("--cluster=") for word in words)
    if words[:2] == ["fleet", "collect"] and not named:
        more += ["--cluster", api.cluster]
    if words[0] != "fleet" and (failed or any(not lack.absent for one in read for lack in one.lacks)):
        reasons = folder / "nodes that failed.ctsnap"
        write_reasons(answers, reasons)
        more += ["--from", str(reasons)]
    for answer in read:
        more += ["--from", str(answer.folder)]
    if found is not None and "--names" in _options(found[0]):
        names = folder / "names.json"
        _names(api, names)
        more += ["--names", str(names)]
    with without(failed):
        status = _inner([*words, *more])
    return status if status or not failed else 5


def _gc(
    words: Sequence[str], params: dict[str, Any], read: Sequence[Answer], failed: Mapping[str, str], folder: Path
) -> int:
    """What a run would do on each node by itself, which is how it would run: a report a node, named as its source."""
    from contextlib import chdir

    statuses = []
    shown = params.get("output") in {"table", "wide"}
    with chdir(folder):
        for answer in read:
            assert answer.folder is not None
            if shown:
                print(f"{safe(answer.node)}:", flush=True)
            statuses.append(_inner([*words, "--from", str(answer.folder.relative_to(folder))]))
    for node, reason in failed.items() if shown else ():
        print(f"{safe(node)}:\n  {safe(reason)}", flush=True)
    return next((status for status in statuses if status), 0)


def _failed(answers: Sequence[Answer]) -> list[Answer]:
    """Those without an answer. Raises PartialDataError where no node has one."""
    failed = [answer for answer in answers if answer.reason is not None]
    if len(failed) == len(answers):
        raise PartialDataError(
            f"partial data: none of {counted(len(answers), 'node')} could be read: {failed[0].node}: {failed[0].reason}"
        )
    return failed


def _inner(words: list[str]) -> int:
    from ctctl.cli.main import main

    sys.stdout.flush()
    return main(words)


def _show_nodes(answers: list[Answer], form: Format) -> None:
    from ctctl.cluster.show import node_view
    from ctctl.out.options import OutputOptions
    from ctctl.out.output import write_rows

    write_rows(node_view(), answers, OutputOptions(form), sys.stdout)
    sys.stdout.flush()
    failed = [answer.node for answer in answers if answer.reason is not None]
    if failed:
        raise PartialDataError(
            f"partial data: {len(failed)} of {counted(len(answers), 'node')} could not be read: {', '.join(failed)}"
        )


def _form_of_nodes(words: Sequence[str]) -> Format:
    """What ``-o`` says, in each way in which it may be written. Raises UsageError."""
    from ctctl.model.suggest import unknown_name
    from ctctl.out.options import Format

    given: str | None = None
    rest = iter(words)
    for word in rest:
        if word in ("-o", "--output"):
            given = next(rest, "")
        elif word.startswith("--output="):
            given = word.removeprefix("--output=")
        elif word.startswith("-o"):
            given = word.removeprefix("-o").removeprefix("=")
        else:
            raise UsageError(f"cluster nodes takes -o and nothing else, not {word!r}")
    if given is None:
        return Format.table
    if given not in list(Format):
        raise UsageError("cluster nodes -o: " + unknown_name("format", given, map(str, Format)))
    return Format(given)
