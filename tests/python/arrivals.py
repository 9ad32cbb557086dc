"""When requests came, and how often, as the server saw it."""

from __future__ import annotations

import bisect

import loamy
from loamy.testing import TestServer

LATE_S = 0.02
"""A server on the same machine may see a request this much later than it was sent, and the next one at once: what was sent in a span
can arrive in one that is shorter by this."""


def arrivals(server: TestServer, path: str) -> list[float]:
    """Give the seconds at which the requests came whose target begins so, in order."""
    return sorted(seen.arrived for seen in server.requests if seen.target.startswith(path))


def visits(server: TestServer) -> dict[str, dict[str, int]]:
    """Give how often each name was asked for at ``/count/…``, by method."""
    answer = loamy.send([server.url("/counts")])[0].json()
    assert isinstance(answer, dict)
    return answer


def most_within(times: list[float], window: float) -> int:
    """Give the greatest number of requests that came in any span of that many seconds."""
    return max(bisect.bisect_right(times, begin + window) - place for place, begin in enumerate(times))


def holds(times: list[float], rate: float, burst: float, windows: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)) -> None:
    """Assert that in every span W at most rate · W + burst + 1 came."""
    for window in windows:
        most = most_within(times, window)
        assert most <= rate * (window + LATE_S) + burst + 1, f"{most} requests within {window} s"
