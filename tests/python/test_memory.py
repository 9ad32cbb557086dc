"""What a stream holds does not grow with the rows that have passed through it, and a list that cannot fit is refused (fault H3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loamy
import loamy.session
import loamy.testing
import pytest
from loamy import _memory
from zconcurrent import zsession

FEW = 10_000
MANY = 100_000
BODY = 2000
"""Bytes of each answer: those of the many rows are 200 MB, and hold what is measured to account if they are kept."""
WINDOW = 256
SLOWER_S = 0.02
"""How long the consumer pauses after as many rows as the window has: the server answers more in that time."""
GROWS_AT_MOST_MIB = 32
"""What the allocator may scatter over ten times as many rows."""
LIMIT_S = 240.0
"""How long a child may take, on a machine that does other things and without optimisation."""

CONSUMER = """
    import json
    import sys
    import time
    import loamy

    url, journal = sys.argv[1:3]
    few, many, window = map(int, sys.argv[3:6])
    pause = float(sys.argv[6])

    def peak():
        # Not ru_maxrss: that begins with what the parent had when it started this process.
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))

    def consume():
        pulled = ahead = early = sent = replayed = 0

        def rows():
            nonlocal pulled
            for _ in range(many):
                pulled += 1
                yield url

        for number, response in enumerate(loamy.stream(rows(), window=window, journal=journal or None)):
            ahead = max(ahead, pulled - number)
            sent += response.ok and not response.replayed
            replayed += response.ok and response.replayed
            if number == few:
                early = peak()
            if number % window == 0 and not response.replayed:
                time.sleep(pause)
        return {"sent": sent, "replayed": replayed, "ahead": ahead, "early": early, "late": peak()}

    print(json.dumps([consume() for _ in range(2 if journal else 1)]))
"""


@pytest.mark.parametrize("kept", ["nothing", "a journal"])
def test_h3_a_stream_whose_consumer_is_slow_needs_no_more_memory_for_ten_times_the_rows(
    child: Callable[..., Any], tmp_path: Path, kept: str
) -> None:
    journal = tmp_path / "run.loamy" if kept == "a journal" else ""
    with loamy.testing.serve(keep_log=False) as server:
        running = child(CONSUMER, server.url(f"/bytes/{BODY}"), journal, FEW, MANY, WINDOW, SLOWER_S)
        code, said, text = running.end(LIMIT_S)
        assert code == 0, text
        counts = server.counts
    first, *again = json.loads(said)
    assert (first["sent"], counts["requests"]) == (MANY, MANY)
    assert first["ahead"] <= WINDOW and counts["max_in_flight"] <= WINDOW
    # With a journal the same call once more yields what is on record, and needs no more for it.
    assert [one["replayed"] for one in again] == ([MANY] if journal else [])
    for one in (first, *again):
        grown = (one["late"] - first["early"]) / 1024
        assert grown <= GROWS_AT_MOST_MIB, f"{grown:.0f} MiB more for {MANY - FEW} rows, of {one['late'] / 1024:.0f}"


LIMIT_MIB = 768
"""What a child may have: the interpreter and the threads of the engine take a third of it."""

OUTCOMES: dict[str, type[Any]] = {
    "send": loamy.Response,
    "Clump": loamy.session.RequestResponse,
    "zSession": zsession.RequestResponse,
}

LIMITED = """
    import asyncio
    import itertools
    import json
    import resource
    import sys

    url, door, kind = sys.argv[1:4]
    limit, rows = map(int, sys.argv[4:6])
    resource.setrlimit(getattr(resource, kind), (limit, limit))

    import loamy
    from loamy.session import Clump
    from zconcurrent.zsession import zSession

    drawn = itertools.count()
    endless = (url for _ in drawn)
    many = [url] * rows
    told = None
    try:
        if door == "send":
            loamy.send(many)
        elif door == "send an iterator":
            loamy.send(endless)
        elif door == "send a tuple":
            loamy.send(tuple(many))
        elif door == "send_async":
            asyncio.run(loamy.send_async(many))
        elif door == "Clump":
            Clump(many).send_requests()
        elif door == "zSession":
            zSession(many).sendRequests()
    except loamy.TooManyRows as error:
        assert isinstance(error, MemoryError)
        told = {"text": str(error), "rows": error.rows, "needed": error.needed, "limit": error.limit}
    del many
    def resident():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    early = None
    for number, response in enumerate(loamy.stream(itertools.repeat(url, 20_000))):
        assert response.ok
        if number == 2_000:
            early = resident()
    print(json.dumps({"told": told, "drawn": next(drawn), "grown": resident() - early}))
"""


@pytest.mark.parametrize(
    ("door", "kind"),
    [
        ("send", "RLIMIT_DATA"),
        ("send", "RLIMIT_AS"),
        ("send an iterator", "RLIMIT_DATA"),
        ("send a tuple", "RLIMIT_DATA"),
        ("send_async", "RLIMIT_DATA"),
        ("Clump", "RLIMIT_DATA"),
        ("zSession", "RLIMIT_DATA"),
    ],
)
def test_h3_a_list_whose_outcomes_cannot_fit_is_refused_with_an_estimate_and_a_stream_of_it_goes_through(
    child: Callable[..., Any], door: str, kind: str
) -> None:
    limit = LIMIT_MIB << 20
    # One more than could ever fit.
    rows = limit // _memory.least(OUTCOMES.get(door, loamy.Response)) + 1
    with loamy.testing.serve(keep_log=False) as server:
        code, said, text = child(LIMITED, server.url("/json"), door, kind, limit, rows).end(LIMIT_S)
        assert code == 0, text
        # Those of the stream: none of the list.
        assert server.counts["requests"] == 20_000
    child_said = json.loads(said)
    told = child_said["told"]
    assert told["limit"] == limit < told["needed"]
    first, hint = told["text"].split("\n")
    assert first == (
        f"what comes of {told['rows']:,} rows takes {told['needed'] / 1e9:.2f} GB at the least, "
        f"and this process can have {told['limit'] / 1e9:.2f} GB"
    )
    assert hint == "hint: loamy.stream(rows) holds only what is under way, however many rows there are"
    assert told["rows"] == rows
    # An iterator is asked for no more rows than it takes to know.
    assert child_said["drawn"] == (rows if door == "send an iterator" else 0)
    assert child_said["grown"] / 1024 <= GROWS_AT_MOST_MIB


def test_h3_only_what_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 1_000_000
    for outcome in (loamy.Response, loamy.session.RequestResponse):
        needed = rows * _memory.least(outcome)
        monkeypatch.setattr(_memory, "memory_limit", lambda limit=needed: limit)
        _memory.check_room(rows, outcome)
        with pytest.raises(loamy.TooManyRows):
            _memory.check_room(rows + 1, outcome)
        monkeypatch.setattr(_memory, "memory_limit", lambda: None)
        _memory.check_room(rows * 1_000_000, outcome)


MEASURED = """
    import json
    import sys
    import loamy
    from loamy.session import Clump, RequestMap
    from zconcurrent import zsession

    def peak():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024

    url, door, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    def call(count):
        if door == "Clump":
            return Clump([RequestMap(url, "GET")] * count).send_requests()
        if door == "zSession":
            return zsession.zSession([zsession.RequestMap(url, "GET")] * count).sendRequests(return_exceptions=True)
        return loamy.send([url] * count)
    call(1000)
    before = peak()
    kept = call(rows)
    print(json.dumps((peak() - before) / rows))
"""


@pytest.mark.parametrize("door", ["send", "Clump", "zSession"])
@pytest.mark.parametrize("path", ["/status/204", "not a URL"])
def test_h3_what_is_reckoned_for_an_outcome_is_less_than_the_smallest_takes(
    child: Callable[..., Any], door: str, path: str
) -> None:
    with loamy.testing.serve(keep_log=False) as server:
        url = server.url(path) if path.startswith("/") else path
        code, said, text = child(MEASURED, url, door, MANY).end(LIMIT_S)
    assert code == 0, text
    assert json.loads(said) > _memory.least(OUTCOMES[door])
