"""Which servers there are, and every one with every protocol that it speaks."""

from __future__ import annotations

import pytest
from peer import Apache, Haproxy, Nghttpd, NghttpdPlain, Nginx, Peer
from protocols import Protocol

KINDS: dict[str, type[Peer]] = {
    "nginx": Nginx,
    "apache": Apache,
    "haproxy": Haproxy,
    "nghttpd": Nghttpd,
    "nghttpd-plain": NghttpdPlain,
}


def each(*wanted: tuple[str, Protocol]) -> pytest.MarkDecorator:
    """Run a test with the pairs given, or with every one that there is."""
    chosen = wanted or [(kind, protocol) for kind, made in KINDS.items() for protocol in made.speaks]
    return pytest.mark.parametrize(
        ("kind", "protocol"), chosen, ids=[f"{kind}-{protocol.name}" for kind, protocol in chosen]
    )
