"""What a stream holds does not grow with the rows that have passed through it (fault H3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loamy
import pytest

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
