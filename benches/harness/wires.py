"""What is spoken between client and server, and what a client is asked to do over it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

CIPHER = "TLS_AES_128_GCM_SHA256"
"""The one cipher that the server has (TLS 1.3), so that all clients encrypt alike."""


class Wire(Enum):
    """A protocol, each on a port of its own that refuses every other one."""

    H1 = "HTTP/1.1"
    H2C = "HTTP/2 in cleartext, known beforehand"
    TLS_H1 = "HTTP/1.1 over TLS 1.3"
    TLS_H2 = "HTTP/2 over TLS 1.3"
    FRESH_H1 = "HTTP/1.1 over TLS 1.3, sessions never resumed"
    ORIGINS = "HTTP/1.1, at every address of 127.0.0.0/8"

    @property
    def is_tls(self) -> bool:
        """Whether it is encrypted."""
        return self in (Wire.TLS_H1, Wire.TLS_H2, Wire.FRESH_H1)

    @property
    def is_h2(self) -> bool:
        """Whether connections carry several requests side by side."""
        return self in (Wire.TLS_H2, Wire.H2C)


class Opened(Enum):
    """How many connections a server must have seen of a client."""

    AT_MOST = "as many as it was given"
    EXACTLY = "just as many as it was given"
    ONE_EACH = "one for each request"
    ANY = "as it likes: it sets its own number, or the figure asks how many it takes"


@dataclass(frozen=True)
class Task:
    """What a client shall do."""

    url: str
    """What is asked for; ``@FILE`` for a list of URLs that are taken in turn."""
    count: int
    """Requests; seconds for a client that is timed."""
    connections: int
    streams: int
    """Requests side by side on one connection."""
    wire: Wire
    body: Path | None
    """The body that every answer has; None when only the status is checked."""
    upload: Path | None = None
    """What is sent, by PUT; the answer is 201."""
    roots: Path | None = None
    """The certificates to verify the server's with."""
