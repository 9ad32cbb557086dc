"""A network of two namespaces for each test, with the servers that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import certificates as authority
import pytest
from nameserver import NameServer
from namespaces import Network
from website import Website


@pytest.fixture
def network() -> Iterator[Network]:
    """A client's side and a server's, joined by a wire."""
    made = Network()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> authority.Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    addresses = [f"10.87.0.{last}" for last in range(2, 5)]
    return authority.make(directory, *addresses, "localhost", "*.loamy.test")


@pytest.fixture
def website(tmp_path: Path, network: Network, certificates: authority.Certificates) -> Iterator[Website]:
    """An nginx on every address of the server's side."""
    running = Website(tmp_path, certificates, network.server)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def names(tmp_path: Path, network: Network) -> Iterator[Callable[..., NameServer]]:
    """Start the dnsmasq of the server's side, which the client's side asks."""
    running: list[NameServer] = []

    def start(*options: str, resolver: tuple[str, ...] = ("timeout:1", "attempts:1")) -> NameServer:
        network.client.resolve_with(network.SERVER, *resolver)
        running.append(NameServer(tmp_path, network.server, network.SERVER, *options))
        return running[-1]

    yield start
    for one in running:
        one.stop()
