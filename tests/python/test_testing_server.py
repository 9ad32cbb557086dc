"""`loamy.testing`: the server that users get for their own tests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import loamy
import loamy.testing
import pytest
from loamy.testing import SeenRequest, TestServer


def fetched(url: str, **options: Any) -> tuple[int, bytes]:
    """Fetch with the standard library: the server is for every client."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_it_serves_from_with_until_its_end() -> None:
    with loamy.testing.serve() as server:
        assert server.url("/json").startswith("http://127.0.0.1:") and server.url() == server.url("/")
        assert fetched(server.url("/json"))[0] == 200
    with pytest.raises(urllib.error.URLError):
        fetched(server.url("/json"))
    assert len(server.requests) == 1 and server.counts["requests"] == 1, "what it saw stays"
    server.stop()


def test_two_servers_stand_side_by_side() -> None:
    with loamy.testing.serve() as one, loamy.testing.serve() as other:
        loamy.send([one.url("/json"), other.url("/json"), other.url("/json")])
        assert one.url() != other.url() and (len(one.requests), len(other.requests)) == (1, 2)


def test_requests_are_seen_as_they_came(server: TestServer) -> None:
    fetched(server.url("/anything?q=%20"), data=b"\x00body", headers={"X-Own": "v"}, method="PATCH")
    [seen] = server.requests
    assert type(seen) is SeenRequest
    assert (seen.method, seen.target, seen.body, seen.connection) == ("PATCH", "/anything?q=%20", b"\x00body", 0)
    assert seen.header("x-own") == seen.header("X-OWN") == "v" and seen.header("absent") is None
    assert ("X-Own".lower(), "v") in [(name.lower(), value) for name, value in seen.headers] and seen.arrived > 0


def test_the_routes_answer_as_documented(server: TestServer) -> None:
    assert fetched(server.url("/json")) == (200, fetched(server.url("/json"))[1])
    assert len(fetched(server.url("/json"))[1]) == 197
    assert len(fetched(server.url("/json/500"))[1]) == 500 and len(fetched(server.url("/bytes/1000"))[1]) == 1000
    assert fetched(server.url("/status/418")) == (418, b'{"status":418}')
    assert fetched(server.url("/nowhere"))[0] == 404 and fetched(server.url("/post"))[0] == 405
    assert fetched(server.url("/echo"), data=b"abc") == (200, b"abc")
    assert json.loads(fetched(server.url("/redirect/3"))[1])["url"] == server.url("/get")
    echo = json.loads(fetched(server.url("/anything?a=1&a=2&b="), data=b'{"c": 3}', method="PUT")[1])
    assert (echo["method"], echo["args"], echo["json"]) == ("PUT", {"a": ["1", "2"], "b": ""}, {"c": 3})
    began = time.monotonic()
    assert fetched(server.url("/delay/0.3"))[0] == 200 and time.monotonic() - began >= 0.3
    assert [fetched(server.url("/count/x?fail=1"))[0] for _ in range(3)] == [503, 200, 200]


def test_some_routes_remember_what_came_before(server: TestServer) -> None:
    assert [fetched(server.url("/flaky/x?fail=2&status=502"))[0] for _ in range(3)] == [502, 502, 200]
    limited = [fetched(server.url(f"/limited/x/{row}?limit=2&window=3600"))[0] for row in range(3)]
    assert limited == [200, 200, 429] and len(json.loads(fetched(server.url("/arrivals/x"))[1])) == 3
    key = {"Idempotency-Key": '"k"'}
    first, again = (fetched(server.url("/keyed/x"), data=b"{}", headers=key, method="POST") for _ in range(2))
    assert first == again and first[0] == 201
    assert fetched(server.url("/keyed/x"), data=b"{1}", headers=key, method="POST")[0] == 422
    assert json.loads(fetched(server.url("/effects"))[1]) == {"x": 1}
    assert json.loads(fetched(server.url("/counts"))[1]) == {"x": {"GET": 3, "POST": 3}}
    refused = json.loads(fetched(server.url("/peak?at=0"))[1])
    assert (refused["parameter"], refused["allowed"]) == ("at", "1 to 1000000000")


def test_counters_hold_the_high_water_marks(server: TestServer) -> None:
    loamy.send([server.url("/delay/0.1")] * 8, concurrency=4)
    counts = server.counts
    assert set(counts) == {
        *("connections", "ended", "open", "max_open"),
        *("requests", "in_flight", "max_in_flight", "bytes_received"),
        *("handshakes", "resumed", "failed_handshakes", "http2", "max_streams"),
    }
    assert counts["requests"] == 8 and counts["in_flight"] == 0 and counts["max_in_flight"] == 4
    assert counts["max_open"] == 4 and counts["bytes_received"] > 0


def test_without_a_log_only_the_counts_are_kept() -> None:
    with loamy.testing.serve(keep_log=False) as server:
        loamy.send([server.url("/json")] * 10)
        assert server.requests == [] and server.counts["requests"] == 10


@pytest.mark.parametrize("announce", [True, False])
def test_it_closes_connections_after_so_many_requests(announce: bool) -> None:
    with loamy.testing.serve(close_after=2, announce_close=announce) as server:
        responses = loamy.send([server.url(f"/anything?n={n}") for n in range(10)], concurrency=1)
        assert all(response.ok for response in responses)
        assert [seen.connection for seen in server.requests] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        announced = [response.headers.get("connection") == "close" for response in responses]
        assert announced == ([False, True] * 5 if announce else [False] * 10)


def test_wrong_options_raise() -> None:
    with pytest.raises(ValueError, match=r"^close_after is 0; it must be 1 or more$"):
        loamy.testing.serve(close_after=0)
    with pytest.raises(TypeError):
        loamy.testing.serve(True)  # type: ignore[call-arg]


def test_it_listens_on_the_port_that_is_named(refused_port: int) -> None:
    with loamy.testing.serve(port=refused_port) as server:
        assert server.url("/json") == f"http://127.0.0.1:{refused_port}/json"
        assert fetched(server.url("/json"))[0] == 200
        with pytest.raises(OSError, match="Address already in use"):
            loamy.testing.serve(port=refused_port)


@pytest.mark.parametrize("port", [-1, 65_536, True, "8080"])
def test_a_port_that_cannot_be_is_refused(port: Any) -> None:
    with pytest.raises(ValueError, match=r"^port is .*; it must be a number from 0 to 65535, and 0 takes a free one$"):
        loamy.testing.serve(port=port)


def test_the_module_serves_until_ctrl_c(refused_port: int) -> None:
    command = [sys.executable, "-m", "loamy.testing", str(refused_port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"http://127.0.0.1:{refused_port}/ answers until Ctrl-C\n"
            assert fetched(f"http://127.0.0.1:{refused_port}/json")[0] == 200
            second = subprocess.run(command, capture_output=True, text=True, timeout=60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")
    assert second.returncode == 1
    assert second.stderr.startswith(f"port {refused_port} of 127.0.0.1 cannot be had: Address already in use")


def test_it_makes_a_pytest_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        """
import loamy, loamy.testing, pytest

@pytest.fixture
def server():
    with loamy.testing.serve() as server:
        yield server

def test_my_code(server):
    assert loamy.send([server.url("/json")])[0].ok
    assert server.requests[0].target == "/json"

def test_each_test_has_its_own(server):
    assert server.requests == []
"""
    )
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0 and "2 passed" in finished.stdout, finished.stdout + finished.stderr
