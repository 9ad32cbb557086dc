"""A network on which it takes a while to connect: what is written first arrives late, and all that follows at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def slow_to_connect(port: int, seconds: float) -> Iterator[int]:
    """The port of 127.0.0.1 on which connections are passed on to another port there, each after so many seconds."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        threading.Thread(target=_accept, args=(listener, port, seconds), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            # Whoever waits in accept() is not woken by a close alone.
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, port: int, seconds: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_pass_on, args=(client, port, seconds), daemon=True).start()


def _pass_on(client: socket.socket, port: int, seconds: float) -> None:
    time.sleep(seconds)
    with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
