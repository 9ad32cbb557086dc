"""`loamy.session` beyond what its contract tests hold: the classes as values, and what the door adds."""

from __future__ import annotations

import codecs
import copy
import gc
import json
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import loamy
import msgspec
import pytest
from loamy.session import Clump, RequestMap, RequestResponse
from loamy.testing import TestServer
from zconcurrent import zsession


def test_request_maps_are_made_by_position_and_by_name() -> None:
    by_position = RequestMap("http://h/", "POST", {"a": 1}, {"q": "1"}, {"H": "v"})
    by_name = RequestMap(url="http://h/", http_op="POST", body={"a": 1}, query_params={"q": "1"}, headers={"H": "v"})
    assert by_position == by_name
    assert RequestMap("http://h/", "GET") == RequestMap("http://h/", "GET", None, None, None)
    assert RequestMap.__struct_fields__ == ("url", "http_op", "body", "query_params", "headers")
    with pytest.raises(TypeError):
        RequestMap("http://h/")  # type: ignore[call-arg]
    by_name.url = "http://other/"
    assert by_name != by_position, "a plain struct can be changed"


def test_request_responses_are_made_as_documented() -> None:
    row = RequestMap("http://h/", "GET")
    error = ValueError("x")
    response = RequestResponse(row, 200, {"a": 1}, error)
    assert (response.request_map, response.status_code, response.body, response.error) == (row, 200, {"a": 1}, error)
    assert RequestResponse.__struct_fields__[:4] == ("request_map", "status_code", "body", "error")
    assert RequestResponse(request_map=row, status_code=204) == RequestResponse(row, 204, None, None)
    bare = RequestResponse(row, 0)
    assert (bare.headers, bare.content, bare.elapsed, bare.attempts) == (None, b"", 0.0, 0)


def test_they_go_through_msgspec(server: TestServer) -> None:
    row = RequestMap(server.url("/anything"), "POST", {"a": [1, "ä"]}, {"q": "1"}, {"H": "v"})
    assert msgspec.json.decode(msgspec.json.encode(row), type=RequestMap) == row
    assert msgspec.convert(msgspec.to_builtins(row), RequestMap) == row
    [response] = Clump([row]).send_requests()
    after = msgspec.json.decode(msgspec.json.encode(response))
    assert after["status_code"] == 200 and after["body"]["json"] == {"a": [1, "ä"]}
    assert after["request_map"] == msgspec.to_builtins(row) and after["headers"]["Content-Type"] == "application/json"
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"url": "http://h/", "http_op": "BREW"}', type=RequestMap)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_they_pickle_and_copy_with_their_errors(server: TestServer, copied: Callable[[Any], Any]) -> None:
    rows = [RequestMap(server.url(path), "GET") for path in ("/json", "/html", "/reset")]
    for before in Clump(rows).send_requests():
        after = copied(before)
        assert type(after) is RequestResponse and after.request_map == before.request_map
        for name in ("status_code", "body", "headers", "content", "elapsed", "attempts"):
            assert getattr(after, name) == getattr(before, name), name
        assert type(after.error) is type(before.error) and str(after.error) == str(before.error)
        assert repr(after) == repr(before)


def test_pydantics_names_work_and_warn_with_msgspecs(server: TestServer) -> None:
    row = RequestMap(server.url("/anything"), "POST", {"a": 1})
    [response] = Clump([row]).send_requests()

    def warned(call: Callable[[], Any], instead: str) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call()
        [one] = [warning for warning in caught if warning.category is DeprecationWarning]
        assert instead in str(one.message) and one.filename == __file__
        return result

    plain = {"url": row.url, "http_op": "POST", "body": {"a": 1}, "query_params": None, "headers": None}
    assert warned(row.model_dump, "msgspec.structs.asdict") == plain
    assert json.loads(warned(row.model_dump_json, "msgspec.json.encode")) == plain
    assert warned(lambda: row.model_copy(update={"url": "x"}), "msgspec.structs.replace").url == "x"
    shallow, deep = warned(row.model_copy, "replace"), warned(lambda: row.model_copy(deep=True), "replace")
    assert shallow.body is row.body and deep.body == row.body and deep.body is not row.body
    assert warned(lambda: RequestMap.model_validate(plain), "msgspec.convert") == row
    assert warned(lambda: RequestMap.model_validate(row), "msgspec.convert") is row
    with pytest.raises(msgspec.ValidationError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        RequestMap.model_validate({"url": 5})
    dumped = warned(response.model_dump, "msgspec.structs.asdict")
    assert dumped["request_map"] == plain and dumped["status_code"] == 200
    assert json.loads(warned(response.model_dump_json, "msgspec.json.encode"))["request_map"] == plain


def test_the_request_map_is_the_very_object_given(server: TestServer) -> None:
    rows = [RequestMap(server.url(path), "GET") for path in ("/json", "/status/404", "/html", "/reset")] * 50
    responses = Clump(requests=rows).send_requests()
    assert len(responses) == 200 and all(type(response) is RequestResponse for response in responses)
    assert all(response.request_map is row for response, row in zip(responses, rows, strict=True))


@pytest.mark.parametrize("return_exceptions", [True, False])
def test_nothing_is_raised_for_a_request_that_fails(
    server: TestServer, refused_port: int, return_exceptions: bool
) -> None:
    rows = [
        RequestMap(f"http://127.0.0.1:{refused_port}/", "GET"),
        RequestMap(server.url("/json"), "GET"),
        RequestMap(server.url("/status/503"), "GET"),
        RequestMap("no scheme", "GET"),
        RequestMap(server.url("/json"), "BREW"),  # type: ignore[arg-type]
        RequestMap(5, "GET"),  # type: ignore[arg-type]
        RequestMap(server.url("/json"), "POST", {"a": float("nan")}),
    ]
    responses = Clump(rows).send_requests(return_exceptions=return_exceptions)
    assert [response.status_code for response in responses] == [0, 200, 503, 0, 0, 0, 0]
    assert [getattr(response.error, "kind", None) for response in responses] == [
        "connect.refused",
        None,
        None,
        *["bad_request"] * 4,
    ]
    assert isinstance(responses[0].error, ConnectionError) and responses[0].headers is None
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/json/64", {"pad": "x" * 54}, None),
        ("/status/204", None, None),
        ("/html", {"text": "<!DOCTYPE html>\n<title>testkit</title>\n<h1>It is well.</h1>\n"}, "not_json"),
        ("/text", {"text": "It is well.\n"}, "not_json"),
    ],
)
def test_a_body_is_json_or_its_text(server: TestServer, path: str, body: Any, kind: str | None) -> None:
    [response] = Clump([RequestMap(server.url(path), "GET")]).send_requests()
    assert response.body == body and getattr(response.error, "kind", None) == kind
    assert response.headers is not None and response.attempts == 1 and response.elapsed > 0
    if kind:
        assert isinstance(response.error, loamy.JSONDecodeError) and response.error.response is not None
        assert response.error.response.content == response.content == (body or {})["text"].encode()


def test_all_six_methods_send_what_they_should(server: TestServer) -> None:
    methods: list[Any] = ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"]
    rows: list[Any] = [RequestMap(server.url("/anything"), method, {"a": 1}) for method in methods]
    rows += [RequestMap(server.url("/anything"), method) for method in methods]
    Clump(rows, policy=loamy.Policy(concurrency=1)).send_requests()
    assert [seen.method for seen in server.requests] == methods * 2
    assert [seen.body for seen in server.requests] == [b"", *[b'{"a": 1}'] * 5, *[b""] * 6]
    assert server.requests[7].header("content-length") == "0", "a POST without body says so"


@pytest.fixture
def codec_with_a_bug() -> Iterator[str]:
    def decode(*given: Any) -> Any:
        raise RuntimeError("a bug of the codec's own")

    def search(name: str) -> codecs.CodecInfo | None:
        return codecs.CodecInfo(decode, decode, name=name) if name == "of_nobody" else None

    codecs.register(search)
    yield "of_nobody"
    codecs.unregister(search)


def answers_in(script: Callable[..., Any], charset: str) -> str:
    head = rf"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset={charset}\r\nContent-Length: 4\r\n\r\n"
    url: str = script("read", rf"send {head}caf\xe9", "close").url()
    return url


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined"])
def test_h11_a_charset_that_cannot_be_decoded_is_one_rows_own(
    server: TestServer, script: Callable[..., Any], charset: str
) -> None:
    rows = [RequestMap(server.url(f"/count/{n}"), "POST", {"n": n}) for n in range(40)]
    rows[20] = RequestMap(answers_in(script, charset), "GET")
    responses = Clump(rows).send_requests()
    odd = responses.pop(20)
    assert odd.status_code == 200 and odd.content == b"caf\xe9" and odd.body == {"text": "caf\ufffd"}
    assert isinstance(odd.error, loamy.JSONDecodeError)
    assert all(response.status_code == 200 and response.error is None for response in responses)
    assert server.counts["requests"] == 39


def test_h11_a_bug_in_the_making_of_one_rows_object_stops_nobody(
    server: TestServer, script: Callable[..., Any], codec_with_a_bug: str
) -> None:
    odd_url = answers_in(script, codec_with_a_bug)
    rows = [RequestMap(server.url(f"/count/{n}"), "POST", {"n": n}) for n in range(40)]
    rows[20] = RequestMap(odd_url, "GET")
    responses = Clump(rows).send_requests()
    odd = responses.pop(20)
    assert odd.status_code == 200 and odd.content == b"caf\xe9" and odd.body is None
    assert isinstance(odd.error, loamy.InternalError)
    assert str(odd.error) == "internal: RuntimeError came while what became of the row was made into an object"
    assert all(response.status_code == 200 and response.error is None for response in responses)
    assert server.counts["requests"] == 39

    older = [zsession.RequestMap(server.url(f"/count/{n}"), "POST", {"n": n}) for n in range(40)]
    older[20] = zsession.RequestMap(answers_in(script, codec_with_a_bug), "GET")
    results = zsession.zSession(requestMaps=older).sendRequests(return_exceptions=True)
    [failed] = results.taskExceptions
    assert isinstance(failed, loamy.InternalError) and failed.request_map is older[20]
    assert len(results.requestResponses) == 39 and server.counts["requests"] == 78


def test_a_clump_can_be_sent_twice_and_takes_a_policy(server: TestServer) -> None:
    clump = Clump([RequestMap(server.url("/delay/0.1"), "GET")] * 6, policy=loamy.Policy(concurrency=2))
    assert [response.status_code for response in clump.send_requests() + clump.send_requests()] == [200] * 12
    assert server.counts["max_in_flight"] == 2
    assert Clump([]).send_requests() == []


@pytest.mark.parametrize("rows", ["http://h/", None, {"a": 1}, 5, RequestMap("http://h/", "GET")])
def test_what_is_no_list_of_requests_raises_at_once(rows: Any) -> None:
    with pytest.raises(TypeError, match=r"^Clump\(\) takes a list of rows, not "):
        Clump(rows)


def test_the_repr_names_every_field_of_a_request() -> None:
    row = RequestMap("http://h/?token=t", "POST", {"a": 1}, {"q": "1"}, {"Cookie": "c", "X-Own": "v"})
    assert repr(row) == (
        "RequestMap(url='http://h/?token=***', http_op='POST', body={'a': 1}, query_params={'q': '1'}, "
        "headers={'Cookie': '***', 'X-Own': 'v'})"
    )


def test_raising_the_error_of_a_response_leaks_nothing(server: TestServer, refused_port: int) -> None:
    class Probe:
        """Stands in a frame that must go."""

    def fetch(probes: list[weakref.ref[Probe]]) -> None:
        probe = Probe()
        probes.append(weakref.ref(probe))
        rows = [RequestMap(server.url("/bytes/1000"), "GET"), RequestMap(f"http://127.0.0.1:{refused_port}/", "GET")]
        for response in Clump(rows).send_requests():
            if response.error is not None:
                raise response.error

    def restore(probes: list[weakref.ref[Probe]]) -> None:
        probe = Probe()
        probes.append(weakref.ref(probe))
        responses = pickle.loads(pickle.dumps(loamy.send([f"http://127.0.0.1:{refused_port}/"])))
        error = responses[0].error
        assert responses[0].kind == "connect.refused" and isinstance(error, OSError) and error.errno
        del error
        responses[0].raise_for_status()

    probes: list[weakref.ref[Probe]] = []
    for call in (fetch, restore):
        for _ in range(5):
            with pytest.raises(loamy.LoamyError):
                call(probes)
    gc.collect()
    assert [probe() for probe in probes] == [None] * 10
    assert len(server.requests) == 5
