"""The servers that the clients are measured against, each on a core and a free port of its own."""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from harness.processes import environment, pinned
from harness.wires import Task, Wire

PATIENCE = 10.0


@dataclass(frozen=True)
class Seen:
    """What a server has counted."""

    connections: int
    requests: int
    resumed: int = 0
    """Connections whose TLS session was taken up again, where that is counted."""


@dataclass(frozen=True)
class Resource:
    """Something that a server has."""

    url: str
    """Its address; ``@FILE`` where there is a list of them."""
    body: Path | None = None
    """The file with the body that it answers with."""
    upload: Path | None = None
    """The file that is to be put there."""
    roots: Path | None = None
    """The certificates to verify the server's with."""


class Testkit:
    """The project's own scripted server: its route ``/delay/1`` answers after one second.

    It says what it saw when it ends, so each client gets a new one.
    """

    def __init__(self, program: str, core: int) -> None:
        """Remember how to start it; `begin` does."""
        self.program = program
        self.core = core
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Start ``testkit serve`` and read the address that it prints.

        Raises:
            RuntimeError: It prints no address within 10 s.
        """
        self.stop()
        with pinned(self.core):
            self.process = subprocess.Popen(
                [self.program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        address = re.search(r"(?:[\d.]+|localhost):\d+", line)
        if address is None:
            self.stop()
            raise RuntimeError(f"testkit serve printed {line!r} instead of its address")
        self.url = f"http://{address[0]}"

    def resource(self, _wire: Wire, path: str) -> Resource:
        """What is at `path`; the testkit speaks HTTP/1.1, and its answers are checked by their status."""
        return Resource(self.url + path)

    def check(self, _task: Task) -> None:
        """Nothing is stored here."""

    def seen(self) -> Seen:
        """What came since `begin`; it ends with that.

        Raises:
            RuntimeError: It says nothing, or does not end within 10 s.
        """
        assert self.process is not None
        try:
            said, _ = self.process.communicate(timeout=PATIENCE)
            counts = json.loads(said)["counts"]
            return Seen(counts["connections"], counts["requests"])
        except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
            raise RuntimeError(f"testkit serve does not say what it saw: {error}") from error
        finally:
            self.stop()

    def stop(self) -> None:
        """End it, if it runs, and wait for its end."""
        if self.process is not None:
            end(self.process)
            self.process = None


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and kill it when it does not within 5 s."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str) -> bytes:
    """The body at `url`, no proxy asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE) as response:
        body: bytes = response.read()
        return body
