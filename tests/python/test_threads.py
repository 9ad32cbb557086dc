"""Many callers at once, and what is left behind when they are gone: nothing."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import loamy
import pytest
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from waiting import until
from zconcurrent import zsession


def engine_threads() -> int:
    """Count the threads of this process, those that Python knows nothing of included."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_thirty_two_callers_at_once_each_get_their_own(server: TestServer) -> None:
    ready = threading.Barrier(32)

    def caller(own: int) -> list[str]:
        url = server.url("/anything")
        numbers = [f"{own}-{n}" for n in range(100)]
        ready.wait()
        if own % 4 == 0:
            answers = loamy.send([{"url": url, "params": {"n": number}} for number in numbers])
            return [response.json()["args"]["n"] for response in answers]
        if own % 4 == 1:
            stream = loamy.stream(({"url": url, "params": {"n": number}} for number in numbers), order="given")
            return [response.json()["args"]["n"] for response in stream]
        if own % 4 == 2:
            clump = Clump([RequestMap(url, "GET", query_params={"n": number}) for number in numbers])
            return [response.body["args"]["n"] for response in clump.send_requests()]
        session = zsession.zSession([zsession.RequestMap(url, "GET", queryParams={"n": number}) for number in numbers])
        return [response.body["args"]["n"] for response in session.sendRequests().requestResponses]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(caller, range(32)))
    assert answers == [[f"{own}-{n}" for n in range(100)] for own in range(32)]
    assert server.counts["requests"] == 3200


def test_other_threads_run_while_a_call_waits(server: TestServer) -> None:
    turns = 0
    stop = threading.Event()

    def work() -> None:
        nonlocal turns
        while not stop.wait(0.005):
            turns += 1

    worker = threading.Thread(target=work)
    worker.start()
    loamy.send([server.url("/delay/0.5")])
    stop.set()
    worker.join()
    assert turns >= 20


def test_a_call_that_waits_does_not_hold_up_another(server: TestServer) -> None:
    slow = threading.Thread(target=loamy.send, args=([server.url("/delay/1.5")] * 3,))
    slow.start()
    until(lambda: server.counts["in_flight"] == 3)
    began = time.monotonic()
    loamy.send([server.url("/json")] * 10).raise_for_failures()
    assert time.monotonic() - began < 1.0 and slow.is_alive()
    slow.join()


def test_many_batches_leak_no_descriptors_and_no_threads(server: TestServer, refused_port: int) -> None:
    rows: list[Any] = [server.url("/json")] * 5
    rows += [f"http://127.0.0.1:{refused_port}/", server.url("/reset"), server.url("/close"), "no scheme"]
    rows += [{"url": server.url("/hang"), "timeout": 0.02}]
    for _ in range(5):
        loamy.send(rows)
    before = (descriptors(), engine_threads())
    for _ in range(60):
        loamy.send(rows)
        next(loamy.stream(rows))
        Clump([RequestMap(server.url("/json"), "GET")]).send_requests()
    gc.collect()
    until(lambda: descriptors() <= before[0] + 12)
    assert engine_threads() <= before[1] + 1


def test_connections_that_are_not_needed_are_closed_on_leaving_a_batch(server: TestServer) -> None:
    before = descriptors()
    loamy.send([server.url("/delay/0.1")] * 100)
    assert server.counts["max_open"] <= 100
    server.stop()
    until(lambda: descriptors() <= before + 5)


def test_reference_cycles_through_rows_and_responses_are_collected(server: TestServer) -> None:
    class Row(dict[str, Any]):
        """A dict that can be watched."""

    def cycle() -> weakref.ref[Row]:
        row = Row(url=server.url("/json"), tag=[])
        row["tag"].append(row)
        [response] = loamy.send([row])
        assert response.ok and response.tag is row["tag"]
        return weakref.ref(row)

    gone = cycle()
    gc.collect()
    assert gone() is None


def test_a_list_that_another_thread_changes_meanwhile_harms_nobody(server: TestServer) -> None:
    rows: list[Any] = [server.url("/json")] * 20_000
    changing = threading.Thread(target=lambda: rows.__delitem__(slice(5000, None)))
    seen: list[int] = []

    def progress(now: loamy.Progress) -> None:
        seen.append(now.done)

    changing.start()
    try:
        responses = loamy.send(rows, progress=progress)
    except RuntimeError as error:
        assert str(error) == "the list of rows became shorter while it was being sent"
    else:
        assert all(response.ok for response in responses)
    changing.join()
    assert loamy.send([server.url("/json")])[0].ok


def test_an_exception_of_the_progress_function_ends_the_call_as_itself(server: TestServer) -> None:
    def progress(now: loamy.Progress) -> None:
        raise LookupError("no display")

    began = time.monotonic()
    with pytest.raises(LookupError, match="no display"):
        loamy.send([server.url("/hang")] * 10, concurrency=2, progress=progress)
    assert time.monotonic() - began < 2
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] == 2
    assert loamy.send([server.url("/json")])[0].ok


def test_the_garbage_collector_is_left_as_it_was(server: TestServer) -> None:
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: loamy.send([server.url("/json")] * 200), range(8)))
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_a_call_from_a_finaliser_and_from_a_callback_goes_through(server: TestServer) -> None:
    answers: list[bool] = []

    class Last:
        def __del__(self) -> None:
            answers.append(loamy.send([server.url("/json")])[0].ok)

    def progress(now: loamy.Progress) -> None:
        answers.append(loamy.send([server.url("/json")])[0].ok)

    last = Last()
    del last
    gc.collect()
    loamy.send([server.url("/delay/0.25")], progress=progress)
    assert len(answers) >= 2 and all(answers)
