"""A command in a pod: Kubernetes' exec, over a WebSocket that is read by who waits for it.

lightkube's own (1.0.1) ends the connection at a message of more than 65,536 bytes, the channel's byte among them, and
keeps the whole output in memory. How long a message is decides the runtime behind the kubelet, which sends each of its
writes as one: mostly up to 32 KiB, which no rule says.

httpx opens the connection, as it does for every other question: proxies, certificates and who one is have one way.
websockets knows frames. There is no thread behind: one that waits in a read over TLS is not woken when its socket is
closed, and reads of the next connection which gets that number.

Sources: RFC 6455; the channels are those of ``v4.channel.k8s.io`` (k8s.io/apimachinery, remotecommand).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from ctctl.cluster.errors import ClusterError, ExitError, TransientError
from ctctl.cluster.libraries import http_library, library
from ctctl.errors import first_line

_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _STATUS = 1, 2, 3
#: What a server signs a key with: RFC 6455, 1.3.
_SIGNED_WITH: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Bytes of what a command says on stderr, and characters of why something was refused, that are kept.
_SAID: Final = 4096
#: Bytes of a message that no runtime writes at once: who sends more is none.
_MESSAGE: Final = 64 << 20
_READ: Final = 64 << 10
#: What the library says of a connection that broke is no news; what went wrong is raised here.
_QUIET: Final = logging.getLogger("ctctl.cluster.exec")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class Execs:
    """Commands in pods by one HTTP client, which knows the way to the API; of any thread."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._http = http_library()
        self._core = library("httpcore2" if self._http.__name__ == "httpx2" else "httpcore")
        self._protocol, self._opcode = library("websockets.protocol"), library("websockets.frames").Opcode
        self._over = threading.Event()
        self._running: set[Any] = set()
        self._lock = threading.Lock()

    @property
    def stopped(self) -> bool:
        return self._over.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, unless all is stopped."""
        self._over.wait(seconds)

    def stop(self) -> None:
        """End every command that runs, and let no other begin: from another thread than theirs."""
        with self._lock:
            self._over.set()
            for stream in self._running:
                with contextlib.suppress(OSError):  # it has ended by itself
                    # The connection, not its TLS: whoever reads it may be in the middle of a record.
                    socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def run(self, url: str, deadline: float, output: BinaryIO) -> None:
        """Run the command that ``url`` names; its stdout goes to ``output`` as it comes.

        ``deadline`` is of ``time.monotonic``. Raises ClusterError (TransientError where trying again may help) unless
        it ended with status 0 in time.
        """
        with self._opened(url, deadline) as stream:
            try:
                self._receive(stream, deadline, output)
            except self._core.TimeoutException:
                raise ClusterError("no answer in time: the command did not end") from None
            except self._core.NetworkError as error:
                raise TransientError(f"the connection ended before the command did: {first_line(error)}") from None

    @contextlib.contextmanager
    def _opened(self, url: str, deadline: float) -> Iterator[Any]:
        """The bytes of a connection that has become a WebSocket."""
        self._go_on()
        key = base64.b64encode(os.urandom(16)).decode()
        try:
            response = self._ask(url, key, deadline)
        except self._http.TimeoutException:
            raise ClusterError("no answer in time: the connection was not opened") from None
        except self._http.TransportError as error:
            raise TransientError(f"cannot connect: {first_line(error)}") from None
        stream = response.extensions.get("network_stream")
        try:
            if response.status_code != 101:
                raise refusal(response.status_code, self._body(response))
            signed = hashlib.sha1((key + _SIGNED_WITH).encode(), usedforsecurity=False).digest()
            if response.headers.get("Sec-WebSocket-Accept") != base64.b64encode(signed).decode():
                raise ClusterError("what it answered is no exec of Kubernetes: it knows no WebSockets")
            with self._lock:
                self._running.add(stream)
            self._go_on()
            yield stream
        finally:
            with self._lock:
                self._running.discard(stream)
            response.close()  # at once: a node that hangs does not answer a farewell

    def _go_on(self) -> None:
        if self.stopped:
            raise ClusterError("stopped")

    def _ask(self, url: str, key: str, deadline: float) -> Any:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Protocol": ", ".join(_PROTOCOLS),
        }
        left = deadline - time.monotonic()
        if left <= 0:
            raise ClusterError("no answer in time: the connection was not opened")
        request = self._client.build_request("GET", url, headers=headers, timeout=self._http.Timeout(left))
        return self._client.send(request, stream=True)

    def _body(self, response: Any) -> bytes:
        """The beginning of an answer; what cannot be read of it is not missed."""
        found = b""
        with contextlib.suppress(self._http.HTTPError):
            for part in response.iter_bytes():
                found += part
                if len(found) >= _READ:
                    break
        return found[:_READ]

    def _receive(self, stream: Any, deadline: float, output: BinaryIO) -> None:
        """What the command writes, until its status came."""
        protocol = self._protocol.Protocol(self._protocol.Side.CLIENT, max_size=_MESSAGE, logger=_QUIET)
        # The first byte of a message is its channel; of a message in pieces that may be in any of them.
        channel: int | None = None
        said, status = b"", b""
        while True:
            for frame in self._frames(protocol, stream, deadline):
                data = bytes(frame.data)
                if frame.opcode == self._opcode.TEXT:
                    raise ClusterError("what it answered is no exec of Kubernetes")
                if frame.opcode == self._opcode.BINARY:
                    channel = None
                if channel is None and data:
                    channel, data = data[0], data[1:]
                if channel == _STDOUT:
                    output.write(data)
                elif channel == _STDERR:
                    said = (said + data)[-_SAID:]  # why it failed is said last
                elif channel == _STATUS:
                    status += data
                    if frame.fin and status:
                        _check_status(status, said)
                        return

    def _frames(self, protocol: Any, stream: Any, deadline: float) -> Iterator[Any]:
        """The frames of data that come next; what is asked of the protocol itself is answered."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._core.ReadTimeout
        if data := stream.read(_READ, left):
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        control = {self._opcode.CLOSE, self._opcode.PING, self._opcode.PONG}
        yield from (frame for frame in protocol.events_received() if frame.opcode not in control)
        if protocol.parser_exc is not None and data:
            raise TransientError(f"the connection broke: {first_line(protocol.parser_exc)}")
        if not data or protocol.close_rcvd is not None:
            why = protocol.close_rcvd.reason if protocol.close_rcvd is not None else ""
            raise TransientError(f"the connection ended before the command did{why and ': '}{why}")
        # Who has gone may have sent the end before it went: the next read tells.
        with contextlib.suppress(self._core.NetworkError):
            for part in protocol.data_to_send():
                stream.write(part, left)


def _check_status(data: bytes, said: bytes) -> None:
    """Raise ClusterError unless the command ended well."""
    try:
        status = json.loads(data)
        ended_well, message = status["status"] == "Success", str(status.get("message", ""))[:_SAID]
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [str(one.get("message")) for one in causes if one.get("reason") == "ExitCode"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ClusterError("what it answered is no exec of Kubernetes") from None
    if not ended_well:
        text = said.decode("utf-8", "replace").strip().splitlines()
        reason = f"{text[-1]} ({message})" if text else message
        raise ExitError(reason, int(codes[0])) if codes and codes[0].isdecimal() else ClusterError(reason)


def told(code: int, body: bytes) -> str:
    """What the API says of a status that is none of success: in Kubernetes' words, or the number of it."""
    try:
        return str(json.loads(body)["message"])[:_SAID]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"HTTP status {code}"


def refusal(code: int, body: bytes) -> ClusterError:
    """That status as an error."""
    message = told(code, body)
    if code in (401, 403):
        return ClusterError(f"refused: {message}")
    return TransientError(message) if code in (429, 500, 502, 503, 504) else ClusterError(message)
