"""The servers and processes that the Python tests stand on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loamy.testing
import pytest
from daemon import free_port
from own_nginx import running_nginx

CHILD_LIMIT_S = 60.0
"""No child of a test may take longer: a hang is a failure."""


@pytest.fixture
def server() -> Iterator[loamy.testing.TestServer]:
    """A well-behaved server of its own for each test."""
    with loamy.testing.serve() as running:
        yield running


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a call may keep its journal; nothing is there yet."""
    return tmp_path / "run.loamy"


class Scripted:
    """A running ``testkit script``: the same steps on every connection, unless a step says ``connection``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self._log: dict[str, Any] | None = None
        self.base = process.stdout.readline().strip()
        if not self.base:
            pytest.fail("the scripted server did not start; it wrote why to standard error")
        self.port = int(self.base.rpartition(":")[2])

    def url(self, path: str = "/") -> str:
        return f"{self.base}{path}"

    def seen(self) -> dict[str, Any]:
        """End the server and return all that it saw; a broken expectation of the script fails the test."""
        if self._log is None:
            out, _ = self._process.communicate(timeout=CHILD_LIMIT_S)
            self._log = json.loads(out)
            assert not self._log["failures"], self._log["failures"]
            assert self._process.returncode == 0
        return self._log


@pytest.fixture
def script(testkit_program: Path, tmp_path: Path) -> Iterator[Callable[..., Scripted]]:
    """Start scripted servers; each step is a string that the testkit documents."""
    running: list[Scripted] = []

    def start(*steps: str, **listen: Any) -> Scripted:
        path = tmp_path / f"script-{len(running)}.json"
        path.write_text(json.dumps({"steps": steps, **listen}))
        process = subprocess.Popen(
            [testkit_program, "script", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(Scripted(process))
        return running[-1]

    yield start
    for one in running:
        one.seen()


class Child:
    """A Python process that runs the code given, its output captured."""

    def __init__(self, code: str, arguments: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LOAMY_UNOPTIMISED": "1"},
        )

    def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, limit: float = CHILD_LIMIT_S) -> tuple[int, str, str]:
        """Wait for its end; return exit code, the rest of its output and what it wrote to standard error."""
        try:
            out, err = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            pytest.fail(f"the child hung for {limit} s\n{out}\n{err}")
        return self.process.returncode, out, err


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start Python processes; none outlives its test."""
    running: list[Child] = []

    def start(code: str, *arguments: object) -> Child:
        running.append(Child(code, tuple(str(argument) for argument in arguments)))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.fixture
def refused_port() -> int:
    """A port of this machine on which nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


_LIMITING = """
    log_format seen '$request_method $request_uri $server_protocol $status';
    access_log {directory}/access.log seen;
    limit_req_zone $binary_remote_addr zone=own:1m rate=50r/s;
    limit_req_status 429;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ limit_req zone=own burst=2 nodelay; empty_gif; }}
    }}
"""


class LimitingNginx:
    """An nginx that takes 50 requests a second, two more at once, and refuses others with 429."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "access.log"

    def seen(self) -> list[str]:
        """Give a line for each request so far: method, target, protocol, status."""
        return self._log.read_text().splitlines()


@pytest.fixture
def limiting_nginx(tmp_path: Path) -> Iterator[LimitingNginx]:
    """A real nginx of its own, whose limit nobody else has used."""
    port = free_port()
    with running_nginx(tmp_path, _LIMITING.format(directory=tmp_path, port=port), port):
        yield LimitingNginx(tmp_path, port)
