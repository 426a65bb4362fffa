"""The agent's socket: one bound for all of them, whatever is behind."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.node import agent

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@contextlib.contextmanager
def listening(path: Path, answer: bytes | None) -> Iterator[str]:
    """A socket that answers with these bytes, or takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as held:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    one, _ = listener.accept()
                    held.enter_context(one)
                    if answer is not None:
                        one.recv(4096)
                        one.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield str(path)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    agent.ask.cache_clear()
    monkeypatch.setattr(agent, "_patience", agent._Patience())
    yield
    agent.ask.cache_clear()


def test_silent_sockets_are_waited_for_once_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    class Counted(agent._Answer):
        def join(self, timeout: float | None = None) -> None:
            waits.append(timeout)
            super().join(timeout)

    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(listening(tmp_path / f"{n}.sock", None)) for n in range(4)]
        monkeypatch.setattr(agent, "socket_paths", lambda: paths)
        monkeypatch.setattr(agent, "_Answer", Counted)
        assert [agent.ask(f"/{n}") for n in range(5)] == [None] * 5
        # Four sockets and five questions: the first takes all the time that there is, and none is asked again.
        assert waits == [agent._TIMEOUT_S, 0.01, 0.01, 0.01]
        assert agent._patience.silent == set(paths)


def test_the_socket_that_answers_is_found_behind_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"a": 1}).encode()
    with (
        listening(tmp_path / "silent", None) as silent,
        listening(tmp_path / "odd", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{") as odd,
        listening(tmp_path / "good", ANSWER % (len(body), body)) as good,
    ):
        monkeypatch.setattr(agent, "socket_paths", lambda: [odd, good, silent])
        assert agent.ask("/x") == {"a": 1}
        assert not agent._patience.silent
