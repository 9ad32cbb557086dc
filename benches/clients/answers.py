"""What every Python client under test is told to do, and how it proves that it did it.

A client is started as ``python CLIENT.py URL COUNT CONNECTIONS BODY [NAME=VALUE …]``. URL may be ``@FILE``, whose
lines are asked for in turn. BODY is a file with the body that each answer must have, or ``-`` when only the status is
checked. ``version=2`` means HTTP/2, ``streams=N`` so many requests side by side on each connection, and ``upload=FILE``
that each request is a PUT of that file. It sends COUNT requests, checks each answer and ends with `report`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# Enough of both ends to tell a cut or shifted body, without making every client compare 64 KiB.
ENDS = 32


@dataclass(frozen=True)
class Job:
    """One task of a client."""

    urls: list[str]
    count: int
    connections: int
    streams: int
    """Requests side by side on one connection."""
    is_http2: bool
    body: Path | None
    edges: tuple[int, bytes, bytes]
    """Length and both ends of `body`."""
    expected: Any
    """The decoded JSON of `body`; None when the body is not JSON."""
    upload: Path | None

    @property
    def url(self) -> str:
        """The one URL that is asked for."""
        (url,) = self.urls
        return url

    def check_json(self, status: int, answer: object) -> None:
        """End the process unless the status is 200 and `answer`, decoded by the client, is the JSON served."""
        if status != 200 or answer != self.expected:
            fail(f"status {status}, body {answer!r:.200}")

    def check_bytes(self, status: int, answer: bytes | memoryview) -> None:
        """End the process unless the status is 200 and `answer` has the length and both ends of the body served.

        An upload is answered with 201.
        """
        if status != (201 if self.upload else 200):
            fail(f"status {status}, body {answer!r:.200}")
        if self.body is None:
            return
        if (len(answer), answer[:ENDS], answer[-ENDS:]) != self.edges:
            fail(f"status {status}, {len(answer)} bytes instead of {self.edges[0]}: {bytes(answer[:ENDS])!r}")


def job() -> Job:
    """The task given on the command line."""
    url, count, connections, path = sys.argv[1:5]
    options = dict(option.split("=", 1) for option in sys.argv[5:] if "=" in option)
    body = None if path == "-" else Path(path)
    return Job(
        Path(url[1:]).read_text().split() if url.startswith("@") else [url],
        int(count),
        int(connections),
        int(options.get("streams", "1")),
        options.get("version") == "2",
        body,
        (0, b"", b"") if body is None else edges_of(body),
        json.loads(body.read_bytes()) if body is not None and path.endswith(".json") else None,
        Path(options["upload"]) if "upload" in options else None,
    )


def edges_of(path: Path) -> tuple[int, bytes, bytes]:
    """Length and both ends of a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begins = file.read(ENDS)
        file.seek(-min(ENDS, size), os.SEEK_END)
        return size, begins, file.read()


def fail(reason: str) -> NoReturn:
    """End the process: an answer was wrong."""
    sys.exit(f"wrong answer: {reason}")


def report(task: Job, right: int) -> None:
    """Say how many answers were right; fewer than asked for is a failure."""
    if right != task.count:
        fail(f"{right} right answers to {task.count} requests")
    print(json.dumps({"right": right}))
