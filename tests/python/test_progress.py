"""`progress=`: a function gets snapshots, True shows a bar where somebody looks and else writes to the log."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import loamy
import pytest
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from zconcurrent import zsession

EVERY_S = 0.1
"""How often a snapshot is due."""


def doors(server: TestServer, path: str, count: int) -> dict[str, Callable[[Any], object]]:
    url = server.url(path)
    return {
        "send": lambda progress: loamy.send([url] * count, progress=progress, concurrency=4),
        "stream": lambda progress: list(loamy.stream([url] * count, progress=progress, concurrency=4)),
        "clump": lambda progress: Clump(
            [RequestMap(url, "GET")] * count, policy=loamy.Policy(concurrency=4)
        ).send_requests(progress=progress),
        "zsession": lambda progress: zsession.zSession(
            [zsession.RequestMap(url, "GET")] * count, policy=loamy.Policy(concurrency=4)
        ).sendRequests(progress=progress),
    }


@pytest.mark.parametrize("door", ["send", "stream", "clump", "zsession"])
def test_a_function_gets_snapshots_on_the_calling_thread_and_the_last_is_complete(
    server: TestServer, door: str
) -> None:
    seen: list[loamy.Progress] = []
    threads = set()

    def progress(now: loamy.Progress) -> None:
        seen.append(now)
        threads.add(threading.get_ident())

    doors(server, "/delay/0.25", 12)[door](progress)
    assert threads == {threading.get_ident()}
    assert all(type(now) is loamy.Progress for now in seen)
    last = seen[-1]
    assert (last.total, last.waiting, last.in_flight, last.done, last.failed) == (12, 0, 0, 12, 0)
    assert last.elapsed >= 0.75
    for now in seen:
        assert now.waiting + now.in_flight + now.done == now.total == 12 or door == "stream"
        assert now.in_flight <= 4
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    # 0.75 s at least, and a snapshot is due each 0.1 s: few are lost, and none comes much too soon.
    assert 4 <= len(seen) <= last.elapsed / EVERY_S + 2
    times = [now.elapsed for now in seen[:-1]]
    assert all(later - earlier >= 0.9 * EVERY_S for earlier, later in itertools.pairwise(times))


def test_snapshots_count_failures(server: TestServer, refused_port: int) -> None:
    seen: list[loamy.Progress] = []
    rows = [server.url("/json"), server.url("/status/404"), f"http://127.0.0.1:{refused_port}/", "no scheme"]
    loamy.send(rows, progress=seen.append)
    assert (seen[-1].done, seen[-1].failed) == (4, 2), "a 404 is an answer"


@pytest.mark.parametrize("progress", ["yes", 1, [], object()])
def test_what_is_no_progress_raises_at_once(server: TestServer, progress: Any) -> None:
    with pytest.raises(TypeError, match=r"^progress must be True, False or a function, not "):
        loamy.send([server.url("/json")], progress=progress)
    assert server.requests == []


PROGRAM = textwrap.dedent(
    """
    import sys, loamy
    from loamy.session import Clump, RequestMap
    url, door = sys.argv[1:]
    if door == "send":
        loamy.send([url] * 30 + ["no scheme"], progress=True, concurrency=5)
    elif door == "stream":
        list(loamy.stream([url] * 30 + ["no scheme"], progress=True, concurrency=5))
    else:
        Clump([RequestMap(url, "GET")] * 31, policy=loamy.Policy(concurrency=5)).send_requests(progress=True)
    """
)


def drawn_on_a_terminal(program: str, *arguments: str) -> str:
    """Run a program that draws on a terminal; give all that it drew."""
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=side,
        env={**os.environ, "LOAMY_UNOPTIMISED": "1"},
    )
    os.close(side)
    drawn = b""
    give_up = time.monotonic() + 30
    try:
        while time.monotonic() < give_up:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other side is gone (Linux says EIO)
                break
            if not piece:
                break
            drawn += piece
        out, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    text = drawn.decode()
    assert process.returncode == 0 and out == b"", text
    return text


@pytest.mark.parametrize("door", ["send", "stream", "clump"])
def test_true_draws_a_bar_on_a_terminal(server: TestServer, door: str) -> None:
    text = drawn_on_a_terminal(PROGRAM, server.url("/delay/0.05"), door)
    last = text.rstrip().rpartition("\r")[2]
    assert "31/31" in last or (door == "stream" and "31row" in last.replace(" ", "")), text
    assert "failed=1" in text or door == "clump"
    assert text.count("\r") >= 2, "it moves"


def test_the_bar_says_how_much_time_limits_and_pauses_leave(server: TestServer) -> None:
    program = "import sys, loamy; loamy.send([sys.argv[1]] * 40, progress=True, retries=3)"
    text = drawn_on_a_terminal(program, server.url("/limited/x?limit=30&window=3&as=none&retry_after=3"))
    # Thirty rows are done in no time: by that pace nothing would be left.
    assert "30/40" in text and "paused=127.0.0.1" in text, text
    assert "<00:02, " in text, text


def test_true_without_a_terminal_writes_to_the_log_each_ten_seconds(
    server: TestServer, child: Callable[..., Any]
) -> None:
    # The calling thread's clock is turned forward: ten seconds are not waited for.
    running = child(
        """
        import logging, sys, time
        began, monotonic = time.monotonic(), time.monotonic
        time.monotonic = lambda: began + 50 * (monotonic() - began)
        import loamy
        logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)
        loamy.send([sys.argv[1]] * 20, progress=True, concurrency=5)
        """,
        server.url("/delay/0.25"),
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    # One second at least is fifty on that clock; a line is due each ten.
    assert 2 <= len(lines) <= 8, out
    assert all(line.startswith("loamy INFO ") and " in flight" in line for line in lines)
    # Before the first row has ended nobody knows how long it will take.
    assert lines[-1].endswith(" s left")
    done = [int(line.split()[2]) for line in lines]
    assert done == sorted(done) and all(" of 20 rows done, 0 failed, " in line for line in lines)


def test_true_without_a_terminal_is_silent_in_a_short_call(server: TestServer, child: Callable[..., Any]) -> None:
    code, out, err = child(
        """
        import logging, sys, loamy
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        loamy.send([sys.argv[1]] * 20, progress=True)
        """,
        server.url("/json"),
    ).end()
    assert (code, out, err) == (0, "", "")


def test_a_terminal_without_tqdm_gets_the_log(server: TestServer) -> None:
    terminal, side = pty.openpty()
    program = "import sys; sys.modules['tqdm'] = None; sys.modules['tqdm.auto'] = None\n" + PROGRAM
    finished = subprocess.run(
        [sys.executable, "-c", program, server.url("/json"), "send"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=side,
        timeout=30,
        env={**os.environ, "LOAMY_UNOPTIMISED": "1"},
    )
    os.close(side)
    drawn = b""
    try:
        while select.select([terminal], [], [], 0)[0]:
            drawn += os.read(terminal, 65536)
    except OSError:
        drawn += b""
    os.close(terminal)
    assert finished.returncode == 0, drawn.decode()
    assert drawn == b"" and finished.stdout == b""


def test_an_empty_list_shows_nothing(server: TestServer) -> None:
    seen: list[loamy.Progress] = []
    assert loamy.send([], progress=seen.append) == []
    assert all(now.done == now.total == 0 for now in seen)
