"""The ways in which a server may be spoken to, and what a batch must say to speak so."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way: its name in the ids of tests, its scheme, and the version that must come of it."""

    name: str
    scheme: str
    version: str

    def policy(self, authority: Path) -> dict[str, Any]:
        """The keywords of a batch that speaks it to a server with a certificate of that authority."""
        match self.name:
            case "h1":
                return {}
            case "h1-tls":
                return {"verify": str(authority), "http_version": "1.1"}
            case "h2-tls":
                return {"verify": str(authority)}
        return {"http_version": "2"}


H1 = Protocol("h1", "http", "HTTP/1.1")
H1_TLS = Protocol("h1-tls", "https", "HTTP/1.1")
H2_TLS = Protocol("h2-tls", "https", "HTTP/2")
H2C = Protocol("h2c", "http", "HTTP/2")

ALL = (H1, H1_TLS, H2_TLS, H2C)

spoken = pytest.mark.parametrize("protocol", ALL, ids=[protocol.name for protocol in ALL])
"""Runs a test in each of them."""
