"""Ctrl-C and other signals leave a long call at once, with all that is known (faults P1)."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from loamy.testing import TestServer
from waiting import WATCHED_S, until

AT_ONCE_S = 0.2
"""How long a call may go on after a signal."""
SCHEDULING_S = 0.3
"""What a loaded machine may need on top to run the process at all, and to hand over many rows."""

PRELUDE = """
    import json, signal, sys, time
    import loamy
    from loamy.session import Clump, RequestMap
    from zconcurrent import zsession

    def tell(**told):
        print(json.dumps({"at": time.monotonic(), **told}), flush=True)

    class SoftTimeLimitExceeded(Exception):
        pass

    def time_is_up(number, frame):
        raise SoftTimeLimitExceeded("45 s")
"""


def interrupted(
    child: Callable[..., Any], server: TestServer, code: str, requests: int, number: int = signal.SIGINT
) -> dict[str, Any]:
    """Send the child a signal when the server has seen so many requests; return what it told, and how long it took to."""
    running = child(f"{PRELUDE}{code.rstrip()}\n    time.sleep({WATCHED_S})\n", server.url(""))
    until(lambda: server.counts["requests"] == requests)
    began = time.monotonic()
    os.kill(running.process.pid, number)
    line = running.line()
    assert line, running.end()
    told: dict[str, Any] = json.loads(line)
    # Both clocks are the machine's monotonic one.
    told["took"] = told["at"] - began
    told["bytes"] = server.counts["bytes_received"]
    exit_code, _, err = running.end()
    assert exit_code == 0, err
    until(lambda: server.counts["open"] == 0)
    assert server.counts["bytes_received"] == told["bytes"], "no byte is written after the raise"
    return told


def test_ctrl_c_leaves_send_at_once_with_every_response(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    url = sys.argv[1]
    rows = [url + "/json"] * 20 + [("POST", url + "/hang"), url + "/hang"] + [url + "/json?late"] * 500
    try:
        loamy.send(rows, concurrency=2)
    except KeyboardInterrupt as stop:
        assert type(stop) is loamy.BatchInterrupted and isinstance(stop.responses, loamy.Responses)
        assert [response.request for response in stop.responses] == rows
        assert [response.index for response in stop.responses] == list(range(len(rows)))
        tell(counts=stop.responses.counts(), text=str(stop), doubt=[r.error.in_doubt for r in stop.responses[20:22]],
             errors=[type(r.error).__name__ for r in stop.responses[20:23]])
    """,
        22,
    )
    assert told["counts"] == {"ok": 20, "not_sent": 500, "cancelled": 2}
    assert told["errors"] == ["Cancelled", "Cancelled", "NotSent"]
    assert told["doubt"] == [True, False]
    assert told["text"] == (
        "interrupted: 20 of 522 rows have their answer; every row is in the exception: "
        "`except loamy.BatchInterrupted as stop: stop.responses`, or `sys.last_value.responses` in a session"
    )
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
    assert server.counts["requests"] == 22


def test_ctrl_c_leaves_at_once_with_many_rows_unread(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    try:
        loamy.send([sys.argv[1] + "/hang"] * 50_000, concurrency=3)
    except loamy.BatchInterrupted as stop:
        tell(counts=stop.responses.counts())
    """,
        3,
    )
    assert told["counts"] == {"not_sent": 49_997, "cancelled": 3}
    assert told["took"] <= AT_ONCE_S + 2 * SCHEDULING_S
    assert server.counts["requests"] == 3


def test_what_was_not_sent_can_be_sent_afterwards(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    url = sys.argv[1]
    try:
        loamy.send([url + "/json", {"url": url + "/delay/1", "timeout": 20}, url + "/json?late"], concurrency=1)
    except loamy.BatchInterrupted as stop:
        before = stop.responses
    after = before.resend(follow_redirects=False)
    tell(before=before.counts(), after=after.counts(), kept=after[0] is before[0], index=[r.index for r in after])
    """,
        2,
    )
    assert told["before"] == {"ok": 1, "cancelled": 1, "not_sent": 1}
    assert (told["after"], told["kept"], told["index"]) == ({"ok": 3}, True, [0, 1, 2])


def test_an_exception_of_a_signal_handler_leaves_as_itself(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    signal.signal(signal.SIGUSR1, time_is_up)
    try:
        loamy.send([sys.argv[1] + "/hang"] * 10, concurrency=2)
    except SoftTimeLimitExceeded as error:
        tell(args=error.args, kind=type(error).__name__)
    """,
        2,
        signal.SIGUSR1,
    )
    assert (told["args"], told["kind"]) == (["45 s"], "SoftTimeLimitExceeded")
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
    assert server.counts["requests"] == 2


def test_an_exception_of_a_signal_handler_in_the_source_of_a_stream_leaves_as_itself(
    server: TestServer, child: Callable[..., Any]
) -> None:
    told = interrupted(
        child,
        server,
        """
    signal.signal(signal.SIGUSR1, time_is_up)
    def source():
        yield from [sys.argv[1] + "/hang"] * 2
        time.sleep(30)
    try:
        list(loamy.stream(source(), concurrency=4))
    except SoftTimeLimitExceeded as error:
        tell(args=error.args)
    """,
        2,
        signal.SIGUSR1,
    )
    assert told["args"] == ["45 s"]
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S


def test_a_class_of_the_callers_that_is_a_keyboard_interrupt_leaves_as_itself(
    server: TestServer, child: Callable[..., Any]
) -> None:
    told = interrupted(
        child,
        server,
        """
    class Own(KeyboardInterrupt):
        pass
    def handler(number, frame):
        raise Own()
    signal.signal(signal.SIGTERM, handler)
    try:
        loamy.send([sys.argv[1] + "/hang"])
    except BaseException as error:
        tell(kind=type(error).__name__)
    """,
        1,
        signal.SIGTERM,
    )
    assert told["kind"] == "Own"


def test_sys_exit_in_a_signal_handler_ends_the_process(server: TestServer, child: Callable[..., Any]) -> None:
    running = child(
        PRELUDE
        + """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(9))
    loamy.send([sys.argv[1] + "/hang"] * 5)
    """,
        server.url(""),
    )
    until(lambda: server.counts["in_flight"] == 5)
    began = time.monotonic()
    running.process.terminate()
    code, out, err = running.end()
    assert (code, out, err) == (9, "", "")
    assert time.monotonic() - began < 2


def test_a_signal_handler_that_returns_disturbs_nothing(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    caught = []
    signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
    responses = loamy.send([sys.argv[1] + "/delay/0.6"] * 2)
    tell(counts=responses.counts(), caught=len(caught))
    """,
        2,
        signal.SIGUSR1,
    )
    assert (told["counts"], told["caught"]) == ({"ok": 2}, 1)


def test_ctrl_c_during_a_resend_leaves_with_the_whole_list(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    url = sys.argv[1]
    rows = [url + "/json", url + "/count/a?fail=1", {"url": url + "/hang", "timeout": 0.1}, url + "/json"]
    before = loamy.send(rows, concurrency=1)
    rows[2]["timeout"] = 60
    try:
        before.resend(concurrency=1)
    except loamy.BatchInterrupted as stop:
        assert isinstance(stop.responses, loamy.Responses), type(stop.responses)
        tell(kinds=[r.kind for r in stop.responses], codes=[r.status_code for r in stop.responses],
             kept=stop.responses[0] is before[0])
    """,
        6,
    )
    assert told["kinds"] == [None, None, "cancelled", None], "those that were not sent again are part of everything"
    assert told["codes"] == [200, 200, 0, 200] and told["kept"]


def test_ctrl_c_in_the_midst_of_a_streams_source_loses_no_answer(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    url = sys.argv[1]
    got = []
    def rows():
        for _ in range(5):
            time.sleep(0.02)  # a slow source: each row goes out as it comes
            yield url + "/json"
        time.sleep(30)
    try:
        for response in loamy.stream(rows(), window=20):
            got.append(response.index)
    except loamy.BatchInterrupted as stop:
        tell(indexes=sorted([*got, *(r.index for r in stop.responses)]))
    """,
        5,
    )
    assert told["indexes"] == [0, 1, 2, 3, 4]
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S


@pytest.mark.parametrize("order", ["done", "given"])
def test_ctrl_c_leaves_a_stream_at_once_with_what_was_not_yet_yielded(
    server: TestServer, child: Callable[..., Any], order: str
) -> None:
    told = interrupted(
        child,
        server,
        f"""
    url = sys.argv[1]
    got = []
    try:
        for response in loamy.stream([url + "/json"] * 5 + [url + "/hang"] * 50, concurrency=2, order={order!r}):
            got.append(response)
    except loamy.BatchInterrupted as stop:
        assert isinstance(stop.responses, loamy.Responses)
        indexes = sorted(response.index for response in [*got, *stop.responses])
        tell(got=len(got), counts=stop.responses.counts(), once=indexes == list(range(len(indexes))))
    """,
        7,
    )
    assert told["once"], "yielded or in the exception, never both and never neither"
    assert told["got"] + told["counts"].pop("ok", 0) == 5
    assert told["counts"].pop("cancelled") == 2 and set(told["counts"]) <= {"not_sent"}
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
    assert server.counts["requests"] == 7


def test_ctrl_c_leaves_a_clump_at_once_with_every_response(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    url = sys.argv[1]
    maps = [RequestMap(url + "/json", "GET")] * 3 + [RequestMap(url + "/hang", "POST", {"a": 1})] * 200
    try:
        Clump(maps).send_requests()
    except loamy.BatchInterrupted as stop:
        errors = [getattr(response.error, "kind", None) for response in stop.responses]
        assert all(response.request_map is own for response, own in zip(stop.responses, maps))
        tell(kinds=[errors.count(kind) for kind in (None, "cancelled", "not_sent")], codes=sum(r.status_code for r in stop.responses),
             text=str(stop))
    """,
        103,
    )
    assert told["kinds"] == [3, 100, 100] and told["codes"] == 600
    assert told["text"].startswith("interrupted: 3 of 203 rows have their answer; ")
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
    assert server.counts["requests"] == 103


@pytest.mark.parametrize("collects", [True, False])
def test_ctrl_c_leaves_a_zsession_at_once_with_what_came_of_every_request(
    server: TestServer, child: Callable[..., Any], collects: bool
) -> None:
    told = interrupted(
        child,
        server,
        f"""
    url = sys.argv[1]
    maps = [zsession.RequestMap(url + "/json", "GET")] * 3 + [zsession.RequestMap(url + "/hang", "GET")] * 200
    try:
        zsession.zSession(maps).sendRequests(return_exceptions={collects})
    except loamy.BatchInterrupted as stop:
        kinds = [getattr(made, "kind", None) for made in stop.responses]
        rows = [getattr(made, "request_map", None) or made.requestMap for made in stop.responses]
        assert all(row is own for row, own in zip(rows, maps))
        tell(kinds=[kinds.count(kind) for kind in (None, "cancelled", "not_sent")], text=str(stop))
    """,
        103,
    )
    assert told["kinds"] == [3, 100, 100]
    assert told["text"].startswith("interrupted: 3 of 203 rows have their answer; every row is in the exception: ")
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
    assert server.counts["requests"] == 103


def test_ctrl_c_during_an_async_main_cancels_the_batch(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    import asyncio
    try:
        asyncio.run(loamy.send_async([sys.argv[1] + "/hang"] * 20, concurrency=2))
    except KeyboardInterrupt:
        tell()
    """,
        2,
    )
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
    assert server.counts["requests"] == 2


def test_an_interrupt_nobody_catches_ends_the_process_as_one(server: TestServer, child: Callable[..., Any]) -> None:
    running = child(PRELUDE + "    loamy.send([sys.argv[1]] * 3)\n", server.url("/hang"))
    until(lambda: server.counts["in_flight"] == 3)
    os.kill(running.process.pid, signal.SIGINT)
    code, out, err = running.end()
    assert code in (-signal.SIGINT, 130, 1) and out == ""
    assert "BatchInterrupted: interrupted: 0 of 3 rows have their answer" in err


MEANWHILE = """
    import faulthandler
    faulthandler.dump_traceback_later(40, exit=True)
    from loamy import errors

    def blow(original, times):
        \"\"\"Have a signal come while `original` runs: at its fifth call, and so many times in a row.\"\"\"
        calls = [0]
        def blown(*given):
            calls[0] += 1
            if 5 <= calls[0] < 5 + times:
                signal.raise_signal(signal.SIGINT)
            return original(*given)
        return blown
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("door", ["clump", "zsession"])
def test_ctrl_c_while_the_object_of_an_answer_is_made_loses_neither_the_row_nor_the_call(
    server: TestServer, child: Callable[..., Any], door: str, times: int
) -> None:
    running = child(
        PRELUDE
        + MEANWHILE
        + """
    url, door, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    errors.build_not_json = blow(errors.build_not_json, times)
    if door == "clump":
        maps = [RequestMap(url, "GET") for _ in range(3000)]
        go = Clump(maps).send_requests
    else:
        maps = [zsession.RequestMap(url, "GET") for _ in range(3000)]
        go = lambda: zsession.zSession(maps).sendRequests(return_exceptions=True)
    try:
        go()
    except loamy.BatchInterrupted as stop:
        errors = [made if isinstance(made, BaseException) else made.error for made in stop.responses]
        rows = [getattr(made, "request_map", None) for made in stop.responses]
        assert len(rows) == 3000 and all(row is own for row, own in zip(rows, maps))
        kinds = [error.kind for error in errors]
        strange = [error for error in errors if error.kind == "internal"]
        tell(kinds={kind: kinds.count(kind) for kind in kinds}, strange=[str(error) for error in strange],
             sent=sum(error.attempts for error in errors),
             codes=[getattr(made, "status_code", None) or made.response.status_code for made in stop.responses
                    if getattr(made, "error", made) in strange])
    """,
        server.url("/html"),
        door,
        times,
    )
    line = running.line()
    assert line, running.end()
    told = json.loads(line)
    assert running.end()[0] == 0
    assert set(told["kinds"]) <= {"not_json", "cancelled", "not_sent", "internal"} and told["kinds"]["not_json"] >= 6
    assert told["kinds"].get("internal", 0) == times - 1
    if times == 2:
        [text] = told["strange"]
        assert text.startswith("internal: ") and "KeyboardInterrupt" in text
        assert told["codes"] == [200], "the answer itself is there"
    until(lambda: server.counts["open"] == 0)
    seen = server.counts["requests"]
    assert told["kinds"]["not_json"] + told["kinds"].get("internal", 0) <= seen <= told["sent"]


@pytest.mark.parametrize("failing", ["html", "refused"])
def test_a_soft_time_limit_while_the_object_of_a_failure_is_made_leaves_as_itself(
    server: TestServer, child: Callable[..., Any], refused_port: int, failing: str
) -> None:
    running = child(
        PRELUDE
        + MEANWHILE
        + """
    signal.signal(signal.SIGINT, time_is_up)
    errors.build_not_json = blow(errors.build_not_json, 1)
    errors.build = blow(errors.build, 1)
    try:
        Clump([RequestMap(sys.argv[1], "GET") for _ in range(3000)]).send_requests()
    except SoftTimeLimitExceeded as error:
        tell(args=error.args)
    """,
        server.url("/html") if failing == "html" else f"http://127.0.0.1:{refused_port}/",
    )
    line = running.line()
    assert line, running.end()
    assert json.loads(line)["args"] == ["45 s"]
    assert running.end()[0] == 0
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] < 3000


@pytest.mark.parametrize("raised", ["SoftTimeLimitExceeded", "TimeoutError", "ValueError", "RuntimeError"])
@pytest.mark.parametrize("place", ["form", "json", "params", "property", "body"])
def test_what_a_signal_handler_raises_in_the_midst_of_a_row_is_not_that_rows_failure(
    server: TestServer, child: Callable[..., Any], place: str, raised: str
) -> None:
    running = child(
        PRELUDE
        + MEANWHILE
        + """
    url, place, raised = sys.argv[1:]
    own = {"SoftTimeLimitExceeded": SoftTimeLimitExceeded, "TimeoutError": TimeoutError, "ValueError": ValueError,
           "RuntimeError": RuntimeError}[raised]

    class Limit:
        def handle(self, number, frame):
            raise own("time is up")
    signal.signal(signal.SIGUSR1, Limit().handle)

    def blow(value):
        signal.raise_signal(signal.SIGUSR1)
        return value
    class Text:
        def __str__(self):
            return blow("x")
    class Map(dict):
        def items(self):
            return blow(dict.items(self))
    class Row:
        http_op, query_params, headers, body = "GET", None, None, None
        @property
        def url(self):
            return blow(sys.argv[1])
    row = {
        "form": {"url": url, "method": "POST", "data": {"a": Text()}},
        "json": {"url": url, "method": "POST", "json": Map(a=1)},
        "params": {"url": url, "params": Map(a="1")},
        "property": Row(),
        "body": url,
    }[place]
    try:
        if place == "body":
            from loamy import _bodies
            original = _bodies.loads_as_before
            _bodies.loads_as_before = lambda *given: original(*blow(given))
            Clump([url]).send_requests()
        else:
            loamy.send([url, row])
    except own as error:
        tell(args=error.args)
    else:
        tell(args="swallowed")
    """,
        server.url("/text"),
        place,
        raised,
    )
    line = running.line()
    assert line, running.end()
    assert json.loads(line)["args"] == ["time is up"]
    assert running.end()[0] == 0
    assert server.counts["requests"] == (1 if place == "body" else 0), "rows are read before the first of them goes out"


def test_rows_that_were_not_read_when_ctrl_c_came_have_their_tags(
    server: TestServer, child: Callable[..., Any]
) -> None:
    told = interrupted(
        child,
        server,
        """
    rows = [{"url": sys.argv[1] + "/hang", "tag": f"tag {number}"} for number in range(30_000)]
    try:
        loamy.send(rows, concurrency=3)
    except loamy.BatchInterrupted as stop:
        tell(tags=sum(response.tag == row["tag"] for response, row in zip(stop.responses, rows)))
    """,
        3,
    )
    assert told["tags"] == 30_000
    assert server.counts["requests"] == 3


def test_ctrl_c_leaves_a_zsession_at_once_with_many_rows_unread(server: TestServer, child: Callable[..., Any]) -> None:
    told = interrupted(
        child,
        server,
        """
    maps = [zsession.RequestMap(sys.argv[1] + f"/hang?{number}", "GET") for number in range(200_000)]
    try:
        zsession.zSession(maps, policy=loamy.Policy(concurrency=3)).sendRequests(return_exceptions=True)
    except loamy.BatchInterrupted as stop:
        tell()
        last = stop.responses[-1]
        assert all(error.request_map is own for error, own in zip(stop.responses, maps))
        assert (type(last), last.kind, last.retryable, last.attempts) == (loamy.NotSent, "not_sent", True, 0)
        assert "interrupted before this row's turn" in str(last)
        import copy, pickle
        assert pickle.loads(pickle.dumps(last)).request_map == maps[-1] and copy.copy(last).request_map is maps[-1]
        assert len({id(error) for error in stop.responses}) == len(maps), "each has an exception of its own"
    """,
        3,
    )
    assert told["took"] <= AT_ONCE_S + 2 * SCHEDULING_S
    assert server.counts["requests"] == 3


@pytest.mark.parametrize("way", ["in", "out"])
def test_p1_signals_are_heard_between_large_bodies(server: TestServer, child: Callable[..., Any], way: str) -> None:
    running = child(
        PRELUDE
        + """
    url, way = sys.argv[1:]
    longest, heard = 0.0, time.monotonic()
    def beat(number, frame):
        global longest, heard
        longest, heard = max(longest, time.monotonic() - heard), time.monotonic()
    def hold(progress, held=[]):
        # Meanwhile all answers arrive.
        if way == "out" and not held:
            held.append(time.sleep(1.5))
    if way == "in":
        maps = [RequestMap("no scheme", "POST", {"text": ["x" * 20] * 40_000})] * 60
    else:
        maps = [RequestMap(url + "/json/4000000", "GET")] * 50
    signal.signal(signal.SIGALRM, beat)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    made = Clump(maps).send_requests(progress=hold)
    signal.setitimer(signal.ITIMER_REAL, 0)
    tell(longest=longest, codes=sorted({one.status_code for one in made}))
    """,
        server.url(""),
        way,
    )
    line = running.line()
    assert line, running.end()
    told = json.loads(line)
    assert told["codes"] == ([0] if way == "in" else [200])
    assert told["longest"] <= AT_ONCE_S + SCHEDULING_S


@pytest.mark.parametrize("key", ["tag", "url", "method"])
def test_p1_ctrl_c_while_a_row_says_what_it_is_about_is_heard(
    server: TestServer, child: Callable[..., Any], key: str
) -> None:
    running = child(
        PRELUDE
        + """
    from collections import UserDict
    class Row(UserDict):
        def __contains__(self, asked):
            if asked == sys.argv[2]:
                signal.raise_signal(signal.SIGINT)
            return True
    try:
        loamy.send([Row(url=sys.argv[1], bogus=1, tag="t", method="GET"), sys.argv[1]])
    except loamy.BatchInterrupted as stop:
        tell(kinds=[response.kind for response in stop.responses])
    else:
        tell(kinds="swallowed")
    """,
        server.url("/json"),
        key,
    )
    line = running.line()
    assert line, running.end()
    assert json.loads(line)["kinds"] == ["not_sent", "not_sent"]
    assert server.counts["requests"] == 0


def test_p1_tags_of_rows_that_were_not_read_are_asked_for_again_where_a_signal_came_between(
    server: TestServer, child: Callable[..., Any]
) -> None:
    running = child(
        PRELUDE
        + """
    from collections import UserDict
    class Row(UserDict):
        asked = 0
        def __contains__(self, key):
            Row.asked += key == "tag"
            if key == "tag" and Row.asked == 2:
                sys.exit(9)
            return True
    def stop():
        raise KeyboardInterrupt
    class First:
        http_op = property(lambda self: stop())
    rows = [First(), *(Row(url=sys.argv[1], tag=place) for place in range(5))]
    try:
        loamy.send(rows)
    except SystemExit as error:
        tell(code=error.code, asked=Row.asked)
    """,
        server.url("/json"),
    )
    line = running.line()
    assert line, running.end()
    told = json.loads(line)
    assert (told["code"], told["asked"]) == (9, 6)


@pytest.mark.parametrize("form", ["deletes", "rebinds", "partial", "callable"])
def test_p1_a_signal_handler_is_known_whatever_it_does_with_its_arguments(
    server: TestServer, child: Callable[..., Any], form: str
) -> None:
    running = child(
        PRELUDE
        + """
    import functools
    from collections import UserDict
    class SoftTimeLimitExceeded(Exception):
        pass
    def deletes(signum, frame):
        del signum, frame
        raise SoftTimeLimitExceeded("45 s")
    def rebinds(signum, frame):
        signum = frame = None
        raise SoftTimeLimitExceeded("45 s")
    class Callable:
        def __call__(self, signum, frame):
            del self, signum, frame
            raise SoftTimeLimitExceeded("45 s")
    def deletes_as_well(own, signum, frame):
        del own, signum, frame
        raise SoftTimeLimitExceeded("45 s")
    handler = {
        "deletes": deletes, "rebinds": rebinds, "partial": functools.partial(deletes_as_well, None), "callable": Callable(),
    }[sys.argv[2]]
    signal.signal(signal.SIGUSR1, handler)
    class Row(UserDict):
        def __iter__(self):
            signal.raise_signal(signal.SIGUSR1)
            return super().__iter__()
    try:
        loamy.send([Row(url=sys.argv[1]), sys.argv[1]])
    except SoftTimeLimitExceeded as error:
        tell(args=error.args)
    else:
        tell(args="swallowed")
    """,
        server.url("/json"),
        form,
    )
    line = running.line()
    assert line, running.end()
    assert json.loads(line)["args"] == ["45 s"]
    assert server.counts["requests"] == 0


@pytest.mark.parametrize("door", ["send", "stream", "source"])
def test_p1_ctrl_c_in_a_call_within_a_call_leaves_with_the_rows_of_the_outer_one(
    server: TestServer, child: Callable[..., Any], door: str
) -> None:
    told = interrupted(
        child,
        server,
        f"""
    url, got = sys.argv[1], []
    def inner(response):
        if response.index == 0:
            loamy.send([url + "/hang"])
    rows = [url + "/json"] * 3 + [url + "/hang"] * 2
    def source():
        yield from rows
        loamy.send([url + "/hang"])
    calls = {{
        "send": lambda: loamy.send(rows, on_response=inner),
        "stream": lambda: got.extend(loamy.stream(rows, on_response=inner)),
        "source": lambda: got.extend(loamy.stream(source())),
    }}
    try:
        calls[{door!r}]()
    except loamy.BatchInterrupted as stop:
        tell(indexes=sorted(response.index for response in [*got, *stop.responses]),
             inner=len(stop.__cause__.responses))
        time.sleep(0.2)
    """,
        6,
    )
    assert (told["indexes"], told["inner"]) == ([0, 1, 2, 3, 4], 1)
    assert told["took"] <= AT_ONCE_S + SCHEDULING_S
