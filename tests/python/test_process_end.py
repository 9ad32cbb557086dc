"""The end of the process with work under way (fault P7)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from loamy.testing import TestServer
from waiting import until

LIMIT_S = 20.0


def ends(child: Any) -> tuple[int, str, str]:
    result: tuple[int, str, str] = child.end(LIMIT_S)
    return result


@pytest.mark.parametrize("door", ["send", "stream", "clump", "async"])
def test_a_daemon_thread_with_requests_in_flight_does_not_disturb_the_end(
    server: TestServer, child: Callable[..., Any], door: str
) -> None:
    running = child(
        """
        import asyncio, sys, threading, loamy
        from loamy.session import Clump, RequestMap
        url, door = sys.argv[1:]
        def work():
            if door == "send":
                loamy.send([url] * 1000, concurrency=5)
            elif door == "stream":
                list(loamy.stream([url] * 1000, concurrency=5))
            elif door == "clump":
                Clump([RequestMap(url, "GET")] * 5).send_requests()
            else:
                asyncio.run(loamy.send_async([url] * 1000, concurrency=5))
        threading.Thread(target=work, daemon=True).start()
        sys.stdin.readline()
        """,
        server.url("/hang"),
        door,
    )
    until(lambda: server.counts["in_flight"] == 5)
    code, out, err = ends(running)
    assert (code, out, err) == (0, "", "")
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] == 5


@pytest.mark.parametrize("hook", ["on_response", "progress"])
@pytest.mark.parametrize("work", ["a little for each", "one long stretch"])
def test_a_daemon_thread_in_the_midst_of_a_hook_does_not_disturb_the_end(
    server: TestServer, child: Callable[..., Any], hook: str, work: str
) -> None:
    running = child(
        """
        import sys, threading, time, loamy
        url, hook, span = sys.argv[1], sys.argv[2], float(sys.argv[3])
        began = threading.Event()
        def busy(_):
            began.set()
            until = time.perf_counter() + span
            while time.perf_counter() < until:
                pass
        threading.Thread(target=lambda: loamy.send([url] * 6000, **{hook: busy}), daemon=True).start()
        began.wait()
        time.sleep(0.1)
        print("the main thread ends")
        """,
        server.url("/json"),
        hook,
        0.001 if work == "a little for each" else 15,
    )
    code, out, err = ends(running)
    assert (code, out, err) == (0, "the main thread ends\n", "")
    until(lambda: server.counts["open"] == 0)


def test_a_stream_that_is_never_finished_does_not_disturb_the_end(
    server: TestServer, child: Callable[..., Any]
) -> None:
    code, out, err = ends(
        child(
            """
            import sys, loamy
            stream = loamy.stream([sys.argv[1]] + [sys.argv[2]] * 100, concurrency=3)
            print(next(stream).ok)
            keep = [stream]
            keep.append(keep)
            """,
            server.url("/json"),
            server.url("/hang"),
        )
    )
    assert (code, out, err) == (0, "True\n", "")


def test_a_test_server_that_is_never_stopped_does_not_disturb_the_end(child: Callable[..., Any]) -> None:
    code, out, err = ends(
        child("import loamy.testing; server = loamy.testing.serve(); print(loamy.send([server.url('/json')])[0].ok)")
    )
    assert (code, out, err) == (0, "True\n", "")


def test_sending_at_the_end_of_the_process_raises_and_does_not_hang(
    server: TestServer, child: Callable[..., Any]
) -> None:
    code, out, err = ends(
        child(
            """
            import atexit, sys
            def late():
                try:
                    loamy.send([sys.argv[1]])
                except RuntimeError as error:
                    print(error)
            atexit.register(late)
            import loamy
            class Last:
                def __del__(self, send=loamy.send, url=sys.argv[1]):
                    try:
                        send([url])
                    except RuntimeError as error:
                        print(error)
            last = Last()
            """,
            server.url("/json"),
        )
    )
    said = "the interpreter is shutting down; nothing can be sent any more\n"
    assert (code, out, err) == (0, said * 2, "")


def test_sys_exit_and_an_unhandled_error_keep_their_exit_code(server: TestServer, child: Callable[..., Any]) -> None:
    for ending, expected in (("sys.exit(5)", 5), ("raise LookupError('x')", 1)):
        code, _, err = ends(
            child(
                f"""
                import sys, threading, loamy
                threading.Thread(target=loamy.send, args=([sys.argv[1]] * 10,), daemon=True).start()
                {ending}
                """,
                server.url("/hang"),
            )
        )
        assert code == expected
        assert "Fatal" not in err and "panicked" not in err


def test_a_terminated_process_ends_at_once(server: TestServer, child: Callable[..., Any]) -> None:
    running = child("import sys, loamy; loamy.send([sys.argv[1]] * 3)", server.url("/hang"))
    until(lambda: server.counts["in_flight"] == 3)
    running.process.terminate()
    code, _, err = ends(running)
    assert code == -signal.SIGTERM and err == ""


def test_importing_costs_no_threads_no_descriptors_and_no_heavy_modules(child: Callable[..., Any]) -> None:
    code, out, err = ends(
        child(
            """
            import os, sys
            before = set(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
            import loamy
            assert (set(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))) == before
            heavy = {"asyncio", "ssl", "msgspec", "tqdm", "urllib.request", "http.client", "IPython"}
            print(sorted(heavy & set(sys.modules)))
            """
        )
    )
    assert (code, out) == (0, "[]\n"), err
