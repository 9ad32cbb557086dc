"""What runs in a client's namespace: a job comes in as JSON, what came of each row goes out as JSON.

Run as a program of its own; it imports nothing of the tests.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import threading
import time


def main() -> None:
    job = json.load(sys.stdin)
    if job["descriptors"] is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (job["descriptors"], hard))

    import loamy

    if job["spare"] is not None or job["closed"]:
        # The threads of loamy take theirs first.
        loamy.send(["http://127.0.0.1:1/"])
    for descriptor in job["closed"]:
        os.close(descriptor)
    if job["spare"] is not None:
        taken = take_all()
        for _ in range(job["spare"]):
            os.close(taken.pop())
        if job["release_after"] is not None:
            threading.Timer(job["release_after"], give_back, [taken]).start()

    began = time.monotonic()
    ended = []
    for response in loamy.stream(job["rows"], order="done", **job["policy"]):
        error = response.error
        ended.append(
            {
                "index": response.index,
                "at": time.monotonic() - began,
                "ok": response.ok,
                "status": response.status_code,
                "version": response.http_version,
                "length": len(response.content),
                "text": response.text[:200],
                "attempts": response.attempts,
                "elapsed": response.elapsed,
                "kind": response.kind,
                "error": None if error is None else str(error),
                "in_doubt": bool(getattr(error, "in_doubt", False)),
                "retryable": bool(getattr(error, "retryable", False)),
                "bytes_sent": getattr(error, "bytes_sent", None),
            }
        )
    json.dump({"seconds": time.monotonic() - began, "ended": ended}, sys.stdout)


def give_back(taken: list[int]) -> None:
    for one in taken:
        os.close(one)


def take_all() -> list[int]:
    """Take every descriptor that is free."""
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            return taken


main()
