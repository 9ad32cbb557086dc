"""What may stand in the list, and what is said about what may not."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import loamy
import pytest
import zconcurrent.zsession
from loamy.session import RequestMap
from loamy.testing import TestServer


def test_a_url_is_sent_as_a_get(server: TestServer) -> None:
    [response] = loamy.send([server.url("/anything?a=1")])
    assert response.ok and response.method == "GET"
    [seen] = server.requests
    assert (seen.method, seen.target, seen.body) == ("GET", "/anything?a=1", b"")


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_pair_is_a_method_and_a_url(server: TestServer, pair: Callable[[Any], Any]) -> None:
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]
    responses = loamy.send([pair([method, server.url("/anything")]) for method in methods], concurrency=1)
    assert all(response.ok for response in responses)
    assert [seen.method for seen in server.requests] == methods
    assert [response.method for response in responses] == methods


def test_each_name_of_requests_works_in_a_dict(server: TestServer) -> None:
    tag = object()
    row = {
        "method": "PUT",
        "url": server.url("/anything?own=1"),
        "params": {"q": "a b", "n": [1, 2], "yes": True, "half": 0.5, "none": None},
        "json": {"ä": [1, None]},
        "headers": {"X-Own": "yes", "content-type": "application/vnd.own+json"},
        "timeout": (5, 10),
        "tag": tag,
        "allow_redirects": True,
        "max_redirects": 3,
        "raw_url": False,
    }
    [response] = loamy.send([row])
    assert response.ok and response.tag is tag and response.request is row
    [seen] = server.requests
    assert (seen.method, seen.target) == ("PUT", "/anything?own=1&q=a+b&n=1&n=2&yes=true&half=0.5")
    assert seen.body == b'{"\\u00e4": [1, null]}'
    assert seen.header("X-Own") == "yes"
    assert [value for name, value in seen.headers if name.lower() == "content-type"] == ["application/vnd.own+json"]


@pytest.mark.parametrize(
    ("key", "value", "body", "media"),
    [
        ("json", [1, "a"], b'[1, "a"]', "application/json"),
        ("data", {"a": "b c", "d": ["1", "2"]}, b"a=b+c&d=1&d=2", "application/x-www-form-urlencoded"),
        ("data", [("a", "1"), ("a", "2")], b"a=1&a=2", "application/x-www-form-urlencoded"),
        ("data", {"a": None, "b": ["1", None], "c": [None], "d": ""}, b"b=1&d=", "application/x-www-form-urlencoded"),
        ("data", [("a", None), ["b", 2]], b"b=2", "application/x-www-form-urlencoded"),
        ("data", {"a": True}, b"a=True", "application/x-www-form-urlencoded"),
        ("data", b"\x00\xff", b"\x00\xff", None),
        ("data", "täxt", "täxt".encode(), None),
        ("content", b"\r\n\r\n", b"\r\n\r\n", None),
        ("content", bytearray(b"abc"), b"abc", None),
        ("content", "", b"", None),
    ],
)
def test_a_body_goes_out_as_its_key_says(
    server: TestServer, key: str, value: Any, body: bytes, media: str | None
) -> None:
    loamy.send([{"method": "POST", "url": server.url("/anything"), key: value}]).raise_for_failures()
    [seen] = server.requests
    assert seen.body == body
    assert seen.header("content-type") == media
    assert seen.header("content-length") == str(len(body))


def test_a_body_goes_out_with_a_get_that_has_one(server: TestServer) -> None:
    loamy.send([{"url": server.url("/anything"), "json": {"a": 1}}]).raise_for_failures()
    [seen] = server.requests
    assert (seen.method, seen.body) == ("GET", b'{"a": 1}')


def test_request_maps_of_both_contracts_are_rows(server: TestServer) -> None:
    new = RequestMap(server.url("/anything"), "POST", {"a": 1}, {"q": "1"}, {"X-Own": "new"})
    old = zconcurrent.zsession.RequestMap(server.url("/anything"), "PATCH", {"b": 2}, {"q": "2"}, {"X-Own": "old"})
    responses = loamy.send([new, old], concurrency=1).raise_for_failures()
    assert [response.request for response in responses] == [new, old]
    assert responses[0].request is new and responses[1].request is old
    assert [(seen.method, seen.target, seen.body, seen.header("x-own")) for seen in server.requests] == [
        ("POST", "/anything?q=1", b'{"a": 1}', "new"),
        ("PATCH", "/anything?q=2", b'{"b": 2}', "old"),
    ]


def test_all_forms_mix_in_one_list(server: TestServer) -> None:
    url = server.url("/anything")
    rows = [url, ("POST", url), {"url": url, "method": "PUT"}, RequestMap(url, "DELETE"), 5, None]
    responses = loamy.send(rows)
    assert [response.ok for response in responses] == [True, True, True, True, False, False]
    assert [response.kind for response in responses[4:]] == ["bad_request", "bad_request"]
    assert sorted(seen.method for seen in server.requests) == ["DELETE", "GET", "POST", "PUT"]


def test_the_same_object_twice_gives_two_independent_responses(server: TestServer) -> None:
    row = {"method": "POST", "url": server.url("/anything"), "json": {"a": 1}}
    before = json.dumps(row)
    first, second = loamy.send([row, row])
    assert first.ok and second.ok and first is not second and first.index == 0 and second.index == 1
    assert len(server.requests) == 2
    assert json.dumps(row) == before, "a row is not written to"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"url": "http://h/", "jsn": 1}, 'the row\'s key "jsn" is unknown; is it "json"? (GET http://h/)'),
        ({"url": "http://h/", "time_out": 1}, 'the row\'s key "time_out" is unknown; is it "timeout"? (GET http://h/)'),
        ({"url": "http://h/", "header": {}}, 'the row\'s key "header" is unknown; is it "headers"? (GET http://h/)'),
        ({"url": "http://h/", "param": {}}, 'the row\'s key "param" is unknown; is it "params"? (GET http://h/)'),
        (
            {"url": "http://h/", "auth": ("user", "password")},
            'the row\'s key "auth" is unknown: put user:password@ before the host of the URL, or an Authorization header '
            'into "headers" (GET http://h/)',
        ),
        (
            {"url": "http://h/", "body": "x"},
            'the row\'s key "body" is unknown: a body is "json", "data" (a form) or "content" (bytes) (GET http://h/)',
        ),
        (
            {"url": "http://h/", "retries": 3},
            'the row\'s key "retries" is unknown: rows have no such thing of their own; a keyword of the call holds for all '
            "of them (GET http://h/)",
        ),
        (
            {"url": "http://h/", "frobnicate": 1},
            'the row\'s key "frobnicate" is unknown; known are method, url, params, json, data, content, headers, timeout, '
            "tag, allow_redirects, follow_redirects, max_redirects, verify, extra_ca, tls_min, raw_url, "
            "cost, limit_key (GET http://h/)",
        ),
    ],
)
def test_an_unknown_key_is_the_rows_bad_request_and_names_the_nearest(
    server: TestServer, row: dict[str, Any], message: str
) -> None:
    bad, good = loamy.send([row, server.url("/json")])
    assert bad.kind == "bad_request" and str(bad.error) == f"bad_request: {message}"
    assert isinstance(bad.error, loamy.InvalidRequest) and isinstance(bad.error, ValueError)
    assert bad.attempts == 0
    assert good.ok and len(server.requests) == 1


@pytest.mark.parametrize(
    "key", ["cookies", "files", "proxies", "query", "verb", "meta", "host", "text", "name", "form"]
)
def test_a_key_of_another_client_is_not_taken_for_a_slip(server: TestServer, key: str) -> None:
    [response] = loamy.send([{"url": server.url("/json"), key: "x"}])
    assert response.kind == "bad_request" and "; is it" not in str(response.error)
    assert server.requests == []


def test_a_response_is_no_row_and_the_text_names_its_row(server: TestServer) -> None:
    failed = loamy.send([server.url("/status/500")]).failed
    [response] = loamy.send(failed)
    assert "not Response; its `request` is the row that it came of" in str(response.error)
    assert loamy.send([failed[0].request])[0].status_code == 500
    assert len(server.requests) == 2


class Frame:
    """What a data frame looks like from afar."""

    columns = ("url",)
    shape = (1, 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize("door", [loamy.send, loamy.stream], ids=["send", "stream"])
@pytest.mark.parametrize(
    ("rows", "name", "hint"),
    [
        ("http://h/", "str", "for one row give a list of one: [url]"),
        (b"http://h/", "bytes", "for one row give a list of one: [url]"),
        (bytearray(b"x"), "bytearray", "for one row give a list of one: [url]"),
        ({"url": "http://h/"}, "dict", "for one row give a list of one: [row]; for many, list(rows.values())"),
        (None, "NoneType", "a function that builds the list may lack its return"),
        (
            Frame(),
            "Frame",
            "give a column of URLs, or rows as dicts: frame['url'].tolist(), frame.to_dict('records')",
        ),
        (RequestMap("http://h/", "GET"), "RequestMap", "for one row give a list of one: [row]"),
        (5, "int", "it cannot be iterated over"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_list_of_rows_raises_at_once_with_a_hint(door: Any, rows: Any, name: str, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        door(rows)
    assert str(caught.value) == f"{door.__name__}() takes a list of rows, not {name}\nhint: {hint}"


def test_an_empty_list_returns_at_once_and_sends_nothing(server: TestServer) -> None:
    assert loamy.send([]) == [] and repr(loamy.send([])) == "0 responses"
    assert list(loamy.stream([])) == []
    assert server.counts["connections"] == 0


def test_any_iterable_is_a_list_of_rows(server: TestServer) -> None:
    urls = [server.url(f"/anything?n={number}") for number in range(5)]
    for rows in (tuple(urls), (url for url in urls), iter(urls), dict.fromkeys(urls).keys(), set(urls)):
        responses = loamy.send(rows).raise_for_failures()
        assert sorted(response.json()["args"]["n"] for response in responses) == ["0", "1", "2", "3", "4"]


def test_an_iterable_that_raises_leaves_send_as_itself_before_anything_is_sent(server: TestServer) -> None:
    def rows() -> Iterator[str]:
        yield server.url("/json")
        raise LookupError("the table is gone")

    with pytest.raises(LookupError, match="the table is gone"):
        loamy.send(rows())
    assert server.requests == []


def test_five_thousand_rows_come_back_in_order(server: TestServer) -> None:
    rows = [server.url(f"/anything?n={number}") for number in range(5000)]
    responses = loamy.send(rows).raise_for_failures()
    assert [response.json()["args"]["n"] for response in responses] == [str(number) for number in range(5000)]
    assert [response.index for response in responses] == list(range(5000))
    assert [response.request for response in responses] == rows
    seen = sorted(int(request.target.rpartition("=")[2]) for request in server.requests)
    assert seen == list(range(5000)), "each row is sent once"
    assert server.counts["max_in_flight"] <= 100


def test_a_row_whose_own_code_raises_fails_alone(server: TestServer) -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("out of order")

    class Stubborn:
        @property
        def http_op(self) -> str:
            raise RuntimeError("no method today")

    responses = loamy.send([{"url": server.url("/json"), "headers": Hostile(a="b")}, Stubborn(), server.url("/json")])
    assert [response.kind for response in responses] == ["bad_request", "bad_request", None]
    assert "out of order" in str(responses[0].error) and "no method today" in str(responses[1].error)
    assert len(server.requests) == 1


def test_params_join_the_urls_own_query_as_people_know_it(server: TestServer) -> None:
    rows: list[Any] = [
        {"url": server.url("/anything?a=1"), "params": {"b": "2"}},
        {"url": server.url("/anything?"), "params": {"b": "2"}},
        {"url": server.url("/anything#part"), "params": {"b": "2"}},
        {"url": server.url("/anything"), "params": "raw=1&x=%20"},
        {"url": server.url("/anything"), "params": [("k", "1"), ("k", "2")]},
        {"url": server.url("/anything"), "params": {"s": "a+b c&d=e/ä?", "empty": ""}},
        {"url": server.url("/anything"), "params": {}},
        {"url": server.url("/anything?sig=%2fA%2B&e=a'b"), "params": {"b": 2**70}},
    ]
    loamy.send(rows, concurrency=1).raise_for_failures()
    assert [seen.target for seen in server.requests] == [
        "/anything?a=1&b=2",
        "/anything?b=2",
        "/anything?b=2",
        "/anything?raw=1&x=%20",
        "/anything?k=1&k=2",
        "/anything?s=a%2Bb+c%26d%3De/%C3%A4?&empty=",
        "/anything",
        "/anything?sig=%2fA%2B&e=a'b&b=1180591620717411303424",
    ]


def test_a_row_of_userinfo_becomes_basic_auth_and_leaves_no_trace(server: TestServer) -> None:
    address = server.url("/anything").replace("http://", "http://user%40corp:p%3Aw@")
    [response] = loamy.send([address]).raise_for_failures()
    [seen] = server.requests
    assert seen.header("authorization") == "Basic dXNlckBjb3JwOnA6dw=="
    assert seen.header("host") == server.url("").removeprefix("http://")
    assert "p%3Aw" not in response.url and "user" not in response.url
    assert "p%3Aw" not in repr(response)


def test_a_raw_url_is_sent_byte_for_byte(server: TestServer) -> None:
    url = server.url("/anything/../a%zz?x=<a>|'\"")
    loamy.send([{"url": url, "raw_url": True}])
    assert server.requests[0].target == "/anything/../a%zz?x=<a>|'\""


def test_headers_as_a_list_are_sent_in_order_and_may_repeat(server: TestServer) -> None:
    pairs = [("X-One", "1"), ("x-two", "a"), ("X-One", "2"), ("X-Bytes", b"\xe4")]
    loamy.send([{"url": server.url("/json"), "headers": pairs}]).raise_for_failures()
    own = [(name, value) for name, value in server.requests[0].headers if name.lower().startswith("x-")]
    assert own == [("X-One", "1"), ("x-two", "a"), ("X-One", "2"), ("X-Bytes", "ä")], (
        "spelling as given, latin-1 as read"
    )


def test_a_method_of_none_is_none_given(server: TestServer) -> None:
    [response] = loamy.send([{"url": server.url("/json"), "method": None}]).raise_for_failures()
    assert response.method == "GET" and repr(response).startswith("<Response 0: status 200 (GET ")
    assert [seen.method for seen in server.requests] == ["GET"]


@pytest.mark.parametrize("key", ["params", "headers", "json"])
def test_a_row_that_changes_while_it_is_read_is_sent_as_it_was(server: TestServer, key: str) -> None:
    class Touching(dict[str, str]):
        def items(self) -> Any:
            row.update(tag="late", timeout=20)
            return super().items()

    row: dict[str, Any] = {"method": "POST", "url": server.url("/anything"), key: Touching(a="1"), "cost": None}
    [response] = loamy.send([row]).raise_for_failures()
    assert response.tag is None
    [seen] = server.requests
    assert (seen.method, seen.target) == ("POST", "/anything?a=1" if key == "params" else "/anything")


def test_a_mapping_that_changes_while_it_is_read_fails_its_row_alone(server: TestServer) -> None:
    class Number(int):
        def __int__(self) -> int:
            params[f"n{len(params)}"] = 1
            return 7

    params: dict[str, Any] = {"a": Number(1), "b": 2}
    responses = loamy.send([{"url": server.url("/anything"), "params": params}, server.url("/json")])
    assert [response.ok for response in responses] == [True, True]
    assert sorted(seen.target for seen in server.requests) == ["/anything?a=7&b=2", "/json"]


def test_any_mapping_is_a_row_a_form_and_a_timeout(server: TestServer) -> None:
    url = server.url("/anything")
    rows: list[Any] = [
        UserDict({"method": "PUT", "url": url, "tag": 5, "json": {"a": 1}}),
        MappingProxyType({"url": url}),
        {"method": "POST", "url": url, "data": UserDict({"a": "b c", "d": ["1", "2"]})},
        {"url": server.url("/hang"), "timeout": UserDict(total=0.2)},
        UserDict({"url": url, "method": "POST", "jsn": 1, "tag": "mine"}),
    ]
    responses = loamy.send(rows, concurrency=1)
    assert [response.kind for response in responses] == [None, None, None, "timeout.total", "bad_request"]
    assert [response.tag for response in responses] == [5, None, None, None, "mine"]
    assert [response.method for response in responses] == ["PUT", "GET", "POST", "GET", "POST"]
    assert responses[4].url == url and responses[0].request is rows[0]
    seen = sorted((seen.method, seen.body) for seen in server.requests if seen.target == "/anything")
    assert seen == [("GET", b""), ("POST", b"a=b+c&d=1&d=2"), ("PUT", b'{"a": 1}')]


HUGE: Any = 10**400
HALF = "a\udc80"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"max_redirects": -1}, "max_redirects is -1; it must be a number from 0 to 65535"),
        ({"max_redirects": 70000}, "max_redirects is 70000; it must be a number from 0 to 65535"),
        ({"max_redirects": True}, "max_redirects must be a number from 0 to 65535, not bool"),
        ({"max_redirects": "3"}, "max_redirects must be a number from 0 to 65535, not str"),
        ({"data": 5}, "data must be bytes, str, a mapping or a list of pairs, not int"),
        ({"data": [1, 2]}, "data is a list, whose items must be pairs of name and value, not int"),
        ({"data": [("a", "b", "c")]}, "data is a list, whose items must be pairs of name and value, not tuple"),
        ({"data": {"a": HALF}}, "data holds half of a surrogate pair, which has no UTF-8"),
        ({"data": HALF}, "data holds half of a surrogate pair, which has no UTF-8"),
        ({"content": HALF}, "content holds half of a surrogate pair, which has no UTF-8"),
        ({"content": {}}, "content must be bytes or str, not dict"),
        ({"params": HALF}, "the query holds half of a surrogate pair, which has no UTF-8"),
        ({"params": {HALF: 1}}, "a query parameter holds half of a surrogate pair, which has no UTF-8"),
        ({"params": {"a": HALF}}, "a query parameter holds half of a surrogate pair, which has no UTF-8"),
        ({"timeout": 0}, "timeout is 0; it must be above 0, or None for no limit"),
        ({"timeout": -HUGE}, "timeout is below 0; it must be above 0, or None for no limit"),
        ({"timeout": 5e-324}, "timeout is 5e-324; it must be a nanosecond or more, or None for no limit"),
        ({"timeout": {"read": "soon"}}, "timeout must be a number of seconds, not str"),
        ({"timeout": (1, 2, 3)}, "timeout must be seconds, or a (connect, read) pair; this one has 3 parts"),
        ({"cost": -1}, "cost is -1; it must be a whole number, 0 or more"),
    ],
)
def test_what_is_said_of_a_row_names_its_key_and_what_is_wrong(
    server: TestServer, own: dict[str, Any], message: str
) -> None:
    url = server.url("/anything")
    bad, good = loamy.send([{"url": url, **own}, server.url("/json")], limits={"tokens": "1000/s"})
    assert str(bad.error) == f"bad_request: {message} (GET {url})"
    assert good.ok and len(server.requests) == 1


def test_a_url_that_has_no_utf_8_says_so(server: TestServer) -> None:
    for row in (f"http://h/{HALF}", ("GET", f"http://h/{HALF}"), {"url": f"http://h/{HALF}"}):
        [response] = loamy.send([row])
        assert str(response.error).startswith(
            "bad_request: url holds half of a surrogate pair, which has no UTF-8 (GET "
        )


@pytest.mark.parametrize("timeout", [HUGE, 1e300, [30, HUGE], {"read": HUGE}], ids=["int", "float", "pair", "phases"])
def test_a_timeout_beyond_what_a_clock_can_hold_is_none(server: TestServer, timeout: Any) -> None:
    [response] = loamy.send([{"url": server.url("/json"), "timeout": timeout}])
    assert response.ok
    assert len(server.requests) == 1
