"""A real Jupyter kernel: its loop runs, its interrupt works, its front end is shown something to read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from loamy.testing import TestServer
from waiting import until

START_UP_S = 60.0
CELL_LIMIT_S = 30.0
BACK_S = 1.0
"""How long a cell may go on after the kernel was told to interrupt, its messages included."""


class Kernel:
    """A running kernel that cells are given to."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def start(self, code: str) -> str:
        """Give it a cell."""
        identity: str = self.client.execute(code)
        return identity

    def end(self, cell: str) -> list[dict[str, Any]]:
        """Wait for the end of a cell; return what was said meanwhile."""
        said: list[dict[str, Any]] = []
        give_up = time.monotonic() + CELL_LIMIT_S
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, give_up - time.monotonic()))
            except Empty:
                pytest.fail(f"the cell did not end within {CELL_LIMIT_S} s; it said {said}")
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return said
            said.append({"type": message["msg_type"], **content})

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell to its end; it must not raise."""
        said = self.end(self.start(code))
        errors = [one for one in said if one["type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])
        return said

    def printed(self, code: str) -> str:
        """Run a cell and return what it printed."""
        return "".join(one["text"] for one in self.run(code) if one["type"] == "stream" and one["name"] == "stdout")


@pytest.fixture(scope="module")
def running() -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "LOAMY_UNOPTIMISED": "1"})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_UP_S)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(running: Kernel, server: TestServer) -> Kernel:
    running.run(f"import loamy, asyncio, time\nfrom loamy.session import Clump, RequestMap\nbase = {server.url('')!r}")
    return running


def test_a_cell_sends_inside_the_kernels_running_loop(kernel: Kernel, server: TestServer) -> None:
    said = kernel.printed(
        "async def is_running(): return asyncio.get_running_loop().is_running()\n"
        "print(await is_running())\n"
        "print(loamy.send([base + '/json'] * 3).counts())\n"
        "print([r.status_code for r in loamy.stream([base + '/json'] * 3)])\n"
        "print([r.status_code for r in Clump([RequestMap(base + '/json', 'GET')] * 3).send_requests()])\n"
        "print((await loamy.send_async([base + '/json'] * 3)).counts())\n"
    )
    assert said == "True\n{'ok': 3}\n[200, 200, 200]\n[200, 200, 200]\n{'ok': 3}\n"
    assert server.counts["requests"] == 12


def test_the_last_value_of_a_cell_is_shown_as_html_and_as_text(kernel: Kernel) -> None:
    [shown] = [
        one
        for one in kernel.run("loamy.send([base + '/json', base + '/status/404'])")
        if one["type"] == "execute_result"
    ]
    assert shown["data"]["text/html"].startswith(
        "<p>2 responses: 1 ok · 1 status 404</p><ul><li><code>1: status 404 (GET "
    )
    assert shown["data"]["text/plain"].startswith("2 responses: 1 ok · 1 status 404\n  1: status 404 (GET http://")


def test_a_single_response_is_shown_as_its_repr(kernel: Kernel, server: TestServer) -> None:
    [shown] = [one for one in kernel.run("loamy.send([base + '/json'])[0]") if one["type"] == "execute_result"]
    assert shown["data"]["text/plain"] == f"<Response 0: status 200 (GET {server.url('/json')})>"


@pytest.mark.parametrize("door", ["send", "stream", "clump"])
def test_interrupting_the_kernel_leaves_the_cell_with_the_responses_at_hand(
    kernel: Kernel, server: TestServer, door: str
) -> None:
    call = {
        "send": "loamy.send([base + '/json'] * 5 + [base + '/hang'] * 50, concurrency=2)",
        "stream": "list(loamy.stream([base + '/json'] * 5 + [base + '/hang'] * 50, concurrency=2, window=100))",
        "clump": "Clump([RequestMap(base + p, 'GET') for p in ['/json'] * 5 + ['/hang'] * 50],"
        " policy=loamy.Policy(concurrency=2)).send_requests()",
    }[door]
    cell = kernel.start(call)
    until(lambda: server.counts["requests"] == 7)
    if door == "stream":
        # What the list was given is lost with the list: it is kept by the caller of a stream who wants it.
        until(lambda: server.counts["in_flight"] == 2)
    began = time.monotonic()
    kernel.manager.interrupt_kernel()
    said = kernel.end(cell)
    assert time.monotonic() - began < BACK_S
    [error] = [one for one in said if one["type"] == "error"]
    assert error["ename"] == "BatchInterrupted"
    assert "every row is in the exception" in error["evalue"] and "sys.last_value.responses" in error["evalue"]
    printed = kernel.printed(
        "import sys\n"
        "kinds = [getattr(r.error, 'kind', None) for r in sys.last_value.responses]\n"
        "print(kinds.count('cancelled'), kinds.count('not_sent'))\n"
        "print(loamy.send([base + '/json']).counts())"
    )
    assert printed == "2 48\n{'ok': 1}\n"
    assert server.counts["requests"] == 8


def test_progress_is_shown_in_a_notebook(kernel: Kernel) -> None:
    said = kernel.run("responses = loamy.send([base + '/delay/0.1'] * 30, concurrency=5, progress=True)")
    # A bar of widgets where they are installed, else one of text on standard error.
    text = "".join(one["text"] for one in said if one["type"] == "stream")
    widgets = [one for one in said if one["type"] == "display_data"]
    assert "30/30" in text or widgets, said
    assert kernel.printed("print(responses.counts())") == "{'ok': 30}\n"
    assert "Warning" not in text and "Traceback" not in text


def test_a_function_is_told_the_progress_in_a_notebook(kernel: Kernel) -> None:
    printed = kernel.printed(
        "seen = []\n"
        "_ = loamy.send([base + '/delay/0.3'] * 2, progress=seen.append)\n"
        "print(len(seen) >= 3, seen[-1].done, seen[-1].total)"
    )
    assert printed == "True 2 2\n"
