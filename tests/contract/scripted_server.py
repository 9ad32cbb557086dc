"""A raw TCP server that answers as a scenario tells it and keeps every request as it arrived.

Only the standard library, one thread a connection: nothing between the bytes and the record.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Ending = Literal["keep", "close", "close_with_last_byte", "reset"]


@dataclass(frozen=True)
class Received:
    """One request as the server got it."""

    connection: int
    """Which connection, counted from 0 in the order of their acceptance."""
    nth: int
    """Which request of that connection, counted from 0."""
    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        """The request line without its end."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ", 1)[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def path(self) -> str:
        return self.target.split("?", 1)[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values in the order and spelling of the wire."""
        pairs = []
        for line in self.head.split(b"\r\n")[1:]:
            if line:
                name, _, value = line.partition(b":")
                pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return pairs

    def header(self, name: str) -> str | None:
        """The value of the first header of this name in any spelling."""
        for have, value in self.headers:
            if have.lower() == name.lower():
                return value
        return None


@dataclass(frozen=True)
class Answer:
    """What the server does with one request: wait, send these bytes, then keep or end the connection."""

    wire: bytes
    then: Ending = "keep"
    delay: float = 0.0
    """Seconds before the first byte."""


def reply(
    status: int = 200,
    body: bytes = b'{"ok": true}',
    content_type: str | None = "application/json",
    headers: list[tuple[str, str]] | None = None,
    *,
    length: bool = True,
    then: Ending = "keep",
    delay: float = 0.0,
) -> Answer:
    """An answer with a well-formed head; `length` says whether it announces Content-Length."""
    lines = [f"HTTP/1.1 {status} Scripted"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if length:
        lines.append(f"Content-Length: {len(body)}")
    lines.extend(f"{name}: {value}" for name, value in headers or [])
    return Answer(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body, then, delay)


Script = Callable[[Received], Answer]


@dataclass
class ScriptedServer:
    """Listens on a free loopback port for as long as the `with` block lasts."""

    script: Script = lambda _request: reply()
    received: list[Received] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What went wrong in the server itself; a scenario with faults is void."""
    connections: int = 0
    open_now: int = 0
    most_open: int = 0

    def __enter__(self) -> ScriptedServer:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        # accept() in the other thread is not woken by close() alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for peer in self._sockets:
                try:
                    peer.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        if self.faults:
            raise AssertionError("the scripted server failed: " + "; ".join(self.faults))

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                number = self.connections
                self.connections += 1
                self.open_now += 1
                self.most_open = max(self.most_open, self.open_now)
                self._sockets.append(peer)
            threading.Thread(target=self._serve, args=(peer, number), daemon=True).start()

    def _serve(self, peer: socket.socket, number: int) -> None:
        try:
            self._converse(peer, number)
        except OSError:
            # The client hung up: what it sent until then is in the record.
            pass
        except Exception as error:  # a bug of a script must void the scenario
            self.faults.append(repr(error))
        finally:
            with self._lock:
                self.open_now -= 1
                self._sockets.remove(peer)
            peer.close()

    def _converse(self, peer: socket.socket, number: int) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = _Wire(peer)
        nth = 0
        while True:
            head = wire.until(b"\r\n\r\n")
            if head is None:
                return
            request = Received(number, nth, head, b"")
            request = Received(number, nth, head, wire.body_of(request))
            with self._lock:
                self.received.append(request)
            nth += 1
            answer = self.script(request)
            if answer.delay:
                time.sleep(answer.delay)
            if answer.then == "close_with_last_byte":
                # The end of the stream rides in the segment of the last byte, so that a client
                # which looks can never find the connection alive after this answer.
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            if answer.then == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(answer.wire)
            if answer.then == "close_with_last_byte":
                peer.shutdown(socket.SHUT_WR)
            if answer.then != "keep":
                return

    def seen(self, own: list[str] | None = None) -> list[dict[str, Any]]:
        """The record in a form that can be compared: by target, then by arrival.

        Requests of one send race each other, so the order of arrival between targets says nothing.
        `own` names the headers that the caller gave: they are listed apart, as spelled and ordered.
        """
        mine = {name.lower() for name in own or []}
        records = []
        for request in sorted(self.received, key=lambda request: request.target):
            given = [[name, value] for name, value in request.headers if name.lower() in mine]
            others = [[name.lower(), value] for name, value in request.headers if name.lower() not in mine]
            records.append(
                {
                    "line": request.line,
                    "own_headers": given,
                    "other_headers": sorted(others),
                    "body": request.body.decode("latin-1"),
                }
            )
        return records


class _Wire:
    """Reads heads and bodies off one connection."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._held = b""

    def until(self, end: bytes) -> bytes | None:
        """Everything up to and with `end`; None when the peer stopped before."""
        while end not in self._held:
            more = self._peer.recv(65536)
            if not more:
                return None
            self._held += more
        cut = self._held.index(end) + len(end)
        taken, self._held = self._held[:cut], self._held[cut:]
        return taken

    def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            more = self._peer.recv(65536)
            if not more:
                raise ConnectionError("the request ended early")
            self._held += more
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def body_of(self, request: Received) -> bytes:
        if "chunked" in (request.header("Transfer-Encoding") or ""):
            parts: list[bytes] = []
            while True:
                size = self.until(b"\r\n")
                if size is None:
                    raise ConnectionError("the request ended early")
                part = self.exactly(int(size, 16) + 2)[:-2]
                if not part:
                    return b"".join(parts)
                parts.append(part)
        return self.exactly(int(request.header("Content-Length") or 0))
