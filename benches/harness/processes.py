"""One process, run on one core: what it cost and what it printed.

The harness itself moves to the core before it starts the process, which inherits the place; while the process runs, the
harness only waits.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Variables that would change what a client does, or make it look something up for each request.
UNWANTED = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "pythonpath", "uv_threadpool_size", "sslkeylogfile")
# Where the clients look for the certificates to trust, each in its own way.
ROOTS = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


class ProcessFailed(Exception):
    """A process ended with an error, or did not end in time."""


@dataclass(frozen=True)
class Usage:
    """What one process cost from its start to its end."""

    cpu: float
    """User and system time, in seconds, its threads and the children it waited for included."""
    wall: float
    """Seconds from the start of the process to its end."""
    peak: int
    """Peak resident memory in bytes; never below the harness's own peak, with which a new process begins."""
    output: str


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run what is started within on `core` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def floor() -> int:
    """The harness's own peak memory in bytes: a smaller peak of a client cannot be told from it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def raise_descriptor_limit() -> int:
    """Raise the limit of open files, which children inherit, as far as allowed; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def environment(roots: Path | None = None) -> dict[str, str]:
    """The environment of every process: ours, without what would change a client's behaviour.

    Args:
        roots: The certificates that are trusted, and no others; those of the system unless given.
    """
    kept = {name: value for name, value in os.environ.items() if name.lower() not in UNWANTED}
    if roots is not None:
        kept.pop("SSL_CERT_DIR", None)
        kept |= dict.fromkeys(ROOTS, str(roots))
    return kept


def run(command: Sequence[str], core: int, roots: Path | None = None, limit: float = 300.0) -> Usage:
    """Run `command` on `core` and wait for it.

    Args:
        command: The program, by path or name, and its arguments.
        core: The core that it gets for itself.
        roots: The certificates that it trusts, if not the system's.
        limit: Seconds after which it is killed.

    Raises:
        ProcessFailed: It could not be started, was killed, or ended with a status other than 0.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, pinned(core):
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, env=environment(roots)
            )
        except OSError as error:
            raise ProcessFailed(str(error)) from error
        watchdog = threading.Timer(limit, process.kill)
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            wall = time.perf_counter() - began
            watchdog.cancel()
        # Popen has not waited itself; told so, it does not wait again.
        process.returncode = os.waitstatus_to_exitcode(status)
        output, complaint = read(stdout), read(stderr)
    if process.returncode != 0:
        reason = f"still running after {limit:.0f} s" if wall >= limit else f"ended with {process.returncode}"
        said = " / ".join((complaint or output).strip().splitlines()[-3:])
        raise ProcessFailed(f"{reason}: {said}")
    return Usage(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024, output)


def read(file: IO[bytes]) -> str:
    """All that was written to `file`."""
    file.seek(0)
    return file.read().decode(errors="replace")
