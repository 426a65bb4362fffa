"""A command in a pod, byte by byte: what a server may send, and what becomes of each."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from ctctl.cluster.errors import ClusterError, ExitError, TransientError
from tests.support.wait import PATIENCE_S

pytest.importorskip("lightkube", reason="clusters need lightkube (ctctl[k8s])")
pytest.importorskip("websockets", reason="clusters need websockets (ctctl[k8s])")

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
WELL = b"\x03" + json.dumps({"status": "Success"}).encode()
_SIGNED_WITH = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    """A frame as a server sends it (RFC 6455, 5.2)."""
    long = len(data) > 125
    length = bytes([126]) + len(data).to_bytes(2, "big") if long else bytes([len(data)])
    return bytes([opcode | (0x80 if last else 0)]) + length + data


def failed(message: str, cause: str = "1") -> bytes:
    causes = [{"reason": "ExitCode", "message": cause}]
    return b"\x03" + json.dumps({"status": "Failure", "message": message, "details": {"causes": causes}}).encode()


def run(answer: Callable[[socket.socket], None] | Sequence[bytes]) -> bytes:
    """What a command writes whose server answers so, once."""
    import httpx2

    from ctctl.cluster.exec import Execs

    def serve() -> None:
        there, _ = listener.accept()
        with there:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += there.recv(4096)
            key = next(
                line.split(b": ")[1] for line in request.splitlines() if line.lower().startswith(b"sec-websocket-key")
            )
            signed = base64.b64encode(hashlib.sha1(key + _SIGNED_WITH.encode()).digest())
            there.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + signed + b"\r\n\r\n"
            )
            if callable(answer):
                answer(there)
            else:
                for part in answer:
                    there.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listener, httpx2.Client() as client:
        server = threading.Thread(target=serve)
        server.start()
        output = io.BytesIO()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/exec"
            Execs(client).run(url, time.monotonic() + PATIENCE_S, output)
        finally:
            server.join(PATIENCE_S)
    return output.getvalue()


@pytest.mark.parametrize(
    "frames",
    [
        [frame(BINARY, b"\x01out"), frame(BINARY, WELL)],
        [frame(BINARY, b"\x01", last=False), frame(CONT, b"ou", last=False), frame(CONT, b"t"), frame(BINARY, WELL)],
        [frame(BINARY, b"", last=False), frame(CONT, b"\x01ou", last=False), frame(CONT, b"t"), frame(BINARY, WELL)],
        [frame(BINARY, b""), frame(BINARY, b"\x01"), frame(BINARY, b"\x01out"), frame(BINARY, WELL)],
        [frame(BINARY, b"\x03"), frame(BINARY, b"\x01out"), frame(BINARY, WELL)],
        [frame(BINARY, b"\x09other"), frame(BINARY, b"\x01out"), frame(BINARY, WELL)],
        [frame(BINARY, b"\x01out"), frame(BINARY, WELL[:9], last=False), frame(PING, b""), frame(CONT, WELL[9:])],
        [frame(BINARY, b"\x01out") + frame(BINARY, WELL) + frame(CLOSE, b"\x03\xe8")],
        [bytes([octet]) for octet in frame(BINARY, b"\x01out") + frame(BINARY, WELL)],
    ],
    ids=["whole", "pieces", "empty-piece", "empty-message", "empty-status", "channel", "status", "closed", "octets"],
)
def test_messages_in_every_cut(frames: list[bytes]) -> None:
    assert run(frames) == b"out"


def test_a_ping_is_answered_while_the_command_runs() -> None:
    def answer(there: socket.socket) -> None:
        there.sendall(frame(PING, b"still there?"))
        head = there.recv(2, socket.MSG_WAITALL)
        mask, text = there.recv(4, socket.MSG_WAITALL), there.recv(head[1] & 127, socket.MSG_WAITALL)
        assert head[0] & 15 == PONG
        assert bytes(octet ^ mask[at % 4] for at, octet in enumerate(text)) == b"still there?"
        there.sendall(frame(BINARY, b"\x01out") + frame(BINARY, WELL))

    assert run(answer) == b"out"


def test_who_went_without_waiting_for_an_answer_had_told_the_end() -> None:
    """A ping that can no longer be answered, with the rest of what was sent still to be read."""
    import httpcore2
    import httpx2

    from ctctl.cluster.exec import Execs

    class Gone:
        reads = iter([frame(PING, b"") + frame(BINARY, b"\x01ou"), frame(BINARY, b"\x01t") + frame(BINARY, WELL)])

        def read(self, _size: int, _seconds: float) -> bytes:
            return next(self.reads)

        def write(self, _data: bytes, _seconds: float) -> None:
            raise httpcore2.WriteError("Broken pipe")

    output = io.BytesIO()
    with httpx2.Client() as client:
        Execs(client)._receive(Gone(), time.monotonic() + PATIENCE_S, output)
    assert output.getvalue() == b"out"


@pytest.mark.parametrize(
    ("frames", "error", "said"),
    [
        ([frame(BINARY, b"\x01out")], TransientError, "the connection ended before the command did"),
        (
            [frame(BINARY, b"\x01out"), frame(CLOSE, b"\x03\xf3kubelet is going away")],
            TransientError,
            "the connection ended before the command did: kubelet is going away",
        ),
        ([frame(TEXT, b"hello")], ClusterError, "what it answered is no exec of Kubernetes"),
        ([frame(BINARY, b"\x03[]")], ClusterError, "what it answered is no exec of Kubernetes"),
        ([frame(BINARY, failed("no such thing"))], ExitError, "no such thing"),
        ([frame(BINARY, failed("no such thing", "?"))], ClusterError, "no such thing"),
        ([bytes([0xF2, 1, 1])], TransientError, "the connection broke: reserved bits must be 0"),
    ],
)
def test_why_there_is_no_answer(frames: list[bytes], error: type[ClusterError], said: str) -> None:
    with pytest.raises(ClusterError) as found:
        run(frames)
    assert type(found.value) is error
    assert str(found.value) == said


def test_the_reason_is_what_was_said_last_however_much_was_said() -> None:
    noise = [frame(BINARY, b"\x02" + b"level=warning msg=noise\n" * 1000) for _ in range(10)]
    with pytest.raises(ExitError, match=r"^Error: the reason \(exit status 1\)$"):
        run([*noise, frame(BINARY, b"\x02Error: the reason\n"), frame(BINARY, failed("exit status 1"))])
    with pytest.raises(ExitError) as found:
        run([frame(BINARY, failed("x" * 50_000))])
    assert len(str(found.value)) < 5000
