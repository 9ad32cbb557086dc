"""A server of somebody else's as a child process: started, told to go, killed, by process id and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

START_UP_S = 20.0
"""No server here takes a second to start; a loaded machine may take several."""
STOP_S = 10.0

_LOWEST_PORT, _HIGHEST_PORT = 20_000, 32_000
"""Below what the system gives to outgoing connections, so that none of those takes the port of a server that restarts."""


def program(name: str, package: str) -> str:
    """The path of a program; a machine without it fails the test."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is missing; install it with: apt-get install {package}")
    return path


_next_port = _LOWEST_PORT + os.getpid() * 37 % (_HIGHEST_PORT - _LOWEST_PORT)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, another one at each call."""
    global _next_port
    for _ in range(_HIGHEST_PORT - _LOWEST_PORT):
        _next_port = _next_port + 1 if _next_port < _HIGHEST_PORT else _LOWEST_PORT
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", _next_port))
            return _next_port
    pytest.fail("no port is free")


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


class Daemon:
    """One program with its arguments, run at most once at a time, in a process group of its own."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = list(command)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was never started"
        return self._process.pid

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._process = process
        give_up = time.monotonic() + START_UP_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                said = self._log.read_text(errors="replace")[-2000:]
                pytest.fail(f"{self._command} did not start; it said: {said}")
            time.sleep(0.01)

    def rests(self) -> bool:
        """Whether it has dealt with all that came: each of its processes sleeps until something does, or is dead."""
        stats = [stat for path in Path("/proc").glob("[0-9]*/stat") if (stat := _text(path))]
        # proc(5): after the name, which may hold anything, come the state, the parent and the process group.
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return all(state in ("S", "Z") for state, _, group, *_ in fields if int(group) == self.pid)

    def tell(self, number: signal.Signals) -> None:
        """Send the first process a signal, as an operator would."""
        os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait for its end; one that does not come fails the test."""
        assert self._process is not None
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self._command} did not end within {STOP_S} s of being told to")

    def kill(self) -> None:
        """End it at once, its workers included: they are in its process group, which no one else is in."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it at the end of its test, gently where it listens."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        self.kill()


def _text(path: Path) -> str:
    """What a file of /proc holds; nothing if its process is gone."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
