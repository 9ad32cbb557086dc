"""The cells of `cells.toml` that need Python, the checks that they name, and the servers that those stand on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import loamy
import loamy.session
from loamy.testing import TestServer, serve
from zconcurrent import zsession

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # there only where it is needed

LIST = Path(__file__).with_name("cells.toml")
COLUMNS = ("get", "post", "keyed")

CALL_S = 5.0
"""How long any row of these cells may take."""
GRACE_S = 1.0
"""How long a call may go on past its rows' time."""
LINGER_S = 0.1
"""How long the server is watched after a call, so that whatever is still sent is seen."""
PROCESS_S = 30.0
"""How long another interpreter may take in all."""
UNDER_WAY_S = 0.2
"""By then a call of another interpreter is under way; its scripts know it by this name."""


@dataclass(frozen=True)
class Cell:
    id: str
    variant: str
    column: str
    runner: str
    na: str | None = None
    check: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    """What the check takes: the list calls it `with`."""
    expect: str | None = None
    in_doubt: str = "never"
    seen: int | None = None
    attempts: int | None = None

    def __str__(self) -> str:
        return f"{self.id} {self.variant} [{self.column}]"

    @property
    def method(self) -> Literal["GET", "POST"]:
        return "GET" if self.column == "get" else "POST"

    @property
    def headers(self) -> dict[str, str]:
        return {"Idempotency-Key": "k-1"} if self.column == "keyed" else {}

    def row(self, url: Any, **more: Any) -> dict[str, Any]:
        """A row of the cell's column."""
        row = {"method": self.method, "url": url, "headers": self.headers, "timeout": CALL_S}
        if self.column != "get":
            row["json"] = {"x": 1}
        return row | more

    def map(self, url: Any, **more: Any) -> loamy.session.RequestMap:
        """The same as the documented struct."""
        body = None if self.column == "get" else {"x": 1}
        fields = {"url": url, "http_op": self.method, "body": body, "headers": self.headers} | more
        return loamy.session.RequestMap(**fields)

    def older_map(self, url: Any) -> zsession.RequestMap:
        body = None if self.column == "get" else {"x": 1}
        return zsession.RequestMap(url=url, httpOperation=self.method, body=body, headers=self.headers)

    def judge(self, error: Any, response: Any = None) -> None:
        """Compare a failure with the cell."""
        assert isinstance(error, loamy.LoamyError), error
        assert error.kind == self.expect, error
        assert error.in_doubt is (self.in_doubt == "post" and self.column == "post"), error
        if response is not None and self.attempts is not None:
            assert response.attempts == self.attempts


def table() -> dict[str, Any]:
    """The list as it stands in its file, the cells of the engine among them."""
    listed: dict[str, Any] = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return listed


def _cells() -> list[Cell]:
    cells = []
    for case in table()["case"]:
        own = {column: case.pop(column, {}) for column in COLUMNS}
        if case["runner"] != "python":
            continue
        for column in COLUMNS:
            fields = case | own[column]
            fields["given"] = fields.pop("with", {})
            cells.append(Cell(column=column, **fields))
    return cells


CELLS = _cells()
RUNNABLE = [cell for cell in CELLS if cell.na is None]

Check = Callable[[Cell, Path], None]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        assert name not in CHECKS, name
        CHECKS[name] = function
        return function

    return register


@contextlib.contextmanager
def served(cell: Cell) -> Iterator[TestServer]:
    """A well-behaved server that must have seen as many requests as the cell says."""
    with serve() as server:
        yield server
        time.sleep(LINGER_S)
        if cell.seen is not None:
            assert server.counts["requests"] == cell.seen, server.requests


@contextlib.contextmanager
def scripted(cell: Cell, program: Path, steps: list[str] | dict[str, Any]) -> Iterator[str]:
    """The address of a server that does as it is told; at the end its log is compared with the cell."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as script:
        json.dump(steps, script)
        script.flush()
        process = subprocess.Popen(
            [program, "script", script.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.readline().strip()
            time.sleep(LINGER_S)
            told, _ = process.communicate("", timeout=CALL_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
    log = json.loads(told)
    assert process.returncode == 0, log["failures"]
    assert cell.seen is None or log["counts"]["requests"] == cell.seen, log


def other_interpreter(script: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a script with arguments as JSON in `argv`; it must end well, in time and without a word on stderr."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"UNDER_WAY_S = {UNDER_WAY_S}\n{textwrap.dedent(script)}",
            *(json.dumps(argument) for argument in arguments),
        ],
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        env=os.environ | {"LOAMY_UNOPTIMISED": "1", "PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done


def among(cell: Cell, url: str, row: Any) -> Any:
    """Send a row between two good ones, which must come through; return what became of it."""
    good = cell.row(url)
    began = time.monotonic()
    responses = loamy.send([good, row, good], concurrency=1)
    assert time.monotonic() - began < 3 * CALL_S + GRACE_S
    assert [response.index for response in responses] == [0, 1, 2]
    assert responses[0].ok and responses[2].ok, responses
    assert responses[1].request is row
    return responses[1]
