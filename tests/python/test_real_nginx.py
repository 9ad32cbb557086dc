"""Against a real nginx."""

from __future__ import annotations

from typing import Any

import loamy
import pytest
from loamy.session import Clump, RequestMap
from zconcurrent import zsession


@pytest.fixture
def seen(nginx: Any) -> Any:
    """What nginx was asked since the test began: a function that waits for so many lines of its log."""
    from waiting import until

    before = len(nginx.seen())

    def lines(count: int) -> list[list[str]]:
        until(lambda: len(nginx.seen()) >= before + count)
        fresh = [line.split() for line in nginx.seen()[before:]]
        assert len(fresh) == count, fresh
        return fresh

    return lines


def test_a_thousand_rows_come_back_in_order_over_kept_connections(nginx: Any, seen: Any) -> None:
    responses = loamy.send([f"{nginx.url}/echo?n={n}" for n in range(1000)], concurrency=20).raise_for_failures()
    assert [response.json()["args"] for response in responses] == [f"n={n}" for n in range(1000)]
    lines = seen(1000)
    assert {line[2] for line in lines} == {"HTTP/1.1"}
    assert len({line[4] for line in lines}) <= 20, "twenty connections serve them all"


def test_one_after_the_other_stays_on_one_connection(nginx: Any, seen: Any) -> None:
    loamy.send([f"{nginx.url}/echo"] * 50, concurrency=1).raise_for_failures()
    lines = seen(50)
    assert len({line[4] for line in lines}) == 1
    first = int(lines[0][5])
    assert [int(line[5]) for line in lines] == list(range(first, first + 50))


def test_a_redirect_is_followed(nginx: Any, seen: Any) -> None:
    [response] = loamy.send([f"{nginx.url}/redirect"])
    assert response.ok and response.url == f"{nginx.url}/echo" and response.redirects == 1
    assert [(line[1], line[3]) for line in seen(2)] == [("/redirect", "302"), ("/echo", "200")]


def test_statuses_are_answers(nginx: Any) -> None:
    responses = loamy.send([f"{nginx.url}/{path}" for path in ("missing", "unavailable", "empty", "nowhere")])
    assert [response.status_code for response in responses] == [404, 503, 204, 404]
    assert responses[0].json() == {"error": "missing"} and responses[2].content == b""
    assert all(response.headers["server"].startswith("nginx/") for response in responses)


def test_connections_that_the_server_closes_lose_no_row(nginx: Any, seen: Any) -> None:
    rows = [(method, f"{nginx.url}/closing?n={n}") for n in range(100) for method in ("GET", "POST", "DELETE")]
    responses = loamy.send(rows, concurrency=10).raise_for_failures()
    assert all(response.json() == {"closing": True} and response.attempts == 1 for response in responses)
    lines = seen(300)
    assert len({line[4] for line in lines}) >= 150, "two a connection"
    assert sorted((line[0], line[1]) for line in lines) == sorted(
        (method, url.removeprefix(nginx.url)) for method, url in rows
    )


def test_a_connection_closed_after_each_response_loses_no_row(nginx: Any, seen: Any) -> None:
    rows = [
        {"method": "POST", "url": f"{nginx.url}/echo?n={n}", "headers": {"Connection": "close"}, "json": {"n": n}}
        for n in range(60)
    ]
    responses = loamy.send(rows, concurrency=8).raise_for_failures()
    assert [response.json()["args"] for response in responses] == [f"n={n}" for n in range(60)]
    lines = seen(60)
    assert len({line[4] for line in lines}) == 60, "each its own"


def test_a_post_is_a_post(nginx: Any, seen: Any) -> None:
    for body in ({"a": 1}, {"a": "x" * 200_000}):
        [response] = loamy.send([{"method": "POST", "url": f"{nginx.url}/echo", "json": body}]).raise_for_failures()
        assert response.json()["method"] == "POST"
    assert [line[0] for line in seen(2)] == ["POST", "POST"]


def test_files_arrive_byte_for_byte(nginx: Any) -> None:
    body = bytes(range(256)) * 20_000
    (nginx.root / "blob.bin").write_bytes(body)
    (nginx.root / "täxt.txt").write_text("grün")
    for response in loamy.send([f"{nginx.url}/blob.bin"] * 10).raise_for_failures():
        assert response.content == body
    [response] = loamy.send([f"{nginx.url}/täxt.txt"])
    assert response.text == "grün" and response.headers["Content-Type"] == "text/plain"
    [head] = loamy.send([("HEAD", f"{nginx.url}/blob.bin")])
    assert head.headers["content-length"] == str(len(body)) and head.content == b""


def test_the_agent_is_named(nginx: Any) -> None:
    [response] = loamy.send([f"{nginx.url}/echo"])
    assert response.json()["agent"] == f"loamy/{loamy.__version__}"


def test_the_contract_classes_work_against_it(nginx: Any) -> None:
    clump = Clump([RequestMap(f"{nginx.url}/echo", "GET", query_params={"n": str(n)}) for n in range(100)])
    assert [response.body["args"] for response in clump.send_requests()] == [f"n={n}" for n in range(100)]
    session = zsession.zSession([zsession.RequestMap(f"{nginx.url}/echo", "POST", {"a": 1})] * 10)
    assert [one.body["method"] for one in session.sendRequests().requestResponses] == ["POST"] * 10
