#!/usr/bin/env python3
"""A minute of a server that answers everything with 503: how much it is sent, and whether another host notices.

    python3 benches/overloaded.py          wants an environment with loamy; ends with 1 when a bound is broken

What the scheduler does in an hour of this is simulated; here it is run for real, once, for a minute.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

import loamy
from loamy import testing

SECONDS = 60
ROWS_A_SECOND = 50
PROBE = 200
"""Rows for the other host, sent before and meanwhile."""
SLOWED = 3.0
"""How much longer the other host's rows may take meanwhile, a busy machine included."""


def main() -> int:
    """Send, count, judge."""
    rows = SECONDS * ROWS_A_SECOND
    with testing.serve(keep_log=False) as overloaded, testing.serve(keep_log=False) as well:
        probe = [well.url("/json")] * PROBE
        timed(probe)  # threads and connections are made
        alone = statistics.median(timed(probe) for _ in range(9))
        beside: list[float] = []

        def go_on_probing() -> None:
            while time.monotonic() < began + SECONDS:
                beside.append(timed(probe))
                time.sleep(1)

        other = threading.Thread(target=go_on_probing)
        began = time.monotonic()
        other.start()
        mixed = [overloaded.url("/status/503")] * rows
        outcome = loamy.send(mixed, retries=8, rate=f"{ROWS_A_SECOND}/s", concurrency=50)
        took = time.monotonic() - began
        other.join()
        sent, most = overloaded.counts["requests"], rows * 6 // 5 + 10
    slowed = statistics.median(beside) / alone
    print(f"{rows} rows in {took:.0f} s: {sent} requests, {most} allowed; ", end="")
    print(f"the other host took {slowed:.2f} times as long")
    held = rows < sent <= most and took >= SECONDS * 0.9 and slowed <= SLOWED
    return 0 if held and all(response.status_code == 503 for response in outcome) else 1


def timed(rows: list[str]) -> float:
    """Seconds that the rows take."""
    began = time.monotonic()
    loamy.send(rows).raise_for_failures()
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
