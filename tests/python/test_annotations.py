"""What type checkers and readers of annotations see of the package."""

from __future__ import annotations

import subprocess
import sys
import typing
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import loamy
import pytest

DOORS = [loamy.send, loamy.stream, loamy.send_async, loamy.Responses.resend]

USER = """
from __future__ import annotations

from typing import Any

import loamy
from loamy.session import Clump, RequestMap
from typing_extensions import Unpack
from zconcurrent.zsession import RequestMap as Map, zSession


def fetch(rows: list[loamy.Row], **options: Unpack[loamy.PolicyFields]) -> loamy.Responses:
    return loamy.send(rows, **options)


responses = fetch(
    ["http://h/", ("POST", "http://h/"), {"url": "http://h/"}, RequestMap("http://h/", "GET"), Map("http://h/", "GET")],
    concurrency=5,
    timeout=(3, 20),
)
both: loamy.Responses = responses + responses.failed
again: loamy.Responses = both.copy().resend(timeout=3)
view: memoryview = memoryview(again[0])

policy = loamy.Policy(timeout=5, backoff=1, headers={"A": "b"})
total: float | None = policy.timeout.total
first, highest = policy.backoff
names: list[str] = [name for name, value in policy.headers or ()]

clumped = Clump(["http://h/", RequestMap("http://h/", "GET", query_params={"page": 1, "sort": ["a"]})]).send_requests()
for error in zSession(["http://h/", Map("http://h/", "GET", queryParams={"page": 1})]).sendRequests(True).taskExceptions:
    print(error.request_map.url, error.kind)
"""

MISTAKES = """
import loamy

loamy.send(["http://h/"], concurency=5)
loamy.Policy(timeout="5")
loamy.Policy(backoff=[1, 2])
loamy.Policy().timeout = loamy.Timeout()
"""


@pytest.mark.parametrize("door", DOORS)
def test_the_annotations_of_a_door_can_be_read(door: Callable[..., Any]) -> None:
    hints = typing.get_type_hints(door)
    assert set(signature(door).parameters) - {"self"} == set(hints) - {"return"}
    assert signature(door, eval_str=True).return_annotation == hints["return"]


def test_the_annotations_of_a_policy_can_be_read() -> None:
    fields = typing.get_type_hints(loamy.Policy)
    assert {name: hint for name, hint in fields.items() if not name.startswith("_")} == typing.get_type_hints(
        loamy.PolicyFields
    )


@pytest.mark.parametrize(("code", "errors"), [(USER, 0), (MISTAKES, 4)], ids=["right", "wrong"])
def test_a_type_checker_takes_what_is_right_and_finds_what_is_wrong(tmp_path: Path, code: str, errors: int) -> None:
    (tmp_path / "user.py").write_text(code)
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.stdout.count(": error:") == errors, finished.stdout + finished.stderr
    assert finished.returncode == (1 if errors else 0), finished.stdout + finished.stderr
