"""Servers that nobody here wrote, each with a configuration of its own on ports of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import certificates as authority
import pytest
from backend import Backend
from kinds import KINDS
from peer import Peer


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> authority.Certificates:
    return authority.make(tmp_path_factory.mktemp("certificates"), "127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """What stands behind the servers and counts."""
    running = Backend(tmp_path_factory.mktemp("backend"))
    yield running
    running.stop()


@pytest.fixture
def peer(kind: str, tmp_path: Path, certificates: authority.Certificates, backend: Backend) -> Iterator[Peer]:
    """The server named, new for each test, nothing seen yet."""
    made = KINDS[kind](tmp_path, certificates, backend)
    try:
        made.start()
        made.forget()
        yield made
    finally:
        made.stop()
