"""Ctrl-C at each moment at which Python could hear of it, one after the other (faults P1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

AT_ONCE_S = 0.2
"""How long a call may go on after a signal."""
SCHEDULING_S = 0.3
"""What a loaded machine may need on top."""

PRELUDE = """
    import json, os, sys, time
    import loamy, loamy.testing
    from loamy.session import Clump, RequestMap
    from zconcurrent import zsession

    OURS = (os.path.dirname(loamy.__file__) + os.sep, os.path.dirname(zsession.__file__) + os.sep)
    url = (server := loamy.testing.serve()).url("/json")
    loamy.send([url])

    def is_ours(frame):
        while frame is not None:
            if frame.f_code.co_filename.startswith(OURS):
                return True
            frame = frame.f_back
        return False

    def interrupt(moment, twice):
        \"\"\"Have Ctrl-C come at that moment, of all at which our code, or what it calls, could hear of a signal.\"\"\"
        passed = 0
        came.clear()
        def hear(frame, event, argument):
            # Python hears of signals where a function begins, and where one written in C has returned.
            nonlocal passed
            if event in ("call", "c_return") and is_ours(frame):
                passed += 1
                if passed == moment:
                    came.append(moment)
                    if twice:
                        passed = -(moment % 6)
                        sys.settrace(hear_again)
                    raise KeyboardInterrupt
        def hear_again(frame, event, argument):
            nonlocal passed
            if is_ours(frame):
                passed += 1
                if passed > 0:
                    raise KeyboardInterrupt
        sys.setprofile(hear)

    came = []
    def no_more():
        sys.setprofile(None)
        sys.settrace(None)
"""


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("order", ["done", "given"])
def test_p1_ctrl_c_at_any_moment_of_a_stream_loses_no_row_that_was_pulled(
    child: Callable[..., Any], order: str, twice: bool
) -> None:
    running = child(
        PRELUDE
        + """
    order, twice = sys.argv[1], sys.argv[2] == "True"
    slowest, whole, lost, moment = 0.0, 0, [], 0
    while True:
        moment += 1
        pulled, got, left = 0, [], []
        def source():
            global pulled
            for place in range(12):
                pulled += 1  # no call: once it counts, it is given
                yield {"url": url, "tag": place}
        stream = loamy.stream(source(), order=order, concurrency=3, window=6, on_response=lambda response: None)
        interrupt(moment, twice)
        began = time.monotonic()
        try:
            for response in stream:
                got.append(response.tag)
            no_more()
            if not came:
                break
        except KeyboardInterrupt as stop:
            no_more()
            slowest = max(slowest, time.monotonic() - began)
            if isinstance(stop, loamy.BatchInterrupted):
                whole += 1
                left = [response.tag for response in stop.responses]
        if sorted([*got, *left]) != list(range(pulled)):
            lost.append([moment, pulled, got, left])
    print(json.dumps({"whole": whole, "slowest": slowest, "lost": lost}))
    """,
        order,
        twice,
    )
    line = running.line()
    assert line, running.end()
    told = json.loads(line)
    assert not told["lost"]
    assert told["whole"] > 100
    assert told["slowest"] <= AT_ONCE_S + SCHEDULING_S


@pytest.mark.parametrize("door", ["send", "Clump", "zSession"])
def test_p1_ctrl_c_at_any_moment_of_a_call_that_sends_leaves_with_every_row(
    child: Callable[..., Any], door: str
) -> None:
    running = child(
        PRELUDE
        + """
    call = {
        "send": lambda: loamy.send([url] * 12),
        "Clump": lambda: Clump([RequestMap(url, "GET")] * 12).send_requests(),
        "zSession": lambda: zsession.zSession([zsession.RequestMap(url, "GET")] * 12).sendRequests(True),
    }[sys.argv[1]]
    rows, answered, lost, moment = [], [], [], 0
    while True:
        moment += 1
        before = server.counts["requests"]
        try:
            interrupt(moment, False)
            call()
            no_more()
            if not came:
                break
            continue
        except loamy.BatchInterrupted as stop:
            no_more()
            rows.append(len(stop.responses))
            answered.append(sum(200 in (getattr(made, "status_code", 0), getattr(made, "statusCode", 0))
                                for made in stop.responses))
        except KeyboardInterrupt:
            no_more()
            answered.append(0)
        if server.counts["requests"] - before != answered[-1]:
            lost.append([moment, server.counts["requests"] - before, answered[-1]])
    print(json.dumps({"rows": rows, "lost": lost, "whole": answered.count(12), "none": answered.count(0)}))
    """,
        door,
    )
    line = running.line()
    assert line, running.end()
    told = json.loads(line)
    assert not told["lost"]
    assert set(told["rows"]) == {12}
    assert told["whole"] > 1 and told["none"] > 1, "it came before anything was sent, and after everything was"
