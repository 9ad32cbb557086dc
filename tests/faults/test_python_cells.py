"""The cells of `cells.toml` that only exist in Python: each must end as the list says, for a GET, a POST and a keyed POST."""

from __future__ import annotations

import asyncio
import copy
import datetime
import importlib.metadata
import json
import os
import pickle
import signal
import socket
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loamy
import loamy.errors
import loamy.session
import pytest
from cells import (
    CALL_S,
    CELLS,
    CHECKS,
    COLUMNS,
    GRACE_S,
    LINGER_S,
    PROCESS_S,
    RUNNABLE,
    Cell,
    among,
    check,
    other_interpreter,
    scripted,
    served,
    table,
)
from loamy.testing import serve
from zconcurrent import zsession

LEAVES_WITHIN_S = 0.2
"""How soon an interrupt leaves the call."""
LOADED_S = 0.3
"""What a loaded machine may add to that."""

_ran: set[str] = set()


@pytest.mark.parametrize("cell", RUNNABLE, ids=str)
def test_a_python_cell_ends_as_the_list_says(cell: Cell, testkit_program: Path) -> None:
    began = time.monotonic()
    CHECKS[cell.check](cell, testkit_program)
    assert time.monotonic() - began < PROCESS_S + CALL_S
    _ran.add(str(cell))


def test_every_python_cell_ran(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    own = [
        item
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_a_python_cell_ends_as_the_list_says"
    ]
    chosen = {str(item.callspec.params["cell"]) for item in own}  # type: ignore[attr-defined]
    with capsys.disabled():
        print(
            f"\nfaults: {len(_ran)} Python cells ran, {len(CELLS) - len(RUNNABLE)} are not applicable, of {len(CELLS)}"
        )
    assert chosen == _ran, "a cell failed, and was named above"
    if not request.config.option.keyword and "::" not in " ".join(request.config.args):
        assert _ran == {str(cell) for cell in RUNNABLE}


def test_the_list_says_how_many_cells_it_has_over_each_transport(capsys: pytest.CaptureFixture[str]) -> None:
    listed = table()
    over: Counter[str] = Counter()
    for case in listed["case"]:
        over.update(dict.fromkeys(case.get("over", ["plain"]), len(COLUMNS)))
    assert listed["over"] == over
    assert listed["count"] == over.total()
    assert all("over" not in case for case in listed["case"] if case["runner"] == "python")
    with capsys.disabled():
        print(f"\nfaults: {listed['count']} cells, {', '.join(f'{count} over {name}' for name, count in over.items())}")


def test_every_cell_has_a_check_and_every_check_a_cell() -> None:
    assert {cell.check for cell in CELLS if cell.na is None} == set(CHECKS)
    assert all(cell.na is None or cell.na.strip() for cell in CELLS)


# --- A


@check("empty list")
def _empty_list(cell: Cell, _program: Path) -> None:
    began = time.monotonic()
    empty = loamy.send([])
    assert type(empty) is loamy.Responses and empty == []
    assert list(loamy.stream([])) == []
    assert list(loamy.stream(iter(()), order="given")) == []
    assert asyncio.run(loamy.send_async([])) == []
    assert loamy.session.Clump(requests=[]).send_requests() == []
    assert zsession.zSession(requestMaps=[]).sendRequests() == zsession.RequestResults([], [])
    assert time.monotonic() - began < GRACE_S


SURROGATE = "a\ud800b"


def _bad_row(name: str, cell: Cell, url: str) -> Any:
    rows: dict[str, Callable[[], Any]] = {
        "surrogate in the header value": lambda: cell.row(url, headers={"X-Row": SURROGATE}),
        "surrogate in the header name": lambda: cell.row(url, headers={SURROGATE: "v"}),
        "surrogate in the url": lambda: cell.row(url + SURROGATE),
        "surrogate in the text body": lambda: cell.row(url, json=None, data=SURROGATE),
        "url int": lambda: cell.row(5),
        "url None": lambda: cell.row(None),
        "url bytes": lambda: cell.row(url.encode()),
        "url missing": lambda: {"method": cell.method},
        "method int": lambda: cell.row(url, method=5),
        "method None in a pair": lambda: (None, url),
        "header value int": lambda: cell.row(url, headers={"X-Row": 5}),
        "header value None": lambda: cell.row(url, headers={"X-Row": None}),
        "header value list": lambda: cell.row(url, headers={"X-Row": ["a"]}),
        "header name int": lambda: cell.row(url, headers={5: "a"}),
        "headers int": lambda: cell.row(url, headers=5),
        "headers str": lambda: cell.row(url, headers="X-Row: a"),
        "body of a wrong type": lambda: cell.row(url, json=None, content=5),
        "timeout word": lambda: cell.row(url, timeout="soon"),
        "max_redirects word": lambda: cell.row(url, max_redirects="few"),
        "raw_url word": lambda: cell.row(url, raw_url="yes"),
        "unknown key": lambda: cell.row(url, haeders={}),
        "a pair of three": lambda: (cell.method, url, "x"),
        "an empty pair": tuple,
        "None": lambda: None,
        "an int": lambda: 5,
        "bytes": url.encode,
        "an object": object,
        "a list of one": lambda: [url],
    }
    return rows[name]()


@check("bad row")
def _bad_row_is_its_own_outcome(cell: Cell, _program: Path) -> None:
    with serve() as server:
        response = among(
            cell, server.url("/anything/good"), _bad_row(cell.given["row"], cell, server.url("/anything/bad"))
        )
        cell.judge(response.error, response)
        assert isinstance(response.error, loamy.InvalidRequest) and isinstance(response.error, ValueError)
        assert response.status_code == 0 and response.content == b""
        assert [request.target for request in server.requests] == ["/anything/good"] * 2


@check("header on the wire")
def _header_on_the_wire(cell: Cell, _program: Path) -> None:
    given: dict[str, tuple[Any, list[tuple[str, str]]]] = {
        "text": ({"X-Row": "ü€ 漢"}, [("X-Row", "ü€ 漢".encode().decode("latin-1"))]),
        "pairs": (
            [("X-A", "1"), ("x-a", "2"), ("X-B", "3"), ("X-A", "4")],
            [("X-A", "1"), ("x-a", "2"), ("X-B", "3"), ("X-A", "4")],
        ),
        "spellings": ({"X-A": "1", "X-B": "2", "x-a": "3"}, [("X-B", "2"), ("x-a", "3")]),
    }
    headers, wire = given[cell.given["headers"]]
    own = list(headers.items()) if isinstance(headers, dict) else headers
    key = list(cell.headers.items())
    with served(cell) as server:
        [response] = loamy.send(
            [cell.row(server.url("/anything"), headers=dict(own + key) if isinstance(headers, dict) else own + key)]
        )
        assert response.ok, response.error
        [request] = server.requests
        names = {name.lower() for name, _ in wire}
        assert [pair for pair in request.headers if pair[0].lower() in names] == wire


def _body(name: str) -> Any:
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    round_list: list[Any] = []
    round_list.append(round_list)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    shallow: list[Any] = []
    for _ in range(100):
        shallow = [shallow]
    return {
        "NaN": {"a": float("nan")},
        "infinity": {"a": [float("-inf")]},
        "bytes": {"a": b"b"},
        "a cycle": cycle,
        "a cycle of lists": {"a": round_list},
        "a set": {"a": {1}},
        "a date": {"a": datetime.date(2026, 1, 1)},
        "10,000 deep": {"a": deep},
        "an integer of 5,000 digits": {"a": 10**5000},
        "a key that is a tuple": {(1, 2): 3},
        "2 to the power of 64": {"a": 2**64, "b": -(2**70)},
        "a lone surrogate": {"a": SURROGATE},
        "a float": {"a": 0.1, "b": 1e300, "c": -0.0, "d": 5e-324},
        "non-ASCII text": {"ü": "漢 \x00 \x7f \U0001f600"},
        "100 deep": {"a": shallow},
        "keys that are no strings": {1: 2, None: 3, False: 4, 0.5: 5},
    }[name]


@check("bad body")
def _bad_body_is_its_own_outcome(cell: Cell, _program: Path) -> None:
    body = _body(cell.given["body"])
    with serve() as server:
        good, bad = server.url("/anything/good"), server.url("/anything/bad")
        response = among(cell, good, cell.row(bad, json=body))
        cell.judge(response.error, response)
        expected = 2
        # The documented class drops the body of a GET unread (K16), so there is nothing wrong with such a row.
        if cell.column != "get":
            first, failed, last = loamy.session.Clump(
                requests=[cell.map(good), cell.map(bad, body=body), cell.map(good)]
            ).send_requests()
            assert first.status_code == last.status_code == 200
            assert failed.status_code == 0
            cell.judge(failed.error)
            expected = 4
        assert [request.target for request in server.requests] == ["/anything/good"] * expected


@check("body on the wire")
def _body_on_the_wire(cell: Cell, _program: Path) -> None:
    body = _body(cell.given["body"])
    with served(cell) as server:
        [response] = loamy.send([cell.row(server.url("/anything"), json=body)])
        assert response.ok, response.error
        assert server.requests[0].body == json.dumps(body).encode()


@check("bad map")
def _bad_map_is_its_own_outcome(cell: Cell, _program: Path) -> None:
    changed: dict[str, dict[str, Any]] = {
        "url int": {"url": 5},
        "url None": {"url": None},
        "header value int": {"headers": {"X-Row": 5}},
        "headers int": {"headers": 5},
        "body list of bytes": {"body": [b"a"], "http_op": "POST"},
        "query_params int": {"query_params": 5},
        "method lower-case": {"http_op": cell.method.lower()},
        "method unknown": {"http_op": "BREW"},
        "method int": {"http_op": 5},
    }
    with serve() as server:
        url = server.url("/anything/bad")
        bad = cell.map(**({"url": url} | changed[cell.given["row"]]))
        good = cell.map(server.url("/anything/good"))
        first, failed, last = loamy.session.Clump(requests=[good, bad, good]).send_requests()
        assert first.status_code == last.status_code == 200
        assert failed.request_map is bad and failed.status_code == 0 and failed.body is None
        cell.judge(failed.error, failed)
        assert [request.target for request in server.requests] == ["/anything/good"] * 2


@check("same object twice")
def _same_object_twice(cell: Cell, _program: Path) -> None:
    with served(cell) as server:
        row = cell.row(server.url("/anything"), tag="both")
        one, two = loamy.send([row, row])
        assert one is not two and one.ok and two.ok
        assert (one.index, two.index) == (0, 1)
        assert one.request is row and two.request is row
        assert one.tag == two.tag == "both"


class _Broken(Exception):
    """What a generator of these cells raises."""


def _rows_then_broken(cell: Cell, url: str) -> Iterator[dict[str, Any]]:
    for _ in range(5):
        yield cell.row(url)
    raise _Broken


@check("generator raises in stream")
def _generator_raises_in_stream(cell: Cell, _program: Path) -> None:
    with served(cell) as server:
        done = []
        with pytest.raises(_Broken):
            for response in loamy.stream(
                _rows_then_broken(cell, server.url("/anything")), order="given", concurrency=1
            ):
                done.append(response)
        assert [response.index for response in done] == [0, 1, 2, 3, 4]
        assert all(response.ok for response in done)


@check("generator raises in send")
def _generator_raises_in_send(cell: Cell, _program: Path) -> None:
    with served(cell) as server, pytest.raises(_Broken):
        loamy.send(_rows_then_broken(cell, server.url("/anything")))


# --- E18


def _bytes(escaped: str) -> bytes:
    """The bytes of a text of the scripted server."""
    return escaped.encode("latin-1").decode("unicode_escape").encode("latin-1")


@check("json answer")
def _json_answer(cell: Cell, program: Path) -> None:
    given = cell.given
    media, status = given["type"], given["status"]
    if "deep" in given:
        content = b"[" * given["deep"] + b"]" * given["deep"]
        sending = [f"repeat {given['deep']} [", f"repeat {given['deep']} ]"]
    else:
        content = _bytes(given["body"])
        sending = [f"send {given['body']}"]
    head = f"HTTP/1.1 {status} Scripted\\r\\n"
    if media:
        head += f"Content-Type: {media}\\r\\n"
    if status != 204:
        head += f"Content-Length: {len(content)}\\r\\n"
    with scripted(cell, program, ["read", f"send {head}\\r\\n", *sending, "again"]) as url:
        [response] = loamy.send([cell.row(url + "/row")])
    # Whatever becomes of the decoding, the answer stands whole.
    assert response.error is None
    assert (response.status_code, response.content) == (status, content)
    assert response.ok is (status < 400)
    assert response.headers.get("content-type", "") == media
    if "value" in given:
        assert _same(response.json(), json.loads(given["value"]))
    else:
        with pytest.raises(loamy.JSONDecodeError) as raised:
            response.json()
        assert {json.JSONDecodeError, ValueError} <= set(type(raised.value).__mro__)

    again = Cell(**{**cell.__dict__, "seen": 2})
    with scripted(again, program, ["read", f"send {head}\\r\\n", *sending, "again"]) as url:
        [made] = loamy.session.Clump(requests=[cell.map(url + "/row")]).send_requests()
        older = zsession.zSession(requestMaps=[cell.older_map(url + "/row")]).sendRequests(return_exceptions=True)
    assert made.headers is not None and made.headers.get("content-type", "") == media
    assert (made.status_code, made.content) == (status, content)
    if given["clump"] == "text":
        assert made.body == {"text": response.text}
        assert isinstance(made.error, loamy.JSONDecodeError) and made.error.kind == "not_json"
        assert older.requestResponses == [] and isinstance(older.taskExceptions[0], loamy.JSONDecodeError)
        return
    value = json.loads(given["value"]) if given["clump"] == "value" else None
    assert made.error is None and _same(made.body, value)
    assert older.taskExceptions == [] and _same(older.requestResponses[0].body, value)


def _same(one: Any, other: Any) -> bool:
    """Equal, NaN included."""
    return type(one) is type(other) and repr(one) == repr(other)


# --- C13, E20


@check("restart")
def _restart(cell: Cell, program: Path) -> None:
    """Nobody listens when the call begins; the server comes while it goes on."""
    down_s, count = 0.7, 20
    with socket.socket() as kept:
        # Bound and never listening: the port refuses until the server takes it, and nobody else is given it.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        rows = [cell.row(f"http://127.0.0.1:{port}/anything/{n}") for n in range(count)]
        responses: list[Any] = []
        call = threading.Thread(target=lambda: responses.extend(loamy.send(rows, retries=9, backoff=(0.04, 20.0))))
        call.start()
        time.sleep(down_s)
        assert call.is_alive(), responses
        with scripted(cell, program, {"port": port, "steps": ["read", "serve", "again"]}):
            call.join(PROCESS_S)
    assert [response.index for response in responses] == list(range(count))
    assert all(response.ok for response in responses), responses
    refused = [kind for response in responses for kind in response.earlier]
    assert set(refused) == {"connect.refused"}
    assert len(refused) < count, "one row asks for all"


@check("retry after")
def _retry_after(cell: Cell, _program: Path) -> None:
    status, asked_s = cell.given["status"], 1.0
    with served(cell) as server:
        row = cell.row(server.url(f"/flaky/a?status={status}&retry_after=1"))
        [response] = loamy.send([row], retries=1, backoff=(0.01, 0.02))
        arrived = [seen.arrived for seen in server.requests]
    assert response.attempts == cell.attempts
    if cell.attempts == 1:
        assert (response.status_code, response.earlier) == (status, ())
    else:
        assert response.ok and response.earlier == (f"status {status}",)
        assert arrived[1] - arrived[0] >= asked_s


# --- P1, P2


class _Signalled(Exception):
    """What a signal handler of these cells raises."""


def _send_by(door: str, cell: Cell, urls: list[str], **policy: Any) -> list[Any]:
    plan = loamy.Policy(timeout=PROCESS_S, **policy)
    rows = [cell.row(url, timeout=None) for url in urls]
    if door == "send":
        return loamy.send(rows, policy=plan)
    if door == "stream":
        return list(loamy.stream(rows, order="given", policy=plan))
    if door == "clump":
        return loamy.session.Clump(requests=[cell.map(url) for url in urls], policy=plan).send_requests()
    assert door == "zsession", door
    maps = [cell.older_map(url) for url in urls]
    return zsession.zSession(requestMaps=maps, policy=plan).sendRequests(return_exceptions=True).requestResponses


@check("interrupt")
def _interrupt(cell: Cell, _program: Path) -> None:
    raises: dict[str, type[BaseException]] = {
        "KeyboardInterrupt": KeyboardInterrupt,
        "own": _Signalled,
        "SystemExit": SystemExit,
    }
    raised = raises[cell.given["raises"]]
    sent: list[float] = []

    def handler(_number: int, _frame: object) -> None:
        raise raised

    with serve() as server:
        # The first answers, the second hangs on the only slot, the third waits for it.
        urls = [server.url("/anything"), server.url("/hang"), server.url("/anything")]

        def interrupt() -> None:
            until = time.monotonic() + CALL_S
            while server.counts["in_flight"] != 1 or server.counts["requests"] != 2:
                assert time.monotonic() < until
                time.sleep(0.01)
            time.sleep(LINGER_S)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler if raised is KeyboardInterrupt else handler)
        thread = threading.Thread(target=interrupt)
        try:
            thread.start()
            with pytest.raises(raised) as caught:
                _send_by(cell.given["door"], cell, urls, concurrency=1)
            left = time.monotonic() - sent[0]
        finally:
            thread.join()
            signal.signal(signal.SIGINT, before)
        assert left < LEAVES_WITHIN_S + LOADED_S
        seen = server.counts
        time.sleep(3 * LINGER_S)
        later = server.counts
        assert later["requests"] == cell.seen
        assert later["bytes_received"] == seen["bytes_received"], "a byte was written after the raise"

    stop = caught.value
    if raised is not KeyboardInterrupt:
        assert type(stop) is raised
        return
    assert isinstance(stop, loamy.BatchInterrupted)
    responses = list(stop.responses)
    if cell.given["door"] == "stream":
        # The first one was yielded before.
        assert [response.index for response in responses][-2:] == [1, 2]
    else:
        assert len(responses) == 3
    cut, waiting = (getattr(response, "error", response) for response in responses[-2:])
    cell.judge(cut)
    assert isinstance(waiting, loamy.NotSent) and not waiting.in_doubt


@check("inside a running loop")
def _inside_a_running_loop(cell: Cell, _program: Path) -> None:
    with served(cell) as server:
        urls = [server.url("/anything")] * 3

        async def main() -> list[Any]:
            if cell.given["door"] == "send_async":
                ticks = 0
                task = asyncio.create_task(loamy.send_async([cell.row(url) for url in urls]))
                while not task.done():
                    ticks += 1
                    await asyncio.sleep(0)
                assert ticks > 1, "the loop was held up"
                return list(await task)
            return _send_by(cell.given["door"], cell, urls)

        if cell.given["loop"] == "uvloop":
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        else:
            loop = asyncio.new_event_loop()
        try:
            responses = loop.run_until_complete(main())
        finally:
            loop.close()
        assert len(responses) == 3
        for response in responses:
            assert getattr(response, "error", None) is None
            assert getattr(response, "statusCode", None) or response.status_code == 200


# --- P3 to P5

FORK = """
import json, multiprocessing, os, sys, threading, time
import loamy
how, row, slow = map(json.loads, sys.argv[1:])

def sent(row):
    [response] = loamy.send([row])
    return response.ok

def in_a_child():
    child = os.fork()
    if child == 0:
        os._exit(0 if sent(row) else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

if how == "os.fork":
    assert sent(row)
    assert in_a_child()
elif how == "os.fork during a call":
    ended = []
    call = threading.Thread(target=lambda: ended.append(sent(slow)))
    call.start()
    time.sleep(UNDER_WAY_S)
    assert in_a_child()
    call.join()
    assert ended == [True]
else:
    assert sent(row)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(sent, [row]) == [True]
        pool.close()
        pool.join()
assert sent(row)
"""


@check("fork after use")
def _fork_after_use(cell: Cell, _program: Path) -> None:
    with served(cell) as server:
        other_interpreter(
            FORK, cell.given["how"], cell.row(server.url("/anything")), cell.row(server.url("/delay/0.5"))
        )


@check("threads at once")
def _threads_at_once(cell: Cell, _program: Path) -> None:
    callers, rows = 32, 10
    wrong: list[str] = []
    ready = threading.Barrier(callers)
    with served(cell) as server:

        def call(number: int) -> None:
            ready.wait()
            urls = [server.url(f"/anything/{number}/{row}") for row in range(rows)]
            responses = _send_by(cell.given["door"], cell, urls)
            for url, response in zip(urls, responses, strict=True):
                answered = response.json() if hasattr(response, "json") else response.body
                if response.error is not None or answered["url"] != url:
                    wrong.append(f"{url}: {response!r}")

        threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PROCESS_S)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []


SUBINTERPRETER = """
import json, os, sys
import loamy
[row] = map(json.loads, sys.argv[1:])
inner = '''
import os
try:
    import loamy
except ImportError as refused:
    os.write(1, b"refused: " + str(refused).encode())
else:
    os.write(1, b"imported")
'''
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
other = interpreters.create()
run = interpreters.exec if hasattr(interpreters, "exec") else interpreters.run_string
run(other, inner)
interpreters.destroy(other)
[response] = loamy.send([row])
assert response.ok
"""


@check("subinterpreter")
def _subinterpreter(cell: Cell, _program: Path) -> None:
    with served(cell) as server:
        done = other_interpreter(SUBINTERPRETER, cell.row(server.url("/anything")))
        assert done.stdout.startswith("refused: "), done.stdout
        assert "interpreter" in done.stdout


# --- P6


def _round_trips(value: Any) -> list[Any]:
    pickled = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return [*pickled, copy.copy(value), copy.deepcopy(value)]


def _response_fields(response: Any) -> tuple[Any, ...]:
    names = "index tag request method ok status_code headers content url http_version redirects elapsed attempts kind"
    return (*(getattr(response, name) for name in names.split()), _error_fields(response.error))


def _error_fields(error: Any) -> Any:
    if error is None:
        return None
    names = "kind in_doubt retryable attempts bytes_sent bytes_received hint host port errno"
    partial = getattr(error, "response", None)
    received = None if partial is None else (partial.status_code, partial.content, dict(partial.headers))
    return (type(error), str(error), error.args, *(getattr(error, name, None) for name in names.split()), received)


def _struct_fields(struct: Any) -> tuple[Any, ...]:
    values = {name: getattr(struct, name) for name in struct.__struct_fields__ if name != "error"}
    return (type(struct), values, _error_fields(getattr(struct, "error", None)))


@check("round trip")
def _round_trip(cell: Cell, program: Path) -> None:
    what = cell.given["what"]
    cut = "send HTTP/1.1 200 OK\\r\\nX-A: 1\\r\\nContent-Length: 9\\r\\n\\r\\nhello"
    with serve() as server, scripted(cell, program, ["read", cut, "close"]) as broken:
        fine, failing = server.url("/anything?q=1"), broken + "/row"
        values: list[Any]
        fields: Callable[[Any], Any]
        if what in ("response", "error response"):
            url = fine if what == "response" else failing
            values, fields = list(loamy.send([cell.row(url, tag={"n": 1})])), _response_fields
            assert (values[0].error is None) is (what == "response")
        elif what == "Responses":
            values = [loamy.send([cell.row(fine), cell.row(failing)])]

            def fields(responses: Any) -> Any:
                return type(responses), repr(responses), [_response_fields(response) for response in responses]

        elif what == "RequestMap":
            values, fields = [cell.map(fine, query_params={"a": "b"})], _struct_fields
        elif what in ("RequestResponse", "RequestResponse with error"):
            url = fine if what == "RequestResponse" else failing
            values, fields = list(loamy.session.Clump(requests=[cell.map(url)]).send_requests()), _struct_fields
            assert (values[0].error is None) is (what == "RequestResponse")
        elif what == "exception":
            values, fields = [loamy.send([cell.row(failing)])[0].error], _error_fields
            assert values[0].kind == "incomplete" and values[0].response.content == b"hello"
        elif what == "every exception class":
            classes = [getattr(loamy.errors, name) for name in loamy.errors.__all__]
            classes = [known for known in classes if issubclass(known, loamy.LoamyError)]
            assert len(classes) > 20
            values, fields = [known("it went wrong", hint="try again") for known in classes], _error_fields
            for value in values:
                value.attempts, value.in_doubt = 3, True
        elif what == "BatchInterrupted":
            values = [loamy.BatchInterrupted(list(loamy.send([cell.row(fine), cell.row(failing)])))]

            def fields(stop: Any) -> Any:
                return type(stop), str(stop), [_response_fields(response) for response in stop.responses]

        else:
            assert what == "zConcurrent", what
            maps = [cell.older_map(fine), cell.older_map(failing)]
            values = [zsession.zSession(requestMaps=maps).sendRequests(return_exceptions=True)]

            def fields(results: Any) -> Any:
                answered = [_struct_fields(response) for response in results.requestResponses]
                return type(results), answered, [_error_fields(error) for error in results.taskExceptions]

        assert values
        for value in values:
            for own in _round_trips(value):
                assert fields(own) == fields(value)


# --- P7

ENDINGS = {
    "daemon thread in flight": """
        threading.Thread(target=lambda: loamy.send([hang]), daemon=True).start()
        time.sleep(UNDER_WAY_S)
    """,
    "stream left open": """
        left = loamy.stream((row for _ in itertools.count()), concurrency=4)
        assert next(left).ok
        threads = [loamy.stream([hang, hang]) for _ in range(2)]
    """,
    "send_async left alone": """
        loop = asyncio.new_event_loop()
        task = loop.create_task(loamy.send_async([hang]))
        loop.run_until_complete(asyncio.sleep(UNDER_WAY_S))
        task.cancel()
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            print("cancelled")
        loop.close()
    """,
    "progress raises": """
        class Own(Exception):
            pass
        def progress(_):
            raise Own
        try:
            loamy.send([row, hang], progress=progress)
        except Own:
            pass
        else:
            raise SystemExit("the callback's exception was lost")
    """,
    "a cycle through a row": """
        for _ in range(50):
            own = dict(row)
            [response] = loamy.send([own])
            own["response"] = response
            del own, response
            gc.collect()
    """,
    "a cycle through a tag": """
        for _ in range(50):
            tag = []
            [response] = loamy.send([dict(row, tag=tag)])
            assert response.tag is tag
            tag.append(response)
            del tag, response
            gc.collect()
    """,
    "a row whose method raises": """
        class Row:
            http_op = row["method"]
            headers = body = query_params = None
            @property
            def url(self):
                raise RuntimeError("no url today")
        good, bad = loamy.send([row, Row()])
        assert good.ok and bad.kind == "bad_request", bad.error
    """,
}


@check("end of the interpreter")
def _end_of_the_interpreter(cell: Cell, _program: Path) -> None:
    begin = "import asyncio, gc, itertools, json, sys, threading, time\nimport loamy\nrow, hang = map(json.loads, sys.argv[1:])\n"
    end = "[last] = loamy.send([row])\nassert last.ok\n"
    script = begin + textwrap.dedent(ENDINGS[cell.given["what"]]) + end
    with serve() as server:
        hang = cell.row(server.url("/hang"), timeout=PROCESS_S * 2)
        other_interpreter(script, cell.row(server.url("/anything")), hang)
        assert server.counts["requests"] >= 1


# --- P9


def _refused() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/row"


@check("return_exceptions")
def _return_exceptions(cell: Cell, _program: Path) -> None:
    url = _refused()
    with served(cell):
        if cell.given["door"] == "clump":
            for value in (False, True):
                [response] = loamy.session.Clump(requests=[cell.map(url)]).send_requests(return_exceptions=value)
                assert response.status_code == 0 and response.body is None and response.headers is None
                cell.judge(response.error)
            return
        maps = [cell.older_map(url), cell.older_map(url)]
        with pytest.raises(loamy.ConnectError) as raised:
            zsession.zSession(requestMaps=maps).sendRequests(return_exceptions=False)
        assert raised.value.request_map is maps[0]
        cell.judge(raised.value)
        results = zsession.zSession(requestMaps=maps).sendRequests(return_exceptions=True)
        assert results.requestResponses == []
        assert [error.request_map for error in results.taskExceptions] == maps
        for error in results.taskExceptions:
            assert isinstance(error, ConnectionError) and isinstance(error, OSError)
            cell.judge(error)


@check("status of an error")
def _status_of_an_error(cell: Cell, program: Path) -> None:
    with scripted(cell, program, ["read", "close"]) as url:
        [response] = loamy.session.Clump(requests=[cell.map(url + "/row")]).send_requests()
    assert response.status_code == 0
    cell.judge(response.error)
    assert isinstance(response.error, loamy.ConnectionClosed)


SILENCE = """
import json, logging, sys
import loamy
from loamy.session import Clump, RequestMap
[fields] = map(json.loads, sys.argv[1:])
[response] = Clump(requests=[RequestMap(**fields)]).send_requests()
assert response.error.kind == "connect.refused", response
assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("loamy").handlers)
assert logging.getLogger().handlers == []
"""


@check("silence")
def _silence(cell: Cell, _program: Path) -> None:
    body = None if cell.column == "get" else {"x": 1}
    with served(cell):
        done = other_interpreter(
            SILENCE, {"url": _refused(), "http_op": cell.method, "body": body, "headers": cell.headers}
        )
        assert done.stdout == ""


@check("extra uvloop")
def _extra_uvloop(_cell: Cell, _program: Path) -> None:
    for distribution in ("loamy", "zconcurrent"):
        required = importlib.metadata.requires(distribution) or []
        wanted = [text for text in required if text.startswith("uvloop")]
        assert len(wanted) == 1, required
        assert "uvloop" in wanted[0] and "extra ==" in wanted[0] and "Windows" in wanted[0]
