"""The Cilium agent of this machine: what it left in its state directory, and what it answers on its socket.

Nothing here fails because an agent is missing, slow or odd: then the answer is None, and who asked has
other evidence. Everything is read, nothing is written.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket

#: Where an agent keeps its state; the two are one directory on most machines.
STATE_DIRECTORIES: Final = (Path("/var/run/cilium/state"), Path("/run/cilium/state"))
RUNTIME_CONFIG: Final = "agent-runtime-config.json"
_SOCKETS: Final = ("/var/run/cilium/cilium.sock", "/run/cilium/cilium.sock")
_TIMEOUT_S: Final = 2.0
#: Bytes of an answer or a file that are read: a node with thousands of endpoints has a few million.
_MAX_BYTES: Final = 256 << 20


def state_directory() -> Path | None:
    """The agent's state directory on this machine."""
    return next((directory for directory in STATE_DIRECTORIES if _is_directory(directory)), None)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def read_limited(path: Path, limit: int = _MAX_BYTES) -> bytes | None:
    """A file's bytes, None if it cannot be read or is larger than ``limit``."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError:
        return None
    return data if len(data) <= limit else None


def runtime_config() -> tuple[dict[str, Any], str] | None:
    """The configuration an agent stored when it started, and the file it stands in."""
    for directory in STATE_DIRECTORIES:
        data = read_limited(directory / RUNTIME_CONFIG)
        with contextlib.suppress(ValueError, RecursionError):
            import json

            document = json.loads(data) if data is not None else None
            if isinstance(document, dict):
                return document, str(directory / RUNTIME_CONFIG)
    return None


def socket_paths() -> list[str]:
    """Where the agent may listen: where its configuration says, then the usual places."""
    config = runtime_config()
    told = config[0].get("SocketPath") if config else None
    return list(dict.fromkeys([*([told] if isinstance(told, str) and told else []), *_SOCKETS]))


class _Answer(threading.Thread):
    """One question to one socket, in a thread of its own: whatever the other side does, who asks can go on."""

    def __init__(self, socket_path: str, path: str) -> None:
        super().__init__(name="ctctl-agent", daemon=True)
        self._socket_path = socket_path
        self._path = path
        self._connection: socket.socket | None = None
        self.document: Any = None

    def run(self) -> None:
        import http.client  # 30 ms that only a node with an agent needs
        import socket

        connection = http.client.HTTPConnection("localhost")
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, RecursionError, AttributeError):
            self._connection = connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.connect(self._socket_path)
            connection.request("GET", f"/v1{self._path}", headers={"Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read(_MAX_BYTES + 1)
            if answer.status == http.client.OK and len(body) <= _MAX_BYTES:
                import json

                self.document = json.loads(body)
        connection.close()

    def give_up(self) -> None:
        """Wake the thread from whatever it waits for."""
        import socket

        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


class _Patience:
    """How long this run still waits for agents that do not answer: one bound for all questions and sockets."""

    def __init__(self) -> None:
        self.left_s = _TIMEOUT_S
        self.silent: set[str] = set()


_patience = _Patience()


@functools.lru_cache(maxsize=16)
def ask(path: str) -> Any:
    """The agent's answer to ``GET /v1{path}`` as decoded JSON, None where there is none.

    Answers are kept for the run: several questions of one command hit one moment. A socket that does not answer
    is not asked again, and all of them together are waited for 2 s.
    """
    for name in socket_paths():
        if name in _patience.silent or not Path(name).exists():
            continue
        question = _Answer(name, path)
        started = time.monotonic()
        question.start()
        question.join(max(_patience.left_s, 0.01))
        if question.is_alive():
            question.give_up()
            _patience.silent.add(name)
            _patience.left_s -= time.monotonic() - started
        elif question.document is not None:
            return question.document
    return None


def state_objects(limit: int = 32) -> Iterator[Path]:
    """BPF objects that the agent compiled, shared ones first, at most ``limit``."""
    directory = state_directory()
    if directory is None:
        return
    count = 0
    for pattern in ("bpf_*.o", "*/bpf_*.o", "templates/*/*.o"):
        with contextlib.suppress(OSError):
            for path in sorted(directory.glob(pattern)):
                yield path
                count += 1
                if count >= limit:
                    return
