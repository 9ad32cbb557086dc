"""`loamy.stream`: rows are pulled as there is room, responses come as they end."""

from __future__ import annotations

import gc
import itertools
import resource
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import loamy
import pytest
from loamy.testing import TestServer
from waiting import until

FLAT_KIB = 24_000
"""What the process may grow by over 20,000 rows, in a coarse measure of its pages."""
DEADLINE_S = 0.5
"""Enough for three rows, on a machine with other work too."""


def noted(pulled: list[int], url: str, count: int) -> Iterator[str]:
    """Give the URL so often, and note each time that it was asked for."""
    for number in range(count):
        pulled.append(number)
        yield url


def test_responses_come_as_they_end(server: TestServer) -> None:
    rows = [server.url("/delay/0.4"), server.url("/json"), server.url("/delay/0.2")]
    assert [response.index for response in loamy.stream(rows)] == [1, 2, 0]


def test_responses_come_in_the_order_given_when_asked(server: TestServer) -> None:
    rows = [server.url("/delay/0.3"), server.url("/json"), server.url("/delay/0.1")] * 20
    responses = list(loamy.stream(rows, order="given"))
    assert [response.index for response in responses] == list(range(60))
    assert [response.request for response in responses] == rows


def test_every_row_comes_back_once_in_either_order(server: TestServer) -> None:
    rows = [{"url": server.url(f"/anything?n={n}"), "tag": n} for n in range(2000)]
    for order in ("done", "given"):
        responses = list(loamy.stream(iter(rows), order=order))
        assert sorted(response.index for response in responses) == list(range(2000))
        assert all(response.tag == response.index == int(response.json()["args"]["n"]) for response in responses)
    assert server.counts["requests"] == 4000


@pytest.mark.parametrize("order", ["done", "given"])
@pytest.mark.parametrize("window", [1, 7, 64])
def test_never_more_rows_than_the_window_are_pulled_ahead(server: TestServer, order: Any, window: int) -> None:
    pulled = 0

    def rows() -> Iterator[str]:
        nonlocal pulled
        for _ in range(300):
            pulled += 1
            yield server.url("/json")

    yielded = 0
    for _ in loamy.stream(rows(), order=order, window=window):
        assert pulled - yielded <= window
        yielded += 1
    assert yielded == pulled == 300
    assert server.counts["max_in_flight"] <= window


def test_the_window_is_four_times_the_concurrency_when_left_out(server: TestServer) -> None:
    pulled: list[int] = []
    stream = loamy.stream(noted(pulled, server.url("/json"), 500), concurrency=3)
    ahead = [len(pulled) - number for number, _ in enumerate(stream)]
    assert max(ahead) == 12 and server.counts["max_in_flight"] <= 3


def test_the_iterable_is_used_on_the_consumers_thread_only(server: TestServer) -> None:
    threads = set()

    def rows() -> Iterator[str]:
        for _ in range(500):
            threads.add(threading.get_ident())
            yield server.url("/json")

    assert sum(1 for _ in loamy.stream(rows())) == 500
    assert threads == {threading.get_ident()}


def test_nothing_is_pulled_or_sent_before_the_first_is_asked_for(server: TestServer) -> None:
    pulled: list[int] = []
    stream = loamy.stream(noted(pulled, server.url("/json"), 3))
    assert pulled == [] and server.counts["connections"] == 0
    assert sum(1 for _ in stream) == 3


def test_a_deadline_begins_when_the_first_response_is_asked_for(server: TestServer) -> None:
    stream = loamy.stream([server.url("/json")] * 3, deadline=DEADLINE_S)
    time.sleep(1.5 * DEADLINE_S)
    assert [response.kind for response in stream] == [None] * 3
    assert server.counts["requests"] == 3


def test_a_stream_that_was_left_lets_go_of_its_source_at_once(server: TestServer) -> None:
    ended: list[int] = []

    def rows() -> Iterator[str]:
        try:
            while True:
                yield server.url("/json")
        finally:
            ended.append(server.counts["requests"])

    gc.disable()
    try:
        for _ in loamy.stream(rows(), window=3):
            break
        assert len(ended) == 1, "its cursor is closed without the collector"
        own = rows()
        for _ in loamy.stream(own, window=3):
            break
        assert next(own) and len(ended) == 1, "whoever holds it may go on with it"
    finally:
        gc.enable()
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] <= 6


def test_a_consumer_that_pauses_holds_up_the_source_and_not_the_answers(server: TestServer) -> None:
    pulled = itertools.count()
    stream = loamy.stream((server.url(f"/anything?n={next(pulled)}") for _ in range(1000)), window=10)
    next(stream)
    until(lambda: server.counts["requests"] == 10 or server.counts["in_flight"] == 0)
    assert server.counts["requests"] <= 11
    assert sum(1 for _ in stream) == 999


@pytest.mark.parametrize("order", ["done", "given"])
def test_an_iterable_that_raises_does_so_after_the_results_of_its_rows(server: TestServer, order: Any) -> None:
    def rows() -> Iterator[str]:
        for n in range(10):
            yield server.url(f"/delay/0.1?n={n}")
        raise LookupError("the table is gone")

    seen = []
    with pytest.raises(LookupError, match="the table is gone"):
        for response in loamy.stream(rows(), order=order):
            seen.append((response.index, response.ok))
    assert sorted(seen) == [(n, True) for n in range(10)]
    assert server.counts["requests"] == 10


def test_a_source_that_blocks_does_not_hold_up_the_rows_that_it_has_given(server: TestServer) -> None:
    def rows() -> Iterator[str]:
        for _ in range(5):
            yield server.url("/json")
        # A queue, a next page, the end of a file that grows: the next row comes only after these were seen.
        until(lambda: server.counts["requests"] == 5, seconds=5)
        yield server.url("/json")

    assert [response.ok for response in loamy.stream(rows())] == [True] * 6


def test_a_bad_row_is_its_own_outcome_and_the_stream_goes_on(server: TestServer) -> None:
    rows: list[Any] = [server.url("/json"), None, "no scheme", server.url("/json")]
    kinds = [response.kind for response in loamy.stream(rows, order="given")]
    assert kinds == [None, "bad_request", "bad_request", None]


def test_leaving_the_loop_cancels_the_rest(server: TestServer) -> None:
    def rows() -> Iterator[str]:
        yield server.url("/json")
        while True:
            yield server.url("/hang")

    for _ in loamy.stream(rows(), concurrency=5):
        break
    gc.collect()
    until(lambda: server.counts["open"] == 0)
    sent = server.counts["requests"]
    # A call of its own goes through the same engine: had it still work of the stream, that would be sent now.
    loamy.send([server.url("/json")] * 20).raise_for_failures()
    assert server.counts["requests"] == sent + 20 and sent <= 6


def test_closing_a_stream_cancels_it_at_once(server: TestServer) -> None:
    stream = loamy.stream([server.url("/json")] + [server.url("/hang")] * 50, concurrency=4)
    assert next(stream).index == 0
    until(lambda: server.counts["in_flight"] == 4)
    stream.close()
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] == 5
    assert list(stream) == []


def test_a_stream_that_is_thrown_away_is_cancelled(server: TestServer) -> None:
    stream = loamy.stream([server.url("/json")] + [server.url("/hang")] * 50, concurrency=4)
    next(stream)
    until(lambda: server.counts["in_flight"] == 4)
    del stream
    gc.collect()
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] == 5


def test_an_exception_in_the_loop_cancels_the_rest_and_leaves_as_itself(server: TestServer) -> None:
    with pytest.raises(ZeroDivisionError):
        for response in loamy.stream([server.url("/json")] + [server.url("/hang")] * 10, concurrency=2):
            assert response.index // 0
    gc.collect()
    until(lambda: server.counts["open"] == 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"order": "any"}, "order is 'any'; it must be 'done' or 'given'"),
        ({"window": 0}, "window is 0; it must be a number of rows, 1 or more"),
        ({"window": 2.5}, "window is 2.5; it must be a number of rows, 1 or more"),
    ],
)
def test_a_wrong_option_raises_where_stream_is_called(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        loamy.stream([], **fields)
    assert str(caught.value) == message


def test_a_stream_within_a_stream_goes_on(server: TestServer) -> None:
    first = loamy.stream([server.url("/anything?n=1")] * 30, concurrency=2)
    second = loamy.stream((response.json()["url"] for response in first), concurrency=2)
    assert sum(response.ok for response in second) == 30
    assert server.counts["requests"] == 60


def test_a_deadline_ends_a_stream_with_every_row(server: TestServer) -> None:
    rows = [server.url("/hang")] * 6
    kinds = sorted(str(response.kind) for response in loamy.stream(rows, concurrency=2, deadline=0.3))
    assert kinds == ["not_sent"] * 4 + ["timeout.total"] * 2


def test_memory_stays_flat_over_twenty_thousand_rows() -> None:
    def pages() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() // 1024

    with loamy.testing.serve(keep_log=False) as server:
        row = {"url": server.url("/json/2000")}

        def run(count: int) -> int:
            return sum(response.ok for response in loamy.stream(itertools.repeat(row, count)))

        assert run(2000) == 2000
        before = pages()
        assert run(20_000) == 20_000
        assert pages() - before < FLAT_KIB, "20,000 bodies alone are 40,000 KiB"


def test_what_the_consumer_lets_go_is_freed(server: TestServer) -> None:
    class Row(dict[str, Any]):
        """A dict that can be watched."""

        __hash__ = object.__hash__  # type: ignore[assignment]

    alive: weakref.WeakSet[Row] = weakref.WeakSet()

    def rows() -> Iterator[Row]:
        for _ in range(500):
            row = Row(url=server.url("/json"))
            alive.add(row)
            yield row
            del row

    most = 0
    for response in loamy.stream(rows(), window=20):
        del response
        most = max(most, len(alive))
    assert most <= 25
