"""What every Python client under test is told to do, and how it proves that it did it.

A client is started as ``python CLIENT.py URL COUNT CONNECTIONS BODY``. BODY is a file with the body that each answer
must have, or ``-`` when only the status is checked. It sends COUNT requests, checks each answer and ends with `report`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# Enough of both ends to tell a cut or shifted body, without making every client compare 64 KiB.
ENDS = 32


@dataclass(frozen=True)
class Job:
    """One task of a client."""

    url: str
    count: int
    connections: int
    body: bytes | None
    expected: Any
    """The decoded JSON of `body`; None when the body is not JSON."""

    def check_json(self, status: int, answer: object) -> None:
        """End the process unless the status is 200 and `answer`, decoded by the client, is the JSON served."""
        if status != 200 or answer != self.expected:
            fail(f"status {status}, body {answer!r:.200}")

    def check_bytes(self, status: int, answer: bytes) -> None:
        """End the process unless the status is 200 and `answer` has the length and both ends of the body served."""
        if status != 200:
            fail(f"status {status}, body {answer!r:.200}")
        body = self.body
        if body is None:
            return
        if len(answer) != len(body) or answer[:ENDS] != body[:ENDS] or answer[-ENDS:] != body[-ENDS:]:
            fail(f"status {status}, {len(answer)} bytes instead of {len(body)}: {bytes(answer[:ENDS])!r}")


def job() -> Job:
    """The task given on the command line."""
    url, count, connections, path = sys.argv[1:5]
    body = None if path == "-" else Path(path).read_bytes()
    expected = json.loads(body) if body is not None and path.endswith(".json") else None
    return Job(url, int(count), int(connections), body, expected)


def fail(reason: str) -> NoReturn:
    """End the process: an answer was wrong."""
    sys.exit(f"wrong answer: {reason}")


def report(task: Job, right: int) -> None:
    """Say how many answers were right; fewer than asked for is a failure."""
    if right != task.count:
        fail(f"{right} right answers to {task.count} requests")
    print(json.dumps({"right": right}))
