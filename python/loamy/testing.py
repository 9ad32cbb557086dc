"""A well-behaved HTTP server, with TLS and HTTP/2 where you want it, on 127.0.0.1, for your own tests.

``python -m loamy.testing 8080`` runs one until Ctrl-C, to try things out.

Example:
    >>> import loamy.testing
    >>> with loamy.testing.serve() as server:
    ...     [response] = loamy.send([server.url("/json")])
    ...     assert response.ok and server.requests[0].target == "/json"

"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from loamy._loamy import Server as _Server

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["SeenRequest", "TestServer", "serve"]


class SeenRequest(NamedTuple):
    """One request as the server received it."""

    method: str
    """As sent."""
    target: str
    """Path and query, as sent."""
    headers: list[tuple[str, str]]
    """Names and values in the order and spelling of the wire."""
    body: bytes
    """The body without its framing."""
    connection: int
    """The connection that it came on, from 0."""
    arrived: float
    """Seconds since the server started."""
    http_version: str
    """``HTTP/1.1`` or ``HTTP/2``."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, its name in any spelling; None when it did not come."""
        return next((value for own, value in self.headers if own.lower() == name.lower()), None)


_VERSIONS = {"http/1.1": "HTTP/1.1", "h2": "HTTP/2"}


class TestServer:
    """A running server; a context manager that stops it.

    It answers ``/json`` (197 bytes of JSON), ``/get`` ``/post`` ``/put`` ``/patch`` ``/delete`` ``/options`` and ``/anything`` (what it
    received, as JSON), ``/echo`` (the body received), ``/status/404``, ``/delay/1`` (seconds), ``/redirect/3``, ``/bytes/1000``,
    ``/text``, ``/html``, ``/gzip``, ``/headers``, ``/reset``, ``/close`` and ``/hang``, among others. Some remember what came before:
    ``/count/a`` and ``/counts``, ``/flaky/a?fail=3``, ``/limited/a?limit=50&window=10``, ``/keyed/a`` (idempotency keys), ``/peak?at=25``,
    ``/stamp/a`` and ``/arrivals/a``.
    """

    __test__ = False

    def __init__(self, server: _Server) -> None:
        self._server = server

    def url(self, path: str = "/") -> str:
        """Return the URL of a path, which starts with a slash."""
        return self._server.url(path)

    @property
    def ca(self) -> bytes:
        """The certificate, as PEM, that clients have to trust: ``loamy.send(…, extra_ca=server.ca)``.

        Raises:
            ValueError: when it speaks no TLS.

        """
        certificate = self._server.ca()
        if certificate is None:
            raise ValueError("this server speaks no TLS; serve(tls=True) starts one that does")
        return certificate

    @property
    def requests(self) -> list[SeenRequest]:
        """Every request so far, in the order of arrival; empty with ``keep_log=False``."""
        return [
            SeenRequest(
                request["method"],
                request["target"],
                [(name, value) for name, value in request["headers"]],
                request["body"].encode("latin-1"),
                request["connection"],
                request["arrived"],
                _VERSIONS[request["http"]],
            )
            for request in self.log()["requests"]
        ]

    @property
    def counts(self) -> dict[str, int]:
        """Totals: ``connections ended open max_open requests in_flight max_in_flight bytes_received``, and those below.

        Of TLS: ``handshakes resumed failed_handshakes``. Of HTTP/2: ``http2``, its connections, and ``max_streams``, the requests
        that were open at once on one of them.
        """
        counts: dict[str, int] = self.log()["counts"]
        return counts

    def log(self) -> dict[str, Any]:
        """Everything that the server saw: its counts, connections and requests."""
        log: dict[str, Any] = json.loads(self._server.log())
        return log

    def stop(self) -> None:
        """Stop the server; what it saw stays."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    *,
    close_after: int | None = None,
    announce_close: bool = True,
    keep_log: bool = True,
    tls: bool = False,
    http2: bool = True,
    port: int = 0,
) -> TestServer:
    """Start a server.

    Args:
        close_after: closes each connection after so many requests; never when left out.
        announce_close: whether the last answer says so (``Connection: close``).
        keep_log: whether the requests are kept; without, only the ``counts`` are, and a million requests need no memory.
        tls: whether it speaks TLS, with a certificate for 127.0.0.1 and localhost that ``server.ca`` has signed.
        http2: whether it speaks HTTP/2 with clients that want it, besides HTTP/1.1.
        port: where it listens; a free port when left out.

    Raises:
        OSError: when the port is in use.

    """
    if type(port) is not int or not 0 <= port <= 65_535:
        raise ValueError(f"port is {port!r}; it must be a number from 0 to 65535, and 0 takes a free one")
    return TestServer(_Server(close_after, announce_close, keep_log, tls, http2, port))


def _run(arguments: list[str]) -> None:
    """Run a server until Ctrl-C."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m loamy.testing", description="Run loamy's test server until Ctrl-C."
    )
    parser.add_argument(
        "port", nargs="?", type=int, default=8080, help="where it listens on 127.0.0.1 (8080; 0 takes a free one)"
    )
    port = parser.parse_args(arguments).port
    try:
        server = serve(port=port, keep_log=False)
    except (OSError, ValueError) as error:
        parser.exit(1, f"port {port} of 127.0.0.1 cannot be had: {error}\n")
    with server, suppress(KeyboardInterrupt):
        sys.stdout.write(f"{server.url()} answers until Ctrl-C\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    _run(sys.argv[1:])
