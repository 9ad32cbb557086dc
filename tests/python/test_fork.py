"""After a fork the child has an engine of its own, and the parent keeps its own (faults P3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from loamy.testing import TestServer

LIMIT_S = 30.0

FORK = """
    import os, sys, threading
    import loamy
    url = sys.argv[1]

    def good(count=20):
        responses = loamy.send([url] * count)
        assert all(response.ok for response in responses), repr(responses)

    def in_child(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
                os._exit(7)
            except BaseException as error:
                print("child:", repr(error), flush=True)
                os._exit(8)
        return pid

    def joined(pid):
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
"""


def ends_well(child: Callable[..., Any], code: str, *arguments: object) -> str:
    exit_code, out, err = child(code, *arguments).end(LIMIT_S)
    assert exit_code == 0, f"{out}\n{err}"
    return str(out)


def test_a_fork_after_use_works_in_child_and_parent(server: TestServer, child: Callable[..., Any]) -> None:
    code = (
        FORK
        + """
    good()
    pids = [in_child(good) for _ in range(4)]
    good()
    for pid in pids:
        joined(pid)
    good()
    print("done")
    """
    )
    assert ends_well(child, code, server.url("/json")) == "done\n"
    assert server.counts["requests"] == 20 * 7


def test_a_fork_before_first_use_works_in_child_and_parent(server: TestServer, child: Callable[..., Any]) -> None:
    code = (
        FORK
        + """
    pid = in_child(good)
    good()
    joined(pid)
    """
    )
    ends_well(child, code, server.url("/json"))
    assert server.counts["requests"] == 40


def test_a_child_forks_again(server: TestServer, child: Callable[..., Any]) -> None:
    code = (
        FORK
        + """
    good()
    def generation():
        good()
        joined(in_child(good))
        good()
    joined(in_child(generation))
    good()
    """
    )
    ends_well(child, code, server.url("/json"))
    assert server.counts["requests"] == 20 * 5


def test_a_fork_while_another_thread_is_sending_harms_neither(server: TestServer, child: Callable[..., Any]) -> None:
    code = (
        FORK
        + """
    import time
    good()
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            good(200)
    workers = [threading.Thread(target=busy) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(10):
        joined(in_child(good))
    stop.set()
    for worker in workers:
        worker.join()
    good()
    """
    )
    ends_well(child, code, server.url("/json"))


def test_a_fork_in_the_midst_of_a_stream_leaves_the_stream_to_the_parent(
    server: TestServer, child: Callable[..., Any]
) -> None:
    code = (
        FORK
        + """
    stream = loamy.stream([url] * 200, concurrency=4, window=8)
    next(stream)
    def use_the_parents():
        good()
        try:
            list(stream)
        except RuntimeError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("a stream of another process was used")
    joined(in_child(use_the_parents))
    joined(in_child(good))
    assert sum(1 for _ in stream) == 199
    """
    )
    ends_well(child, code, server.url("/json"))


def test_responses_made_before_a_fork_are_read_after_it(server: TestServer, child: Callable[..., Any]) -> None:
    code = (
        FORK
        + """
    responses = loamy.send([url, "no scheme", "http://127.0.0.1:1/"])
    def read():
        assert responses[0].json() and responses[0].headers["content-type"]
        assert [response.kind for response in responses] == [None, "bad_request", "connect.refused"]
        assert "refused" in str(responses[2].error) and repr(responses)
        assert [response.kind for response in responses.resend()] == [None, "bad_request", "connect.refused"]
    joined(in_child(read))
    """
    )
    ends_well(child, code, server.url("/json"))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_between_uses_in_the_parent(
    server: TestServer, child: Callable[..., Any], method: str, tmp_path: Any
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import multiprocessing, sys
import loamy

def work(url):
    return loamy.send([url] * 10)

if __name__ == "__main__":
    url = sys.argv[1]
    assert all(response.ok for response in loamy.send([url] * 10))
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        for responses in pool.map(work, [url] * 6):
            assert isinstance(responses, loamy.Responses) and len(responses) == 10
            assert all(response.ok and response.json() for response in responses), repr(responses)
    assert all(response.ok for response in loamy.send([url] * 10))
"""
    )
    ends_well(child, "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
              if method == "fork" else
              "import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)",
              program, server.url("/json"))  # fmt: skip
    assert server.counts["requests"] == 80


def test_a_child_that_only_exits_leaves_the_parents_connections_alone(
    server: TestServer, child: Callable[..., Any]
) -> None:
    code = (
        FORK
        + """
    good()
    joined(in_child(lambda: None))
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    joined(pid)
    good()
    """
    )
    ends_well(child, code, server.url("/json"))
    assert server.counts["requests"] == 40
    assert all(connection["ending"] != "malformed" for connection in server.log()["connections"])


@pytest.mark.parametrize("forking", ["the thread that reads the row", "another thread"])
def test_a_fork_while_objects_are_made_leaves_the_childs_garbage_collector_on(
    server: TestServer, child: Callable[..., Any], forking: str
) -> None:
    code = (
        FORK
        + """
    import gc
    reading, forked = threading.Event(), threading.Event()
    in_same_thread = sys.argv[2] == "the thread that reads the row"
    pids = []
    def collects():
        assert gc.isenabled()
        good()
        assert gc.isenabled()
        gc.disable()
        good()
        assert not gc.isenabled(), "what the user has turned off stays off"
    class Text:
        def __str__(self):
            if in_same_thread:
                pids.append(in_child(collects))
            else:
                reading.set()
                assert forked.wait(20)
            return "x"
    def sending():
        rows = [{"url": url, "method": "POST", "data": {"a": Text()}}]
        assert loamy.send(rows)[0].status_code == 405
    thread = threading.Thread(target=sending)
    thread.start()
    if not in_same_thread:
        assert reading.wait(20)
        pids.append(in_child(collects))
        forked.set()
    thread.join()
    joined(pids.pop())
    assert gc.isenabled()
    """
    )
    ends_well(child, code, server.url("/json"), forking)


def test_a_child_that_inherits_a_stream_under_way_ends_it_at_once_and_in_silence(
    server: TestServer, child: Callable[..., Any]
) -> None:
    code = (
        FORK
        + """
    import time
    stream = loamy.stream((url for _ in range(10**7)), concurrency=100)
    for number, _ in zip(range(12_000), stream):
        if number % 200 == 199:
            pid = in_child(stream.close)
            until = time.monotonic() + 5
            while True:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    break
                if time.monotonic() > until:
                    os.kill(pid, 9)
                    raise AssertionError("a child hangs")
                time.sleep(0.001)
            assert os.waitstatus_to_exitcode(status) == 7, status
    print("none hung", flush=True)
    pid = os.fork()
    if pid == 0:
        sys.exit(7)  # as a process ends by itself: what it inherited is taken apart
    joined(pid)
    assert next(stream).ok, "the parent's goes on"
    stream.close()
    """
    )
    running = child(code, server.url("/json"))
    exit_code, out, err = running.end(LIMIT_S)
    assert (exit_code, out, err) == (0, "none hung\n", "")


def test_a_child_that_inherits_a_test_server_leaves_it_to_the_parent(child: Callable[..., Any]) -> None:
    running = child(
        FORK.replace("url = sys.argv[1]", "")
        + """
    import loamy.testing
    with loamy.testing.serve() as server:
        url = server.url("/json")
        good()
        pid = os.fork()
        if pid == 0:
            good()
            try:
                server.log()
            except RuntimeError as error:
                assert "forked" in str(error), error
            else:
                raise AssertionError("the log of another process was read")
            sys.exit(7)
        joined(pid)
        good()
        assert server.counts["requests"] == 60
    """
    )
    exit_code, out, err = running.end(LIMIT_S)
    assert (exit_code, out, err) == (0, "", "")


@pytest.mark.parametrize("way", ["returns", "exits"])
@pytest.mark.parametrize("hook", ["on_response", "progress", "row"])
def test_p3_a_child_that_comes_back_out_of_a_function_of_the_callers_leaves_the_call_at_once(
    server: TestServer, child: Callable[..., Any], hook: str, way: str
) -> None:
    code = (
        FORK
        + """
    import signal, time
    url, hook, way = sys.argv[1:]
    parent, pids = os.getpid(), []
    def forks(_):
        if os.getpid() == parent and not pids:
            pids.append(os.fork())
            if pids == [0] and way == "exits":
                sys.exit(5)
    class Text:
        def __str__(self):
            forks(self)
            return "x"
    hooks = {"on_response": {"on_response": forks}, "progress": {"progress": forks}, "row": {}}[hook]
    first = {"url": url + "/anything", "method": "POST", "data": {"a": Text() if hook == "row" else "x"}}
    try:
        responses = loamy.send([first] + [url + "/delay/0.5"] * 5, **hooks)
    except (RuntimeError, SystemExit) as error:
        assert os.getpid() != parent, error
        told = "forked" in str(error) if way == "returns" else error.code == 5
        assert loamy.send([url + "/json"])[0].ok, "it has an engine of its own"
        os._exit(7 if told else 8)
    assert all(response.ok for response in responses), repr(responses)
    until = time.monotonic() + 5
    while True:
        ended, status = os.waitpid(pids[0], os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(pids[0], signal.SIGKILL)
            raise AssertionError("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 7, status
    """
    )
    ends_well(child, code, server.url(""), hook, way)
    assert server.counts["requests"] == 7, "six of the parent, one of the child"
