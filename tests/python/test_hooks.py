"""`on_response=`: each finished response, as it ends, in the caller's own thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import loamy
import pytest
import uvloop
from loamy.testing import TestServer
from waiting import WATCHED_S, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]

AT_ONCE_S = 1.0
"""How soon a call that was broken off is over, on a loaded machine."""


class Broken(Exception):
    """What a hook of a test raises."""


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop of its own."""
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield loop.run_until_complete
    loop.close()


def test_send_calls_it_on_its_own_thread_in_the_order_in_which_rows_end(server: TestServer) -> None:
    rows = [server.url(f"/delay/{seconds}") for seconds in (0.6, 0.3, 0.01)] + ["no scheme"]
    heard: list[loamy.Response] = []
    threads: set[int] = set()
    when: list[float] = []
    began = time.monotonic()

    def hear(response: loamy.Response) -> None:
        heard.append(response)
        threads.add(threading.get_ident())
        when.append(time.monotonic() - began)

    responses = loamy.send(rows, on_response=hear)
    assert [response.index for response in heard] == [3, 2, 1, 0]
    assert all(response is responses[response.index] for response in heard), "the very objects that come back"
    assert threads == {threading.get_ident()}
    assert when[1] < 0.3 <= when[2] < 0.6 <= when[3], "each as it ends, not all at the end"


def test_each_row_is_heard_of_once_however_many_there_are(server: TestServer) -> None:
    rows = [server.url(f"/anything?n={n}") for n in range(10_000)]
    heard: list[int] = []
    loamy.send(rows, on_response=lambda response: heard.append(response.index))
    assert sorted(heard) == list(range(10_000)) and server.counts["requests"] == 10_000
    streamed: list[int] = []
    yielded = [one.index for one in loamy.stream(rows[:2000], on_response=lambda one: streamed.append(one.index))]
    assert streamed == yielded and sorted(streamed) == list(range(2000))


def test_a_stream_tells_of_a_response_before_it_is_yielded_and_in_the_order_of_the_ends(server: TestServer) -> None:
    rows = [server.url(f"/delay/{seconds}") for seconds in (0.3, 0.01)]
    heard: list[int] = []
    yielded = []
    for response in loamy.stream(rows, order="given", on_response=lambda one: heard.append(one.index)):
        assert response.index in heard
        yielded.append(response.index)
    assert (heard, yielded) == ([1, 0], [0, 1])


def test_the_asynchronous_door_calls_it_in_the_event_loop(server: TestServer, run: Run) -> None:
    heard: list[int] = []

    async def main() -> loamy.Responses:
        loop = asyncio.get_running_loop()

        def hear(response: loamy.Response) -> None:
            assert asyncio.get_running_loop() is loop
            heard.append(response.index)

        rows = [server.url(f"/delay/{seconds}") for seconds in (0.4, 0.2, 0.01)] * 20
        return await loamy.send_async(rows, concurrency=60, on_response=hear)

    responses = run(main())
    assert len(responses) == 60 and sorted(heard) == list(range(60)), "all before the call returns"
    assert [index % 3 for index in heard] == [2] * 20 + [1] * 20 + [0] * 20


@pytest.mark.parametrize("error", [Broken("enough"), StopIteration("odd"), SystemExit(3), MemoryError()])
def test_an_exception_in_it_cancels_the_call_and_is_raised_as_it_is(server: TestServer, error: BaseException) -> None:
    heard: list[int] = []

    def hear(response: loamy.Response) -> None:
        heard.append(response.index)
        raise error

    rows = [server.url("/json")] + [server.url("/hang")] * 3 + [server.url("/json?late")] * 100
    began = time.monotonic()
    with pytest.raises(type(error)) as raised:
        loamy.send(rows, concurrency=4, on_response=hear)
    assert raised.value is error and time.monotonic() - began < AT_ONCE_S
    assert heard == [0], "nothing is called any more"
    until(lambda: server.counts["in_flight"] == 0)
    before = server.counts["bytes_received"]
    time.sleep(WATCHED_S)
    assert server.counts["bytes_received"] == before, "and nothing is written"


def test_ctrl_c_in_it_is_ctrl_c(server: TestServer) -> None:
    def hear(response: loamy.Response) -> None:
        raise KeyboardInterrupt

    rows = [server.url("/json")] + [server.url("/hang")] * 5
    with pytest.raises(loamy.BatchInterrupted) as raised:
        loamy.send(rows, concurrency=6, on_response=hear)
    assert [response.ok for response in raised.value.responses] == [True] + [False] * 5


def test_an_exception_in_it_ends_a_stream(server: TestServer) -> None:
    def hear(response: loamy.Response) -> None:
        raise Broken

    rows = [server.url("/json")] + [server.url("/hang")] * 50
    with pytest.raises(Broken):
        list(loamy.stream(rows, concurrency=4, on_response=hear))
    until(lambda: server.counts["in_flight"] == 0)
    assert server.counts["requests"] <= 5


@pytest.mark.parametrize("error", [Broken("enough"), StopIteration("odd")])
def test_an_exception_in_it_ends_the_asynchronous_call(server: TestServer, run: Run, error: Exception) -> None:
    heard: list[int] = []

    def hear(response: loamy.Response) -> None:
        heard.append(response.index)
        raise error

    async def main() -> str:
        try:
            await loamy.send_async([server.url("/json")] * 3 + [server.url("/hang")] * 20, on_response=hear)
        except type(error) as raised:
            assert raised is error
            return "raised"
        except RuntimeError as raised:  # what Python makes of a StopIteration out of a coroutine
            assert raised.__cause__ is error
            return "raised"
        return "returned"

    assert run(main()) == "raised"
    until(lambda: server.counts["in_flight"] == 0)
    assert len(heard) == 1


async def coroutine(response: loamy.Response) -> None:
    raise AssertionError("nobody awaits it")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (7, "on_response must be a function, not int"),
        ("print", "on_response must be a function, not str"),
        (coroutine, "on_response must be a plain function: nobody awaits what a coroutine function returns"),
    ],
)
def test_what_cannot_be_called_raises_at_once(server: TestServer, run: Run, hook: Any, message: str) -> None:
    for call in (
        lambda: loamy.send([server.url("/json")], on_response=hook),
        lambda: loamy.stream([server.url("/json")], on_response=hook),
        lambda: run(loamy.send_async([server.url("/json")], on_response=hook)),
    ):
        with pytest.raises(TypeError, match=f"^{message}$"):
            call()
    assert server.requests == []


def test_what_a_journal_has_is_told_like_the_rest(server: TestServer, tmp_path: Path) -> None:
    journal = tmp_path / "run.loamy"
    rows = [server.url("/flaky/a?status=close"), *(server.url(f"/json?n={n}") for n in range(5))]
    heard: list[loamy.Response] = []
    for run in range(2):
        loamy.send(rows, journal=journal, on_response=heard.append)
        assert sorted(response.index for response in heard) == list(range(6))
        assert {response.replayed for response in heard} == {run == 1}
        heard.clear()
    fresh: list[int] = []
    yielded = [
        response.index
        for response in loamy.stream(
            rows, journal=journal, retry_failed=True, replay=False, on_response=lambda one: fresh.append(one.index)
        )
    ]
    assert fresh == yielded == [0], "where what is done is not yielded, it is not told either"
    assert len(server.requests) == 7


def test_a_hook_may_make_calls_of_its_own(server: TestServer) -> None:
    inner: list[bool] = []
    loamy.send(
        [server.url("/json")] * 5,
        on_response=lambda response: inner.append(loamy.send([server.url("/get")])[0].ok),
    )
    assert inner == [True] * 5 and len(server.requests) == 10


def test_the_collector_runs_while_it_is_called(server: TestServer) -> None:
    import gc

    enabled: set[bool] = set()
    loamy.send([server.url("/json")] * 50, on_response=lambda response: enabled.add(gc.isenabled()))
    assert enabled == {True}


@pytest.mark.parametrize("order", ["done", "given"])
def test_p1_ctrl_c_in_it_loses_no_response_of_a_stream(server: TestServer, order: Any) -> None:
    # What ends while the hook takes its time comes as one slice; it is broken off in the midst of one.
    rows = [server.url(f"/json?n={n}") for n in range(60)]
    heard: list[int] = []
    yielded: list[int] = []

    def hear(response: loamy.Response) -> None:
        heard.append(response.index)
        time.sleep(0.002)
        if len(heard) == 31:
            raise KeyboardInterrupt

    with pytest.raises(loamy.BatchInterrupted) as raised:
        for response in loamy.stream(rows, order=order, on_response=hear):
            yielded.append(response.index)
    left = {response.index: response for response in raised.value.responses}
    assert len(left) == len(raised.value.responses) and not set(left) & set(yielded), "none is there twice"
    assert sorted([*left, *yielded]) == list(range(60)), "and none is missing"
    assert all(left[index].ok for index in set(heard) - set(yielded)), "what was told has its answer"
    until(lambda: server.counts["in_flight"] == 0)
    answered = [response for response in left.values() if response.ok]
    assert len(answered) + len(yielded) <= len(server.requests) <= 60


def test_p1_what_a_stream_left_is_sent_again_as_the_stream_was(server: TestServer) -> None:
    def hear(response: loamy.Response) -> None:
        raise KeyboardInterrupt

    rows = [server.url("/status/503")] * 2
    with pytest.raises(loamy.BatchInterrupted) as raised:
        list(loamy.stream(rows, on_response=hear, headers={"X-Own": "kept"}))
    left = raised.value.responses
    assert isinstance(left, loamy.Responses)
    before = len(server.requests)
    left.resend()
    again = server.requests[before:]
    assert again and all(seen.header("x-own") == "kept" for seen in again)


def test_rows_that_are_added_to_the_list_meanwhile_are_not_sent(server: TestServer) -> None:
    rows: list[Any] = []

    class Adding(dict[str, str]):
        def items(self) -> Any:
            rows.extend(("POST", server.url("/post")) for _ in range(50))
            time.sleep(0.02)  # the rows are read in slices of some milliseconds
            return super().items()

    rows.append({"url": server.url("/json"), "params": Adding(first="yes")})
    rows.extend([server.url("/json")] * 300)
    responses = loamy.send(rows)
    assert (len(rows), len(responses)) == (351, 301) and all(response.ok for response in responses)
    assert [seen.method for seen in server.requests] == ["GET"] * 301
