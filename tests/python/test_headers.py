"""Headers of a response: a dict in canonical spelling that is asked in any."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import loamy
import loamy.testing
import msgspec
import pytest

HEAD = (
    r"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nX-MANY: 1\r\nx-many: 2\r\nSet-Cookie: a=1; Path=/\r\n"
    r"set-cookie: b=2\r\netag: \x22x\x22\r\nX-Latin: gr\xfcn\r\nX-Utf: gr\xc3\xbcn\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok"
)


@pytest.fixture
def headers(script: Callable[..., Any]) -> loamy.Headers:
    peer = script("read", f"send {HEAD}", "close")
    [response] = loamy.send([peer.url()]).raise_for_failures()
    return response.headers


def test_names_that_a_peer_makes_up_are_not_kept_for_ever(script: Callable[..., Any]) -> None:
    peer = script("read", r"send HTTP/1.1 204 No Content\r\nX-Made-Up-3f81: 1\r\n\r\n", "close")
    [response] = loamy.send([peer.url()]).raise_for_failures()
    [name] = response.headers
    # What is interned may never be freed, depending on the interpreter.
    assert sys.intern("".join(["X-Made-Up-", "3f81"])) is not name


PLAIN = {
    "Content-Type": "text/plain",
    "X-Many": "1, 2",
    "Set-Cookie": "a=1; Path=/",
    "ETag": '"x"',
    "X-Latin": "grün",
    "X-Utf": "grün",
    "X-Empty": "",
    "Content-Length": "2",
}


def test_headers_are_a_dict_in_canonical_spelling(headers: loamy.Headers) -> None:
    assert type(headers) is loamy.Headers and issubclass(loamy.Headers, dict)
    assert dict(headers) == PLAIN and headers == PLAIN and list(headers) == list(PLAIN)


def test_headers_are_found_in_any_spelling(headers: loamy.Headers) -> None:
    for name in ("Content-Type", "content-type", "CONTENT-TYPE", "cOnTeNt-TyPe"):
        assert headers[name] == "text/plain" and headers.get(name) == "text/plain" and name in headers
    assert headers["etag"] == headers["ETAG"] == '"x"'
    assert headers.get("absent") is None and headers.get("absent", "d") == "d" and "absent" not in headers
    with pytest.raises(KeyError) as caught:
        headers["absent"]
    assert caught.value.args == ("absent",)
    assert 5 not in headers  # type: ignore[comparison-overlap]


def test_get_list_has_every_value_that_came(headers: loamy.Headers) -> None:
    assert headers.get_list("x-many") == ["1", "2"]
    assert headers.get_list("SET-COOKIE") == ["a=1; Path=/", "b=2"]
    assert headers.get_list("x-latin") == ["grün"] and headers.get_list("absent") == []
    assert headers.get_list("x-empty") == [""]


def test_raw_has_the_bytes_and_order_of_the_wire(headers: loamy.Headers) -> None:
    assert headers.raw == [
        (b"content-type", b"text/plain"),
        (b"X-MANY", b"1"),
        (b"x-many", b"2"),
        (b"Set-Cookie", b"a=1; Path=/"),
        (b"set-cookie", b"b=2"),
        (b"etag", b'"x"'),
        (b"X-Latin", b"gr\xfcn"),
        (b"X-Utf", b"gr\xc3\xbcn"),
        (b"X-Empty", b""),
        (b"Content-Length", b"2"),
    ]


def test_headers_go_through_json_and_msgspec_as_a_dict(headers: loamy.Headers) -> None:
    assert json.loads(json.dumps(headers)) == PLAIN
    assert msgspec.json.decode(msgspec.json.encode(headers)) == PLAIN
    assert msgspec.to_builtins(headers) == PLAIN
    assert {**headers} == PLAIN and {"a": "b"} | headers == {"a": "b", **PLAIN}


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), lambda value: value.copy()],
    ids=["copy", "deepcopy", "pickle", "method"],
)
def test_headers_pickle_and_copy_with_what_the_wire_had(
    headers: loamy.Headers, copied: Callable[[loamy.Headers], loamy.Headers]
) -> None:
    after = copied(headers)
    assert type(after) is loamy.Headers and after == headers and after is not headers
    assert after.raw == headers.raw and after.get_list("set-cookie") == headers.get_list("set-cookie")
    after["content-TYPE"] = "other"
    assert headers["content-type"] == "text/plain" and after["Content-Type"] == "other"


def test_headers_can_be_changed_in_any_spelling() -> None:
    headers = loamy.Headers({"content-type": "a"})
    headers["X-own"] = "1"
    headers.update({"x-OWN": "2"})
    assert headers == {"Content-Type": "a", "X-Own": "2"}
    assert headers.setdefault("CONTENT-TYPE", "b") == "a" and headers.setdefault("x-new", "n") == "n"
    assert headers.pop("x-new") == "n" and headers.pop("x-new", "gone") == "gone"
    del headers["x-own"]
    assert headers == {"Content-Type": "a"} and headers.get_list("content-type") == ["a"] and headers.raw == []


def test_headers_are_joined_in_any_spelling() -> None:
    headers = loamy.Headers({"X-Foo": "a", "X-Bar": "b"})
    joined = headers | {"x-foo": "c", "x-new": "n"}
    assert type(joined) is loamy.Headers and joined == {"X-Foo": "c", "X-Bar": "b", "X-New": "n"}
    assert joined["x-NEW"] == "n" and headers == {"X-Foo": "a", "X-Bar": "b"}
    same = headers
    headers |= {"x-foo": "d"}
    assert headers is same and headers == {"X-Foo": "d", "X-Bar": "b"}
    with pytest.raises(TypeError):
        headers | [("a", "b")]  # type: ignore[operator]


def test_changing_one_responses_headers_changes_no_others() -> None:
    with loamy.testing.serve() as server:
        first, second = loamy.send([server.url("/json")] * 2)
        first.headers["X-Own"] = "1"
        assert "X-Own" not in second.headers and first.headers["x-own"] == "1"
        [third] = loamy.send([server.url("/json")])
        assert "X-Own" not in third.headers
