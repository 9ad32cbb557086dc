"""Streams that write a journal, and break off in ways of their own (faults H5, H7)."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loamy
import pytest
from arrivals import visits
from loamy.testing import TestServer
from waiting import until

ROWS = 20
ON_RECORD_S = 0.2
"""How soon what has ended is on disk."""


def source(server: TestServer, breaks_at: int | None = None) -> Iterator[Any]:
    """Give the rows, the first half of them POSTs; break off before one of them."""
    for number in range(ROWS):
        if number == breaks_at:
            raise OSError("the database went away")
        yield ("POST" if number < ROWS // 2 else "GET", server.url(f"/count/{number}"))


@pytest.mark.parametrize("order", ["done", "given"])
def test_h5_a_source_that_raises_leaves_the_journal_to_a_later_run(
    server: TestServer, journal: Path, order: Any
) -> None:
    yielded = []
    with pytest.raises(OSError, match="the database went away"):
        for response in loamy.stream(source(server, breaks_at=12), journal=journal, order=order):
            yielded.append(response.index)
    assert sorted(yielded) == list(range(12)), "what it gave before is finished and yielded first"
    responses = list(loamy.stream(source(server), journal=journal, order="given"))
    assert [response.index for response in responses] == list(range(ROWS))
    assert [response.replayed for response in responses] == [True] * 12 + [False] * 8
    assert all(sum(methods.values()) == 1 for methods in visits(server).values()) and len(visits(server)) == ROWS


def test_h5_a_source_that_raises_earlier_than_in_the_run_before_is_what_is_told(
    server: TestServer, journal: Path
) -> None:
    for breaks_at in (12, 5, 0):
        with pytest.raises(OSError, match="the database went away"):
            list(loamy.stream(source(server, breaks_at), journal=journal))
    assert len(visits(server)) == 12, "the later ones sent nothing"
    assert [response.ok for response in loamy.stream(source(server), journal=journal)] == [True] * ROWS
    with pytest.raises(OSError, match="the database went away"):
        list(loamy.stream(source(server, breaks_at=3), journal=journal))
    assert all(response.replayed for response in loamy.stream(source(server), journal=journal)), "complete as before"
    assert all(sum(methods.values()) == 1 for methods in visits(server).values())


def test_h7_a_stream_that_is_thrown_away_lets_go_of_its_journal_at_once(server: TestServer, journal: Path) -> None:
    rows = list(source(server))
    gc.disable()
    try:
        stream = loamy.stream(rows, journal=journal)
        assert len(loamy.send(rows, journal=journal, deadline=1e-9)) == ROWS, "nobody has read it"
        del stream
        assert server.counts["requests"] == 0
        stream = loamy.stream(rows, journal=journal)
        next(stream)
        with pytest.raises(loamy.JournalError, match="in use"):
            loamy.send(rows, journal=journal)
        del stream
        assert len(loamy.send(rows, journal=journal)) == ROWS, "it is free"
    finally:
        gc.enable()
    assert all(methods.get("POST", 0) <= 1 for methods in visits(server).values())


@pytest.mark.parametrize("order", ["done", "given"])
def test_h7_a_journal_is_free_when_a_hook_raised_for_the_last_row(
    server: TestServer, journal: Path, order: Any
) -> None:
    rows = list(source(server))
    heard: list[int] = []

    def hear(response: loamy.Response) -> None:
        heard.append(response.index)
        if len(heard) == ROWS:
            raise ValueError("enough")

    try:
        list(loamy.stream(rows, journal=journal, order=order, on_response=hear))
    except ValueError:
        # What was raised holds the frames of the stream; the journal is free all the same.
        again = loamy.send(rows, journal=journal)
    assert all(response.ok and response.replayed for response in again)
    assert all(sum(methods.values()) == 1 for methods in visits(server).values()) and len(visits(server)) == ROWS


def test_p1_a_hook_that_raised_leaves_a_journal_that_goes_on(server: TestServer, journal: Path) -> None:
    def hear(response: loamy.Response) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        list(loamy.stream(source(server), journal=journal, on_response=hear, concurrency=2, window=4))
    responses = list(loamy.stream(source(server), journal=journal, order="given"))
    assert [response.index for response in responses] == list(range(ROWS))
    assert all(sum(methods.values()) == 1 for number, methods in visits(server).items() if int(number) < ROWS // 2)


def test_p1_ctrl_c_in_a_source_leaves_the_journal_to_a_later_run(server: TestServer, journal: Path) -> None:
    def interrupted() -> Iterator[Any]:
        for number, row in enumerate(source(server)):
            if number == 10:
                # All that was given has ended, so that nothing is left but what the source did not come to give.
                until(lambda: server.counts["requests"] == 10 and server.counts["in_flight"] == 0)
                raise KeyboardInterrupt
            yield row

    with pytest.raises(loamy.BatchInterrupted):
        list(loamy.stream(interrupted(), journal=journal))
    responses = list(loamy.stream(source(server), journal=journal, order="given"))
    assert [response.index for response in responses] == list(range(ROWS))
    assert all(methods.get("POST", 0) <= 1 for methods in visits(server).values()) and len(visits(server)) == ROWS


def test_h5_a_stream_that_is_watched_and_left_goes_on_with_the_next_run(server: TestServer, journal: Path) -> None:
    import loamy.otel

    loamy.otel.instrument()
    try:
        for _ in loamy.stream(source(server), journal=journal, window=3):
            until(lambda: server.counts["requests"] == 3 and server.counts["in_flight"] == 0)
            time.sleep(ON_RECORD_S)
            break
        responses = list(loamy.stream(source(server), journal=journal, order="given"))
    finally:
        loamy.otel.uninstrument()
    assert [response.index for response in responses] == list(range(ROWS)) and responses[0].replayed
    assert all(methods.get("POST", 0) <= 1 for methods in visits(server).values())
