"""A ctctl that has started already: each command of a test is a fork of it, in a process of its own.

Most of what a short command takes is Python and its imports; a test run types hundreds of them. A fork
has its own descriptors, directory, environment and signals, and ends as the program does. What a fork cannot
show (starting, being killed while it starts, closed streams, memory) is for tests that start the program itself.

    python -m tests.support.ready ADDRESS PID       the server: forks until PID is gone
    run(words, …)                                   its client, which starts it at the first call

A request is one line of JSON with the words, the directory and the environment, and the three standard
streams beside it; the answer a line with the process's number, and a line with its exit status, CPU seconds and peak
memory when it has ended.
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from tests.support.wait import PATIENCE_S, wait_for

_ROOT = Path(__file__).resolve().parents[2]


# ---- the server


def _import_everything() -> None:
    import ctctl

    for module in pkgutil.walk_packages(ctctl.__path__, "ctctl."):
        # What comes with an extra that is not there is not needed either; ctctl.__main__ is the program.
        if not module.name.endswith("__main__") and not module.name.startswith("ctctl.ui"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    importlib.import_module("numpy")
    importlib.import_module("rich.table")


def serve(address: str, owner: int) -> None:
    """Fork for every connection until the process ``owner`` has ended."""
    _import_everything()
    # What is there stays: a command that looked through it for garbage would have a page of its own of each.
    gc.collect()
    gc.freeze()
    owner_ended = os.pidfd_open(owner)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen(64)
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        waiting.register(owner_ended, select.POLLIN)
        while True:
            ready = {fd for fd, _ in waiting.poll(1000)}
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if owner_ended in ready:
                return
            if listener.fileno() in ready:
                connection, _ = listener.accept()
                with connection:
                    if os.fork() == 0:
                        listener.close()
                        os.close(owner_ended)
                        _one(connection)


def _one(connection: socket.socket) -> NoReturn:
    """In a process of its own: fork the command, tell its number and how it ended."""
    try:
        data, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
        streams = array.array("i")
        for _level, _kind, sent in ancillary:
            streams.frombytes(sent)
        while not data.endswith(b"\n") and (part := connection.recv(1 << 20)):  # nothing: who asked is gone
            data += part
        asked = json.loads(data)
        command = os.fork()
        if command == 0:
            connection.close()
            _become(list(streams), asked)
        connection.sendall(f"{command}\n".encode())
        _, status, used = os.wait4(command, 0)
        told = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss << 10]
        connection.sendall(f"{json.dumps(told)}\n".encode())
    finally:
        os._exit(0)


def _enter(namespaces: list[str]) -> None:
    # All are opened before any is entered: in another mount namespace their paths may be others.
    from ctctl._ffi import syscall

    places = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in namespaces]
    for place in places:
        syscall.setns(place, 0)
        os.close(place)


def _become(streams: list[int], asked: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _enter(asked["namespaces"])
        os.chdir(asked["cwd"])
        os.umask(asked["umask"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = ["ctctl", *asked["words"]]
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        from ctctl.cli.main import main

        try:
            status = main(asked["words"])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        import atexit

        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


# ---- the client


@functools.cache
def _address(owner: int) -> str:
    """Start the server, no child of this process, and wait until it listens."""
    address = f"ctctl-tests-{owner}-{secrets.token_hex(4)}"
    detached = "import os, sys; os.fork() and os._exit(0); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", detached]
    words = [sys.executable, "-m", "tests.support.ready", address, str(owner)]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    subprocess.run([*command, *words], cwd=_ROOT, check=True, start_new_session=True, **quiet)  # type: ignore[call-overload]
    wait_for(lambda: _listens(address), what="a ctctl that is ready")
    return address


def _listens(address: str) -> bool:
    """Whether the server listens: it is there by its name before it does (proc(5): flags with __SO_ACCEPTCON)."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(fields[-1] == f"@{address}" and int(fields[3], 16) & 1 << 16 for fields in sockets[1:])


@dataclass
class Ended(subprocess.CompletedProcess[str]):
    """A command that has ended. Its CPU seconds are without those of starting Python, its memory with all of it."""

    args: list[str]
    returncode: int
    stdout: str
    stderr: str
    cpu_s: float
    memory_bytes: int


def run(words: list[str], *, stdin: int | IO[Any] | None = None, text: str | None = None, **where: Any) -> Ended:
    """Run a command line to its end. ``text`` is what it reads.

    ``where``: ``cwd``, ``env``, ``timeout``, and ``namespaces``: files of those it runs in, as nsenter(1) would.
    """
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        if text is not None:
            given: Any = stack.enter_context(tempfile.TemporaryFile())
            given.write(text.encode())
            given.seek(0)
        else:
            nothing = stdin in (None, subprocess.DEVNULL)
            given = stack.enter_context(Path(os.devnull).open()) if nothing else stdin
        umask = os.umask(0o022)
        os.umask(umask)
        request = {
            "words": words,
            "cwd": str(where.get("cwd") or Path.cwd()),
            "umask": umask,
            "namespaces": list(map(str, where.get("namespaces") or ())),
            "environment": dict(where.get("env") or os.environ),
        }
        streams = [given if isinstance(given, int) else given.fileno(), out.fileno(), err.fileno()]
        status, cpu_s, memory_bytes = _ask(request, streams, where.get("timeout") or PATIENCE_S)
        found = []
        for stream in (out, err):
            stream.seek(0)
            found.append(stream.read().decode())
    return Ended(["ctctl", *words], status, *found, cpu_s, memory_bytes)


def _ask(request: dict[str, Any], streams: list[int], timeout: float) -> tuple[int, float, int]:
    """Exit status, CPU seconds, peak memory in bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{_address(os.getpid())}")
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
        data = json.dumps(request).encode() + b"\n"
        rest = data[connection.sendmsg([data], passed) :]
        if rest:  # a command that has ended by now hears nothing more, not even nothing
            connection.sendall(rest)
        connection.settimeout(timeout)
        with connection.makefile() as answers:
            process = int(answers.readline())
            try:
                status, cpu_s, memory_bytes = json.loads(answers.readline())
                return status, cpu_s, memory_bytes
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["ctctl", *request["words"]], timeout) from None
            except KeyboardInterrupt:
                # It is in no terminal's group, and what is made by it is to be removed when it has ended.
                os.kill(process, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    answers.readline()
                raise


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
