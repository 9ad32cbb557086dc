"""Sends rows from inside a namespace, in a process of its own with a look-up cache and a pool of its own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from namespaces import Namespace

PROGRAM = Path(__file__).with_name("namespace_client.py")

LIMIT_S = 60.0
"""No batch here takes longer: a hang is a failure."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """What came of one row."""

    index: int
    at: float
    """Seconds from the beginning of the batch to its outcome."""
    ok: bool
    status: int
    version: str
    length: int
    text: str
    attempts: int
    elapsed: float
    kind: str | None
    error: str | None
    in_doubt: bool
    retryable: bool
    bytes_sent: int | None


@dataclasses.dataclass(frozen=True)
class Batch:
    """What came of all rows, in their order."""

    seconds: float
    rows: list[Ended]

    @property
    def failed(self) -> list[Ended]:
        return [row for row in self.rows if not row.ok]


class Sending:
    """A batch that is under way."""

    def __init__(self, namespace: Namespace, rows: list[Any], policy: dict[str, Any], limits: dict[str, Any]) -> None:
        self._count = len(rows)
        self._process = subprocess.Popen(
            [*namespace.inside, sys.executable, "-X", "faulthandler", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"rows": rows, "policy": policy, **limits}))
        self._process.stdin.close()
        self._process.stdin = None

    def end(self) -> Batch:
        """Wait for its end: one outcome for each row, no more and no less."""
        try:
            out, err = self._process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, err = self._process.communicate()
            pytest.fail(f"the batch hung for {LIMIT_S} s\n{err}")
        assert self._process.returncode == 0, err
        answer = json.loads(out)
        rows = sorted((Ended(**row) for row in answer["ended"]), key=lambda row: row.index)
        assert [row.index for row in rows] == list(range(self._count)), "one outcome for each row"
        return Batch(answer["seconds"], rows)


def send(
    namespace: Namespace,
    rows: list[Any],
    *,
    descriptors: int | None = None,
    spare: int | None = None,
    release_after: float | None = None,
    closed: Sequence[int] = (),
    **policy: Any,
) -> Batch:
    """Send the rows and wait for what comes of them.

    Args:
        namespace: where.
        rows: what.
        descriptors: how many the process may have.
        spare: how many of them are left when the batch begins, the rest being taken.
        release_after: seconds after which the taken ones are given back.
        closed: those that the process closes before, as daemons do.
        policy: how.

    """
    limits = {"descriptors": descriptors, "spare": spare, "release_after": release_after, "closed": [*closed]}
    return Sending(namespace, rows, policy, limits).end()
