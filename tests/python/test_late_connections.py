"""Rows that have their turn before they have a connection: what happens meanwhile holds for them too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import loamy
import loamy.testing
import pytest
from arrivals import LATE_S, arrivals, holds
from loamy.testing import TestServer
from slow_network import slow_to_connect

CONNECTING_S = 0.3
UNDER_WAY_S = 0.1
"""By then the client has read an answer, and the server what was on its way before that."""

USED = 0.7
"""The share of a rate that is used at the least where each row takes its time to connect, on a loaded machine too."""

ONE_STREAM: dict[str, Any] = {"h2_connections": 1, "h2_streams": 1}


@pytest.fixture
def secure() -> Iterator[TestServer]:
    with loamy.testing.serve(tls=True) as server:
        yield server


@pytest.fixture
def far_away(secure: TestServer) -> Iterator[str]:
    """The same server, to which it takes a while to connect."""
    with slow_to_connect(int(secure.url("").rstrip("/").rsplit(":", 1)[1]), CONNECTING_S) as port:
        yield f"https://127.0.0.1:{port}"


def test_a_rate_holds_where_it_takes_long_to_connect(secure: TestServer, far_away: str) -> None:
    # Those that take long keep their connections, so that the rest needs others, made while some become free.
    rows = [f"{far_away}/stamp/a"] * 40 + [f"{far_away}/delay/1"] * 60
    loamy.send(rows, rate="50/s", http_version="1.1", verify=secure.ca).raise_for_failures()
    assert len(secure.requests) == len(rows)
    holds(arrivals(secure, "/"), rate=50, burst=1)


def test_a_rate_is_used_though_each_row_has_to_connect(secure: TestServer, far_away: str) -> None:
    row = {"url": f"{far_away}/stamp/a", "headers": {"Connection": "close"}}
    loamy.send([row] * 60, rate="15/s", http_version="1.1", verify=secure.ca).raise_for_failures()
    times = arrivals(secure, "/stamp")
    assert secure.counts["connections"] >= 60
    holds(times, rate=15, burst=1)
    # But for the first, which find out how long it takes.
    later = times[20:]
    assert (len(later) - 1) / (later[-1] - later[0]) >= USED * 15


def test_few_connections_are_made_for_a_slow_rate(secure: TestServer, far_away: str) -> None:
    loamy.send([f"{far_away}/stamp/a"] * 6, rate="4/s", http_version="1.1", verify=secure.ca).raise_for_failures()
    assert secure.counts["connections"] <= 3


@pytest.mark.parametrize("streams", [1, 4])
def test_a_rate_holds_for_rows_that_wait_for_a_stream(secure: TestServer, streams: int) -> None:
    rows = [secure.url("/stamp/a")] * 60 + [secure.url("/delay/1")] * streams + [secure.url("/stamp/a")] * 60
    loamy.send(rows, rate="40/s", h2_connections=1, h2_streams=streams, verify=secure.ca).raise_for_failures()
    assert len(secure.requests) == len(rows)
    holds(arrivals(secure, "/"), rate=40, burst=1)


def test_e20_a_pause_holds_for_rows_that_are_still_connecting(secure: TestServer, far_away: str) -> None:
    rows = [f"{far_away}/json"] * 60
    rows += [f"{far_away}/limited/a/{row}?limit=5&window=60&as=none&retry_after=30&takes=20ms" for row in range(100)]
    responses = loamy.send(rows, http_version="1.1", max_pause=1, verify=secure.ca)
    times = arrivals(secure, "/limited")
    refused = times[5]
    assert not [at for at in times if at > refused + UNDER_WAY_S], "nothing goes to a host that is paused"
    assert len(responses.failed) >= 90
    assert all(response.status_code == 429 or response.kind == "not_sent" for response in responses.failed), responses


def test_e20_a_pause_holds_for_rows_that_wait_for_a_stream(secure: TestServer) -> None:
    rows = [secure.url("/stamp/a")] * 60
    rows += [secure.url(f"/limited/a/{row}?limit=5&window=60&as=none&retry_after=30") for row in range(60)]
    loamy.send(rows, max_pause=1, verify=secure.ca, **ONE_STREAM)
    assert len(arrivals(secure, "/limited")) == 6, "one was refused, and none followed it"


@pytest.mark.parametrize("stops", [{"fail_fast": True}, {"max_failures": 1}])
def test_the_first_failure_is_the_last_row_that_is_sent_on_a_stream(secure: TestServer, stops: dict[str, Any]) -> None:
    rows = [secure.url("/stamp/a")] * 60 + [secure.url("/delay/0.3"), secure.url("/status/404")]
    posts = [("POST", secure.url(f"/stamp/b?row={row}")) for row in range(60)]
    responses = loamy.send([*rows, *posts], verify=secure.ca, **ONE_STREAM, **stops)
    seen = [request.target for request in secure.requests]
    assert seen[-1] == "/status/404"
    assert [response.kind for response in responses[62:]] == ["not_sent"] * 60


def test_the_first_failure_stops_rows_that_are_still_connecting(secure: TestServer, far_away: str) -> None:
    rows = [f"{far_away}/json"] * 60 + [f"{far_away}/status/404"]
    posts = [("POST", f"{far_away}/stamp/b?row={row}") for row in range(100)]
    responses = loamy.send([*rows, *posts], fail_fast=True, http_version="1.1", verify=secure.ca)
    [failed] = arrivals(secure, "/status/404")
    assert not [at for at in arrivals(secure, "/stamp/b") if at > failed + UNDER_WAY_S + LATE_S]
    assert "not_sent" in {response.kind for response in responses}
