"""Limits that the caller sets: what the server sees in any span of time."""

from __future__ import annotations

import itertools
import time
from typing import Any

import loamy
import pytest
from arrivals import LATE_S, arrivals, holds
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from waiting import until

SLOW_MACHINE_S = 2.0
"""What a loaded machine may need on top of the time that a call must take."""


@pytest.mark.parametrize("concurrency", [1, 30])
def test_a_rate_holds_in_every_span_of_time(server: TestServer, concurrency: int) -> None:
    began = time.monotonic()
    loamy.send([server.url("/stamp/a")] * 60, rate="30/s", concurrency=concurrency).raise_for_failures()
    took = time.monotonic() - began
    times = arrivals(server, "/stamp/a")
    assert len(times) == 60
    holds(times, rate=30, burst=1)
    least = 59 / 30
    assert least - LATE_S <= took <= least + SLOW_MACHINE_S, "no faster than allowed, and not much slower"


def test_without_a_burst_rows_go_one_by_one(server: TestServer) -> None:
    loamy.send([server.url("/stamp/a")] * 12, rate="10/s").raise_for_failures()
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals(server, "/stamp"))]
    assert min(gaps) >= 0.1 - LATE_S


def test_a_burst_goes_at_once_and_the_rest_at_the_rate(server: TestServer) -> None:
    loamy.send([server.url("/stamp/a")] * 40, rate="20/s", burst=20).raise_for_failures()
    times = arrivals(server, "/stamp")
    holds(times, rate=20, burst=20)
    assert times[19] - times[0] <= SLOW_MACHINE_S / 2, "the burst does not wait"
    assert times[-1] - times[0] >= 20 / 20 - LATE_S


def test_a_rate_holds_for_all_hosts_together_and_one_per_host_for_each(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        rows = [url for _ in range(20) for url in (server.url("/stamp/a"), other.url("/stamp/a"))]
        began = time.monotonic()
        loamy.send(rows, rate="40/s").raise_for_failures()
        assert time.monotonic() - began >= 39 / 40 - LATE_S
        before = len(server.requests)
        began = time.monotonic()
        loamy.send(rows, rate_per_host="20/s").raise_for_failures()
        took = time.monotonic() - began
        assert 19 / 20 - LATE_S <= took <= 19 / 20 + SLOW_MACHINE_S, "side by side, not one after the other"
        for one in (server, other):
            times = arrivals(one, "/stamp")[before:]
            assert len(times) == 20
            holds(times, rate=20, burst=1)


def test_a_slow_host_does_not_use_up_what_another_may_have(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        rows = [server.url("/stamp/a")] * 20 + [other.url("/json")] * 200
        began = time.monotonic()
        ended: list[float] = []

        def note(response: loamy.Response) -> None:
            if response.index >= 20:
                ended.append(time.monotonic() - began)

        loamy.send(rows, limits_per_host={"requests": "10/s"}, deadline=1.0, on_response=note)
        assert len(arrivals(server, "/stamp")) <= 10 * 1.0 + 2
        holds([seen.arrived for seen in other.requests], rate=10, burst=1)
        assert len(ended) == 200


def test_the_script_of_two_limits_with_what_each_row_costs(server: TestServer) -> None:
    # Twenty calls of a language model: 600 requests a minute would let them all pass in 2 s; 24,000 tokens a minute take longer.
    rows = [{"url": server.url(f"/stamp/llm?n={n}"), "method": "POST", "json": {"n": n}, "cost": 60} for n in range(20)]
    began = time.monotonic()
    responses = loamy.send(rows, limits={"requests": "600/min", "tokens": "24000/min"})
    took = time.monotonic() - began
    assert all(response.ok for response in responses)
    tokens_s = 19 * 60 / (24_000 / 60)
    assert tokens_s - LATE_S <= took <= tokens_s + SLOW_MACHINE_S
    times = arrivals(server, "/stamp/llm")
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 60 / 400 - LATE_S, "each pays for the one before"
    holds(times, rate=10, burst=1)


def test_a_cost_by_name_counts_for_that_limit_alone(server: TestServer) -> None:
    dear = {"url": server.url("/stamp/dear"), "cost": {"tokens": 50}}
    cheap = {"url": server.url("/stamp/cheap"), "cost": {"tokens": 0}}
    began = time.monotonic()
    limits = {"requests": "1000/s", "tokens": "100/s", "images": "1000/s"}
    loamy.send([dear] * 3 + [cheap] * 50, limits=limits).raise_for_failures()
    assert 2 * 0.5 - LATE_S <= time.monotonic() - began <= 1.0 + SLOW_MACHINE_S
    times = arrivals(server, "/stamp/dear")
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.5 - LATE_S
    began = time.monotonic()
    requests = {"url": server.url("/stamp/two"), "cost": {"requests": 5}}
    loamy.send([requests] * 5, limits={"requests": "50/s"}).raise_for_failures()
    assert time.monotonic() - began >= 4 * 5 / 50 - LATE_S


def test_rows_of_one_limit_key_share_a_limit_whatever_their_host(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        rows = [
            {"url": one.url("/stamp/a"), "limit_key": key}
            for _ in range(8)
            for one in (server, other)
            for key in ("tenant 1", "tenant 2")
        ]
        began = time.monotonic()
        loamy.send(rows, limits_per_host={"requests": "20/s"}).raise_for_failures()
        took = time.monotonic() - began
        # 16 rows of each key, at two servers.
        assert 15 / 20 - LATE_S <= took <= 15 / 20 + SLOW_MACHINE_S
        assert len(arrivals(server, "/stamp")) == len(arrivals(other, "/stamp")) == 16
        for one in (server, other):
            holds(arrivals(one, "/stamp"), rate=2 * 20, burst=2)


def test_a_redirect_and_a_retry_cost_as_much_as_a_row(server: TestServer) -> None:
    began = time.monotonic()
    loamy.send([server.url("/redirect/5"), server.url("/flaky/a?fail=2")], rate="10/s", retries=2, backoff=0)
    took = time.monotonic() - began
    assert len(server.requests) == 6 + 3
    assert took >= 8 / 10 - LATE_S
    holds([seen.arrived for seen in server.requests], rate=10, burst=1)


def test_a_stream_and_the_asynchronous_door_hold_to_a_rate(server: TestServer) -> None:
    import asyncio

    list(loamy.stream((server.url("/stamp/s") for _ in range(15)), rate="20/s"))
    holds(arrivals(server, "/stamp/s"), rate=20, burst=1)
    asyncio.run(loamy.send_async([server.url("/stamp/b")] * 15, rate="20/s"))
    holds(arrivals(server, "/stamp/b"), rate=20, burst=1)
    Clump([RequestMap(server.url("/stamp/c"), "GET")] * 15, policy=loamy.Policy(rate="20/s")).send_requests()
    holds(arrivals(server, "/stamp/c"), rate=20, burst=1)


def test_a_limit_of_a_server_that_is_kept_is_never_refused(server: TestServer) -> None:
    rows = [server.url("/limited/a?limit=10&window=500ms&how=sliding&as=none")] * 40
    responses = loamy.send(rows, rate="19/s")
    assert all(response.ok for response in responses)
    assert responses[-1].json()["refused"] == 0


def test_nginx_refuses_nobody_who_keeps_its_limit(limiting_nginx: Any) -> None:
    rows = [f"{limiting_nginx.url}/limited?n={n}" for n in range(60)]
    responses = loamy.send(rows, rate="45/s", concurrency=20)
    assert {response.status_code for response in responses} == {200}
    until(lambda: len(limiting_nginx.seen()) == 60)
    # Without it the same list is refused in good part, so the limit is one.
    refused = [response.status_code for response in loamy.send(rows, governor=False)]
    assert refused.count(429) >= 40


def test_the_progress_knows_how_long_the_limits_make_it(server: TestServer) -> None:
    seen: list[loamy.Progress] = []
    began = time.monotonic()
    loamy.send([server.url("/stamp/a")] * 40, rate="20/s", progress=seen.append)
    took = time.monotonic() - began
    assert seen[-1].eta == 0.0
    early = [now for now in seen if 0.2 <= now.elapsed <= 1.0]
    assert len(early) >= 3
    for now in early:
        assert now.eta is not None and now.eta >= now.waiting / 20 - 2 / 20
        assert abs(now.elapsed + now.eta - took) <= 0.5 + LATE_S


def test_the_end_is_unknown_before_a_row_has_ended_and_in_a_stream(server: TestServer) -> None:
    seen: list[loamy.Progress] = []
    loamy.send([server.url("/delay/0.5")] * 2, progress=seen.append)
    assert seen[0].done == 0 and seen[0].eta is None and seen[-1].eta == 0.0
    streamed: list[loamy.Progress] = []
    list(loamy.stream([server.url("/delay/0.3")] * 4, progress=streamed.append, concurrency=2))
    assert streamed and {now.eta for now in streamed} == {None}


# --- How many at once


def test_auto_finds_what_a_server_bears(server: TestServer) -> None:
    rows = [server.url("/peak?at=10&most=1000&service=20ms")] * 600
    responses = loamy.send(rows, concurrency="auto")
    assert all(response.ok for response in responses)
    assert server.counts["max_in_flight"] < 100
    tail = [response.json()["in_service"] for response in responses[300:]]
    assert sum(tail) / len(tail) <= 40, "it settles near what the server bears, far below 100"


@pytest.mark.parametrize("manner", ["aimd", "gradient2"])
def test_an_adaptive_call_has_never_more_in_flight_than_concurrency_says(server: TestServer, manner: Any) -> None:
    loamy.send([server.url("/delay/0.01")] * 300, concurrency=12, adaptive=manner).raise_for_failures()
    assert server.counts["max_in_flight"] <= 12 and server.counts["requests"] == 300


def test_a_slow_row_gets_a_second_try_where_that_is_wanted(server: TestServer) -> None:
    rows = [server.url(f"/count/{n}") for n in range(39)] + [server.url("/flaky/slow?status=hang")]
    began = time.monotonic()
    responses = loamy.send(rows, hedge=0.2, timeout=20)
    assert time.monotonic() - began <= 0.2 + SLOW_MACHINE_S
    assert all(response.ok for response in responses)
    assert (responses[39].attempts, responses[39].earlier) == (2, ("outrun",))
    slow = [seen for seen in server.requests if seen.target.startswith("/flaky")]
    assert len(slow) == 2 and len(server.requests) == 41
    unhedged = loamy.send([server.url(f"/flaky/other{n}?status=hang") for n in range(2)], timeout=0.5)
    assert {response.kind for response in unhedged} == {"timeout.total"}


# --- What is refused


def one(server: TestServer, row: dict[str, Any], **policy: Any) -> str:
    [response, other] = loamy.send([{"url": server.url("/json"), **row}, server.url("/json")], **policy)
    assert other.ok, "the others go"
    assert response.kind == "bad_request" and isinstance(response.error, loamy.InvalidRequest)
    assert len(server.requests) == 1
    return str(response.error).removeprefix("bad_request: ")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"cost": "many"}, "cost must be a whole number, 0 or more, not str (GET "),
        ({"cost": True}, "cost must be a whole number, 0 or more, not bool (GET "),
        ({"cost": 1.5}, "cost must be a whole number, 0 or more, not float (GET "),
        ({"cost": -1}, "cost is -1; it must be a whole number, 0 or more (GET "),
        ({"cost": 1 << 64}, "cost is 18446744073709551616; it must be a whole number, 0 or more (GET "),
        ({"cost": {"tokens": -1}}, 'cost of "tokens" is -1; it must be a whole number, 0 or more (GET '),
        ({"cost": {"tokens": None}}, 'cost of "tokens" must be a whole number, 0 or more, not NoneType (GET '),
        ({"cost": {7: 1}}, "name of a limit must be str, not int (GET "),
        ({"cost": {"token": 5}}, 'cost names no limit: "token" (GET '),
        ({"limit_key": 7}, "limit_key must be str, not int (GET "),
        ({"limit_key": ""}, "limit_key is empty; leave it out for the host's own limits (GET "),
        ({"limits_key": "a"}, 'the row\'s key "limits_key" is unknown; is it "limit_key"? (GET '),
    ],
)
def test_what_a_row_says_wrong_of_limits_is_its_own_outcome(server: TestServer, row: Any, text: str) -> None:
    assert one(server, row, limits={"tokens": "1000/s"}).startswith(text)


def test_a_cost_of_no_limit_names_what_there_is(server: TestServer) -> None:
    text = one(server, {"cost": {"token": 5}}, limits={"tokens": "1000/s"})
    assert text.endswith('hint: the limits are "tokens"')
    with loamy.testing.serve() as other:
        text = one(other, {"cost": 5}, rate="1000/s")
        assert text.startswith('cost says what the row takes of limits other than "requests", and there is none; ')
