"""The tables of many nodes at once: what is asked of each, within what time, and what became of it.

A node's answer is a folder of files that every command reads; a node that fails is a reason. Two ways in: pods of
our DaemonSet answer with a snapshot, filtered in their node's kernel; else the Cilium agent's own command line
answers with its listings.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import resource
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from ctctl.abi import pins
from ctctl.cluster.errors import ClusterError, ExitError, TransientError
from ctctl.cluster.kube import TRIES, Api, Pod
from ctctl.errors import CtctlError, NotFoundError, PartialDataError, PermissionDenied
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.open import open_source
from ctctl.tables.sources.packet_log import is_packet_log
from ctctl.tables.sources.snapshot_write import write_snapshot

#: Labels of the pods of our DaemonSet (deploy/daemonset.yaml) and of Cilium's agents.
OURS: Final = "app.kubernetes.io/name=ctctl"
CILIUM: Final = "k8s-app=cilium"
#: What the agent's command line is asked for, by file.
LISTINGS: Final = {
    "ct-list.txt": ("ct", "list", "global", "--time-diff"),
    "nat-list.txt": ("nat", "list"),
    "lb-list.txt": ("lb", "list"),
    "lb-list-backends.txt": ("lb", "list", "--backends"),
    "lb-list-revnat.txt": ("lb", "list", "--revnat"),
    "ipcache-list.txt": ("ipcache", "list"),
    "endpoint-list.txt": ("endpoint", "list"),
}
#: What stands for a listing without a record, whose file says nothing then: the tables that it is of, as an empty dump.
#: Of conntrack tables there are two at least, and an empty line each.
_EMPTY: Final = {
    "ct-list.txt": ("", "\n\n"),
    "nat-list.txt": (pins.SNAT4, ""),
    "lb-list.txt": (pins.LB4_SERVICES, ""),
    "lb-list-backends.txt": (pins.LB4_BACKENDS, ""),
    "lb-list-revnat.txt": (pins.LB4_REVERSE_NAT, ""),
    "ipcache-list.txt": (pins.IPCACHE, ""),
    "endpoint-list.txt": (pins.ENDPOINTS, ""),
}
#: What an agent's monitor saw, as a file.
MONITOR: Final = "monitor.txt"
#: The agent's CLI has two names; the program is looked for in the pod.
_AGENT: Final = "c=$(command -v cilium-dbg || command -v cilium) || exit 127; "
_SHELL: Final = _AGENT + 'exec "$c" bpf "$@"'
#: What its monitor sees in so many seconds; it ends by itself too, should the connection be lost.
_MONITOR: Final = _AGENT + 'timeout -s INT "$1" "$c" monitor -v; status=$?; [ "$status" = 124 ] || exit "$status"'
#: What those who ask have to put away what they began, when all is stopped.
_FAREWELL_S: Final = 2.0
#: Who asks ends at a node's deadline by itself; one that is still waiting so long after it is given up.
_GRACE_S: Final = 15.0
#: A signal that another thread was given is heeded when this one runs again.
_LOOK_S: Final = 0.5
_HEAD: Final = 4096
#: Bytes of an answer that is read as a whole to see whether it is one.
_CHECKED: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to ask of each node. ``words`` go to ``ctctl ct export`` (a filter); ``listings``: files of LISTINGS.

    ``sums``: what a pod of ours runs instead, and answers with JSON. ``monitor_s``: no tables, but what the agent's
    monitor sees in that time; ``deadline_s`` comes on top of it.
    """

    listings: tuple[str, ...]
    words: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    monitor_s: float | None = None
    deadline_s: float = 30.0
    jobs: int = 16


@dataclass(frozen=True, slots=True)
class Lack:
    """A listing that an agent could not give, and what it said."""

    listing: str
    said: str

    @property
    def absent(self) -> bool:
        """Whether it said that there is no such table: SNAT's, where Cilium does not masquerade by BPF."""
        return re.search(r"no such file|not exist|not found", self.said, re.IGNORECASE) is not None

    def __str__(self) -> str:
        return f"{self.listing}: {self.said}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a node: files in ``folder``, or a ``reason``; what they lack. ``way``: agent or ctctl."""

    node: str
    way: str | None
    seconds: float = 0.0
    bytes: int = 0
    folder: Path | None = None
    reason: str | None = None
    lacks: tuple[Lack, ...] = ()
    #: the JSON of ``Wanted.sums``
    document: dict[str, Any] | None = None


def targets(
    api: Api, namespace: str, selector: str | None, pattern: str, *, agents_only: bool = False
) -> dict[str, Pod | None]:
    """The pod to ask by node: ours where one runs, else Cilium's agent; None where there is neither.

    Raises NotFoundError where no pod is found or no node matches, PermissionDenied, ClusterError.
    """
    agents = api.pods(selector or CILIUM, namespace)
    ours = [] if selector is not None or agents_only else [pod for pod in api.pods(OURS, "*") if pod.ready]
    found: dict[str, Pod | None] = {}
    with contextlib.suppress(PermissionDenied):  # who may not list nodes sees those that pods run on
        found.update(dict.fromkeys(api.nodes()))
    for pod in (*agents, *ours):
        # Two of a node while one replaces the other; one of ours that is not well where an agent is.
        if (known := found.get(pod.node)) is None or (pod.ready, pod.fit) >= (known.ready, known.fit):
            found[pod.node] = pod
    if not agents and not ours:
        where = f"in namespace {namespace} with labels {selector or CILIUM}"
        raise NotFoundError(f"no pod {where}: name others with -n and -l")
    chosen = {node: pod for node, pod in found.items() if fnmatch.fnmatchcase(node, pattern)}
    if not chosen:
        some = [*sorted(found)[:5], *(["…"] if len(found) > 5 else [])]
        raise NotFoundError(f"no node is called {pattern!r}; the nodes here: {', '.join(some)}")
    return chosen


def fetch(
    api: Api, pods: dict[str, Pod | None], wanted: Wanted, folder: Path, told: Callable[[Answer], None]
) -> list[Answer]:
    """Ask all nodes, so many at once; each has its own deadline, so the whole ends. In the order of the nodes.

    A node's deadline is held here too: a library that waits beyond it costs the answer of that node, and no other's.
    Whatever ends it before (Ctrl-C, a pipe that is gone) ends what is being asked as well, and no other node is asked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:  # each node that is asked is two
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    answers: list[Answer] = []
    waiting = deque(pods.items())
    done: SimpleQueue[Answer | Exception] = SimpleQueue()

    def work() -> None:
        while not api.stopped:
            try:
                node, pod = waiting.popleft()
            except IndexError:
                return
            try:
                done.put(_ask(api, node, pod, wanted, folder / _safe(node)))
            except Exception as error:  # nobody would wait for less than an answer
                done.put(error)

    # No pool of the library's: that waits for whatever has been asked, and so does a process that ends with one. Who
    # still waits for a connection to open cannot be told, and is left.
    threads: list[Thread] = []

    def begin() -> None:
        threads.append(Thread(target=work, daemon=True))
        threads[-1].start()

    for _ in range(max(1, min(wanted.jobs, len(pods)))):
        begin()
    answered: set[str] = set()

    def take(answer: Answer) -> None:
        if answer.node not in answered:
            answered.add(answer.node)
            answers.append(answer)
            told(answer)

    try:
        while len(answers) < len(pods):
            api.look()
            for node in api.overdue(_GRACE_S) - answered:
                take(Answer(node, None, reason="no answer in time: who asked it hangs"))
                begin()  # in the place of who hangs
            try:
                answer = done.get(timeout=_LOOK_S)
            except Empty:
                continue
            if isinstance(answer, Exception):
                raise answer
            take(answer)
    except BaseException:
        api.stop()
        end = time.monotonic() + _FAREWELL_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        raise
    return sorted(answers, key=lambda one: one.node)


def _safe(node: str) -> str:
    """A node's name as a folder's: names of nodes are DNS names, whatever a server says."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in node).lstrip(".") or "_"


def _ask(api: Api, node: str, pod: Pod | None, wanted: Wanted, folder: Path) -> Answer:
    start = time.monotonic()
    if pod is None or not pod.ready:
        return Answer(node, None, reason="no pod that could be asked runs on it")
    way = "agent" if pod.container == "cilium-agent" else "ctctl"
    answer = Answer(node, way, folder=folder)
    try:
        folder.mkdir()  # nothing above it: what was removed meanwhile stays so
        if wanted.monitor_s is not None:
            deadline = start + wanted.monitor_s + wanted.deadline_s
            _run(api, pod, ["sh", "-c", _MONITOR, "ctctl", f"{wanted.monitor_s:g}"], deadline, folder / MONITOR)
            _check_monitor(folder / MONITOR)
        elif way == "ctctl":
            answer = _ask_ours(api, answer, pod, wanted, start + wanted.deadline_s)
        else:
            lacks = _listings(api, pod, wanted, start + wanted.deadline_s, folder)
            answer = replace(answer, lacks=lacks)
            _check(folder)
    except CtctlError as error:
        answer = replace(answer, folder=None, reason=str(error))
    except Exception as error:
        answer = replace(answer, folder=None, reason=f"{type(error).__name__}: {error}")
    if answer.reason is not None:
        (folder / MONITOR).unlink(missing_ok=True)  # half an answer is none
    size = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
    return replace(answer, seconds=round(time.monotonic() - start, 2), bytes=size)


def _ask_ours(api: Api, answer: Answer, pod: Pod, wanted: Wanted, deadline: float) -> Answer:
    """Sums, or a snapshot that is filtered there. What its ctctl calls partial data is that here too."""
    assert answer.folder is not None
    path = answer.folder / ("sums.json" if wanted.sums else "tables.ctsnap")
    exported = ("ctctl", "ct", "export", "-", "--format", "snapshot", "--compress", *wanted.words)
    try:
        _run(api, pod, wanted.sums or exported, deadline, path)
    except ExitError as error:
        if error.code != PartialDataError.exit_code:
            raise
        answer = replace(answer, lacks=(Lack("ctctl", str(error)),))
    if wanted.sums:
        return replace(answer, document=_read_json(path))
    partial = _name(path, answer.node)
    if partial and not answer.lacks:
        raise ClusterError(f"what it answered cannot be read: {partial[0]}")
    return replace(answer, folder=path)


def _listings(api: Api, pod: Pod, wanted: Wanted, deadline: float, folder: Path) -> tuple[Lack, ...]:
    """What the agent's command line lists, the one that is asked for first; what it could not list beside that."""
    lacks = []
    for name in wanted.listings:
        command = ["sh", "-c", _SHELL, "ctctl", *LISTINGS[name]]
        try:
            _run(api, pod, command, deadline, folder / name)
        except TransientError:
            raise
        except ClusterError as error:
            if name == wanted.listings[0] or time.monotonic() >= deadline:
                raise
            (folder / name).unlink(missing_ok=True)
            lacks.append(Lack(" ".join(LISTINGS[name]), str(error)))
        else:
            _say_empty(folder / name)
    return tuple(lacks)


def _say_empty(path: Path) -> None:
    """Put in the place of a listing that ended well and says nothing what tells that its tables are empty."""
    with path.open("rb") as stream:
        if stream.read(_HEAD).strip() or stream.read(1):
            return
    pin, text = _EMPTY[path.name]
    if pin:
        path.unlink()
        path.with_name(f"bpftool-map-dump-pinned-{pin}.txt").write_text("Found 0 elements\n", encoding="utf-8")
    elif not path.stat().st_size:
        path.write_text(text, encoding="utf-8")


def _run(api: Api, pod: Pod, command: Sequence[str], deadline: float, path: Path) -> None:
    """One command into a file, again where that may help: reading changes nothing."""
    for turn in range(1, TRIES + 1):
        try:
            with path.open("wb") as output:
                api.run(pod, command, deadline, output)
            return
        except TransientError:
            if turn == TRIES or time.monotonic() >= deadline or api.stopped:
                raise
            api.pause(turn)
            if time.monotonic() >= deadline:
                raise


def _name(path: Path, node: str) -> list[str]:
    """Give a snapshot's tables the node's name: a live Cilium's have none of their own. What of it is missing."""
    named = path.with_suffix(".named")
    with open_source(str(path), SourceOptions()) as source:
        for table in source.tables:
            table.node = node
        source.node_names = [node]
        with named.open("wb") as stream:
            write_snapshot(source, source.tables, lambda table: table.read(), stream)
        missing = list(source.partial)
    named.replace(path)
    return missing


def _check(folder: Path) -> None:
    """Raise ClusterError where what a node sent is nothing that is known."""
    for path in folder.iterdir():
        if 0 < path.stat().st_size <= _CHECKED:
            try:
                with open_source(str(path), SourceOptions()) as source:
                    problem = source.partial[0] if source.partial else None
            except CtctlError as error:
                problem = str(error)
            if problem is not None:
                raise ClusterError(f"what it answered cannot be read: {problem.replace(str(path), path.name)}")


def _read_json(path: Path) -> dict[str, Any]:
    """Raises ClusterError where what a node sent is no JSON object."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ClusterError(f"what it answered cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ClusterError("what it answered cannot be read: it is no JSON object")
    return found


def _check_monitor(path: Path) -> None:
    """Raise ClusterError where what a node sent is neither events nor nothing."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if head and not is_packet_log(head):
        raise ClusterError("what it answered cannot be read: it is no output of cilium monitor")


def write_names(api: Api, path: Path) -> list[str]:
    """What the API knows by name, as a file for ``--names``; why some of it is not known."""
    items, unknown = api.names()
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
    return unknown


def write_reasons(answers: Sequence[Answer], path: Path) -> None:
    """The nodes that failed, as a source without tables that says what is missing: every command then says it."""
    failed = [f"{one.node}: {one.reason}" for one in answers if one.reason is not None]
    failed += [f"{one.node}: {lack}" for one in answers for lack in one.lacks if not lack.absent]
    with path.open("wb") as stream:
        write_snapshot(Source("cluster", partial=failed), [], lambda _table: iter(()), stream)
