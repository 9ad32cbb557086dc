"""`send_async`, and the synchronous doors inside a running event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import loamy
import pytest
import uvloop
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from waiting import WATCHED_S, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop of its own."""
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    yield loop.run_until_complete
    loop.close()


def test_it_returns_the_same_as_send(server: TestServer, run: Run) -> None:
    rows: list[Any] = [server.url(f"/anything?n={n}") for n in range(200)] + ["no scheme", server.url("/status/404")]
    responses = run(loamy.send_async(rows, concurrency=20))
    assert isinstance(responses, loamy.Responses)
    assert [response.index for response in responses] == list(range(202))
    assert [response.json()["args"]["n"] for response in responses[:200]] == [str(n) for n in range(200)]
    assert [response.kind for response in responses[200:]] == ["bad_request", None]
    assert server.counts["max_in_flight"] <= 20
    assert run(loamy.send_async([])) == []


def test_the_loop_goes_on_meanwhile(server: TestServer, run: Run) -> None:
    async def main() -> int:
        sending = asyncio.ensure_future(loamy.send_async([server.url("/delay/0.4")]))
        turns = 0
        while not sending.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert sending.result()[0].ok
        return turns

    assert run(main()) >= 10


def test_fifty_at_once_each_get_their_own(server: TestServer, run: Run) -> None:
    async def one(caller: int) -> list[str]:
        rows = [server.url(f"/anything?n={caller}-{n}") for n in range(20)]
        return [response.json()["args"]["n"] for response in await loamy.send_async(rows)]

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(one(caller) for caller in range(50)))

    assert run(main()) == [[f"{caller}-{n}" for n in range(20)] for caller in range(50)]
    assert server.counts["requests"] == 1000


def test_cancelling_the_task_cancels_the_batch(server: TestServer, run: Run) -> None:
    async def main() -> None:
        sending = asyncio.ensure_future(loamy.send_async([server.url("/hang")] * 50, concurrency=4))
        while server.counts["in_flight"] < 4:
            await asyncio.sleep(0.005)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run(main())
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] == 4


def test_a_timeout_around_it_cancels_the_batch(server: TestServer, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loamy.send_async([server.url("/hang")]), 0.2)

    run(main())
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] == 1


def test_a_mistake_of_the_whole_call_raises_where_it_is_awaited(run: Run) -> None:
    with pytest.raises(TypeError, match=r"^send_async\(\) takes a list of rows, not str"):
        run(loamy.send_async("http://h/"))
    with pytest.raises(TypeError, match=r"^send_async\(\) has no keyword 'tmeout'; is it 'timeout'\?$"):
        run(loamy.send_async([], tmeout=1))  # type: ignore[call-arg]


def test_a_function_is_told_the_progress_on_a_thread_of_its_own(server: TestServer, run: Run) -> None:
    seen: list[tuple[loamy.Progress, int]] = []
    run(
        loamy.send_async(
            [server.url("/delay/0.25")] * 4, progress=lambda now: seen.append((now, threading.get_ident()))
        )
    )
    last, _ = seen[-1]
    assert len(seen) >= 3 and (last.done, last.total, last.in_flight) == (4, 4, 0)
    [thread] = {thread for _, thread in seen}
    assert thread != threading.get_ident()


def test_functions_are_called_in_the_context_of_the_caller(server: TestServer, run: Run) -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: dict[str, set[str]] = {"on_response": set(), "progress": set()}

    async def main() -> None:
        request.set("mine")
        await loamy.send_async(
            [server.url("/delay/0.25"), server.url("/json")],
            on_response=lambda response: seen["on_response"].add(request.get()),
            progress=lambda now: seen["progress"].add(request.get()),
        )

    run(main())
    assert seen == {"on_response": {"mine"}, "progress": {"mine"}}


def test_an_exception_of_the_progress_function_leaves_it_as_itself(server: TestServer, run: Run) -> None:
    def progress(now: loamy.Progress) -> None:
        raise LookupError("no display")

    with pytest.raises(LookupError, match="no display"):
        run(loamy.send_async([server.url("/delay/5")], progress=progress))


def test_any_exception_of_the_progress_function_ends_it(server: TestServer, run: Run) -> None:
    def progress(now: loamy.Progress) -> None:
        next(iter(()))

    async def main() -> None:
        await asyncio.wait_for(loamy.send_async([server.url("/delay/5")] * 3, progress=progress), 5)

    with pytest.raises(RuntimeError) as caught:  # what Python makes of a StopIteration out of a coroutine
        run(main())
    assert isinstance(caught.value.__cause__, StopIteration)
    until(lambda: server.counts["in_flight"] == 0)
    assert server.counts["requests"] == 3


@pytest.mark.parametrize("how", ["closed", "thrown away", "broken off"])
def test_p1_a_coroutine_that_is_left_sends_nothing_further(server: TestServer, how: str) -> None:
    async def main() -> int:
        coroutine = loamy.send_async([server.url("/delay/0.05")] * 200, concurrency=2)
        coroutine.send(None)
        while server.counts["requests"] < 4:
            await asyncio.sleep(0.005)
        if how == "closed":
            coroutine.close()
        elif how == "thrown away":
            del coroutine
        else:
            with pytest.raises(LookupError):
                coroutine.throw(LookupError("mine"))
        gc.collect()
        sent = server.counts["requests"]
        await asyncio.sleep(WATCHED_S)
        return server.counts["requests"] - sent

    assert asyncio.run(main()) == 0
    until(lambda: server.counts["in_flight"] == 0)
    assert server.counts["requests"] <= 40


@pytest.mark.parametrize("how", ["timeout", "hook", "progress"])
def test_h7_a_journal_is_free_for_the_next_call_when_one_was_broken_off(
    server: TestServer, run: Run, tmp_path: Path, how: str
) -> None:
    rows: list[Any] = [("POST", server.url(f"/count/{n}?takes=50ms")) for n in range(1000)]

    def after_ten(response: loamy.Response) -> None:
        if response.index >= 10:
            raise LookupError("enough")

    def at_once(now: loamy.Progress) -> None:
        raise LookupError("enough")

    async def once(journal: Path) -> None:
        if how == "timeout":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loamy.send_async(rows, journal=journal), 0.15)
        else:
            hook: Any = {"on_response": after_ten} if how == "hook" else {"progress": at_once}
            with pytest.raises(LookupError, match="enough"):
                await loamy.send_async(rows, journal=journal, **hook)
        again = await loamy.send_async(rows, journal=journal, deadline=0.2)
        assert len(again) == 1000

    for attempt in range(5):
        run(once(tmp_path / f"{attempt}.loamy"))
    until(lambda: server.counts["in_flight"] == 0)
    counts = loamy.send([server.url("/counts")])[0].json()
    assert counts and all(methods["POST"] <= 5 for methods in counts.values()), "once for each journal at most"


def test_a_loop_that_is_closed_meanwhile_harms_nobody(server: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    failed: list[Any] = []
    before, threading.excepthook = threading.excepthook, failed.append
    try:
        loop = asyncio.new_event_loop()
        sending = loop.create_task(loamy.send_async([server.url("/delay/0.3")]))
        loop.run_until_complete(asyncio.sleep(0))
        sending.cancel()
        loop.run_until_complete(asyncio.gather(sending, return_exceptions=True))
        loop.close()
        until(lambda: not [one for one in threading.enumerate() if one.name == "loamy.send_async"])
    finally:
        threading.excepthook = before
    assert failed == []


def test_its_threads_end_with_it(server: TestServer, run: Run) -> None:
    run(loamy.send_async([server.url("/json")] * 10))
    until(lambda: not [one for one in threading.enumerate() if one.name == "loamy.send_async"])


@pytest.mark.parametrize("door", ["send", "stream", "clump"])
def test_the_synchronous_doors_work_inside_a_running_loop(server: TestServer, run: Run, door: str) -> None:
    url = server.url("/json")

    async def main() -> list[int]:
        if door == "send":
            return [response.status_code for response in loamy.send([url] * 3)]
        if door == "stream":
            return [response.status_code for response in loamy.stream([url] * 3)]
        return [response.status_code for response in Clump([RequestMap(url, "GET")] * 3).send_requests()]

    assert run(main()) == [200, 200, 200]


def test_it_is_cancelled_quickly_with_many_rows_waiting(server: TestServer, run: Run) -> None:
    async def main() -> float:
        sending = asyncio.ensure_future(loamy.send_async([server.url("/hang")] * 50_000, concurrency=2))
        while server.counts["in_flight"] < 2:
            await asyncio.sleep(0.005)
        began = time.monotonic()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return time.monotonic() - began

    assert run(main()) < 1.0
    until(lambda: server.counts["open"] == 0)
