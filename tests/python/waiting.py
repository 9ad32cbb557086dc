"""Waiting for what another thread or process does, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

WATCHED_S = 0.2
"""How long a server is watched after a call was left, so that whatever is still sent is seen."""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once the condition holds; fail when it does not in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"nothing came of it within {seconds} s"
        time.sleep(0.002)
