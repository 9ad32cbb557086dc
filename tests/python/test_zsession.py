"""`zconcurrent.zsession` beyond what its contract tests hold."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import loamy
import msgspec
import pytest
from loamy.testing import TestServer
from waiting import until
from zconcurrent.zsession import RequestMap, RequestResponse, RequestResults, zSession


def test_the_classes_are_made_by_position_and_by_name() -> None:
    by_position = RequestMap("http://h/", "POST", {"a": 1}, {"q": "1"}, {"H": "v"})
    by_name = RequestMap(
        url="http://h/", httpOperation="POST", body={"a": 1}, queryParams={"q": "1"}, headers={"H": "v"}
    )
    assert by_position == by_name
    assert RequestMap.__struct_fields__ == ("url", "httpOperation", "body", "queryParams", "headers")
    assert RequestResponse.__struct_fields__ == ("requestMap", "statusCode", "body")
    assert RequestResponse(by_name, 200) == RequestResponse(requestMap=by_name, statusCode=200, body=None)
    assert [field.name for field in dataclasses.fields(RequestResults)] == ["requestResponses", "taskExceptions"]
    assert RequestResults([], []) == RequestResults(requestResponses=[], taskExceptions=[])


def test_the_classes_go_through_msgspec_pickle_and_copy(server: TestServer) -> None:
    row = RequestMap(server.url("/anything"), "POST", {"a": 1}, {"q": "1"}, {"H": "v"})
    assert msgspec.json.decode(msgspec.json.encode(row), type=RequestMap) == row
    bad = RequestMap(server.url("/html"), "GET")
    results = zSession([row, bad]).sendRequests(return_exceptions=True)
    [response] = results.requestResponses
    assert msgspec.json.decode(msgspec.json.encode(response), type=RequestResponse) == response
    for after in (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)):
        assert after.requestResponses == results.requestResponses
        [error] = after.taskExceptions
        assert type(error) is loamy.JSONDecodeError and str(error) == str(results.taskExceptions[0])
        assert error.request_map == bad


def test_true_puts_failures_aside_with_their_request(server: TestServer, refused_port: int) -> None:
    rows = [
        RequestMap(server.url("/json"), "GET"),
        RequestMap(f"http://127.0.0.1:{refused_port}/", "GET"),
        RequestMap(server.url("/html"), "GET"),
        RequestMap(server.url("/status/404"), "GET"),
        RequestMap("no scheme", "GET"),
        RequestMap(server.url("/anything"), "POST", {"a": 1}),
    ]
    results = zSession(requestMaps=rows).sendRequests(return_exceptions=True)
    assert type(results) is RequestResults
    assert [response.statusCode for response in results.requestResponses] == [200, 404, 200]
    given = [response.requestMap for response in results.requestResponses]
    assert all(own is rows[place] for own, place in zip(given, (0, 3, 5), strict=True))
    errors: list[Any] = results.taskExceptions
    assert [error.kind for error in errors] == ["connect.refused", "not_json", "bad_request"]
    assert all(error.request_map is rows[place] for error, place in zip(errors, (1, 2, 4), strict=True))


def test_false_raises_the_first_failure_and_cancels_the_rest(server: TestServer) -> None:
    rows = [RequestMap(server.url("/json"), "GET"), RequestMap(server.url("/html"), "GET")]
    rows += [RequestMap(server.url("/hang"), "GET")] * 300
    with pytest.raises(loamy.JSONDecodeError) as caught:
        zSession(rows).sendRequests()
    assert caught.value.request_map is rows[1]
    until(lambda: server.counts["open"] == 0)
    assert server.counts["requests"] <= 102


def test_false_raises_the_lowest_of_several_failures() -> None:
    rows = [RequestMap(f"scheme-less-{n}", "GET") for n in range(50)]
    with pytest.raises(loamy.InvalidRequest) as caught:
        zSession(rows).sendRequests(return_exceptions=False)
    assert caught.value.request_map is rows[0]


def test_without_failures_both_ways_are_the_same(server: TestServer) -> None:
    rows = [RequestMap(server.url("/anything"), "GET", None, {"n": str(n)}) for n in range(200)]
    for return_exceptions in (True, False):
        results = zSession(rows).sendRequests(return_exceptions=return_exceptions)
        assert [response.body["args"]["n"] for response in results.requestResponses] == [str(n) for n in range(200)]
        assert results.taskExceptions == []
    assert zSession([]).sendRequests() == RequestResults([], [])


def test_a_post_is_sent_as_one(server: TestServer) -> None:
    methods: list[Any] = ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"]
    rows = [RequestMap(server.url("/anything"), method, {"a": 1}) for method in methods]
    zSession(rows, policy=loamy.Policy(concurrency=1)).sendRequests()
    assert [(seen.method, seen.body) for seen in server.requests] == [
        ("GET", b""),
        *[(method, b'{"a": 1}') for method in methods[1:]],
    ]


@pytest.mark.parametrize("rows", ["http://h/", None, {"a": 1}, RequestMap("http://h/", "GET")])
def test_what_is_no_list_of_requests_raises_at_once(rows: Any) -> None:
    with pytest.raises(TypeError, match=r"^zSession\(\) takes a list of rows, not "):
        zSession(rows)


def test_the_reprs_are_masked_and_cut(server: TestServer) -> None:
    row = RequestMap(server.url("/json/9000?token=t0k3n"), "GET", None, None, {"Cookie": "c00kie"})
    [response] = zSession([row]).sendRequests().requestResponses
    for text in (repr(row), repr(response)):
        assert "t0k3n" not in text and "c00kie" not in text and len(text) < 800
