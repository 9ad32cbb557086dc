"""What a stream holds does not grow with the rows that have passed through it (fault H3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loamy
import pytest

FEW = 20_000
MANY = 200_000
BODY = 2000
"""Bytes of each answer: those of the many rows are 400 MB, and hold what is measured to account if they are kept."""
WINDOW = 256
SLOWER_S = 0.01
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

    url, window, pause, journals = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    counts = [int(count) for count in sys.argv[5:]]

    def peak():
        # Not ru_maxrss: that begins with what the parent had when it started this process.
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))

    def consume(count):
        pulled = ahead = ok = 0

        def rows():
            nonlocal pulled
            for _ in range(count):
                pulled += 1
                yield url

        more = {"journal": f"{journals}/{count}.loamy"} if journals else {}
        for number, response in enumerate(loamy.stream(rows(), window=window, **more)):
            ahead = max(ahead, pulled - number)
            ok += response.ok and not response.replayed
            if number % window == 0:
                time.sleep(pause)
        return {"ok": ok, "ahead": ahead, "peak": peak()}

    print(json.dumps([consume(count) for count in counts]))
"""


@pytest.mark.parametrize("kept", ["nothing", "a journal"])
def test_h3_a_stream_whose_consumer_is_slow_needs_no_more_memory_for_ten_times_the_rows(
    child: Callable[..., Any], tmp_path: Path, kept: str
) -> None:
    journals = tmp_path if kept == "a journal" else ""
    with loamy.testing.serve(keep_log=False) as server:
        running = child(CONSUMER, server.url(f"/bytes/{BODY}"), WINDOW, SLOWER_S, journals, FEW, MANY)
        code, said, text = running.end(LIMIT_S)
        assert code == 0, text
        counts = server.counts
    few, many = json.loads(said)
    assert (few["ok"], many["ok"], counts["requests"]) == (FEW, MANY, FEW + MANY)
    assert many["ahead"] <= WINDOW and counts["max_in_flight"] <= WINDOW
    grown = (many["peak"] - few["peak"]) / 1024
    assert grown <= GROWS_AT_MOST_MIB, f"{grown:.0f} MiB more for {MANY - FEW} rows, of {many['peak'] / 1024:.0f}"
