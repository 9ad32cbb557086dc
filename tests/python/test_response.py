"""One response: what it says of the answer, and of a row that has none."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import time
import weakref
from collections.abc import Callable
from typing import Any

import loamy
import pytest
from loamy.testing import TestServer


def test_ok_is_a_whole_answer_below_400(server: TestServer) -> None:
    codes = [200, 204, 299, 301, 304, 399, 400, 404, 429, 500, 503, 599]
    responses = loamy.send([server.url(f"/status/{code}") for code in codes], follow_redirects=False)
    assert [response.status_code for response in responses] == codes
    assert [response.ok for response in responses] == [code < 400 for code in codes]
    assert all(response.error is None and response.kind is None for response in responses)


def test_ok_does_not_ask_whether_it_was_json(server: TestServer) -> None:
    [response] = loamy.send([server.url("/html")])
    assert response.ok and response.raise_for_status() is response
    with pytest.raises(loamy.JSONDecodeError) as caught:
        response.json()
    assert isinstance(caught.value, json.JSONDecodeError)
    assert caught.value.response is response and caught.value.doc == response.text and caught.value.pos == 0


def test_raise_for_status_raises_what_the_row_ended_with(server: TestServer, refused_port: int) -> None:
    missing, refused = loamy.send([server.url("/status/404"), f"http://127.0.0.1:{refused_port}/"])
    with pytest.raises(loamy.HTTPStatusError) as status:
        missing.raise_for_status()
    assert status.value.status_code == 404 and status.value.response is missing and status.value.kind == "status"
    assert str(status.value) == f"status 404 (GET {server.url('/status/404')}, attempt 1)"
    for ask in (refused.raise_for_status, refused.json):
        with pytest.raises(loamy.ConnectError) as error:
            ask()
        assert error.value.kind == "connect.refused"


def test_a_failed_row_has_the_empty_form_of_everything(refused_port: int) -> None:
    url = f"http://127.0.0.1:{refused_port}/x"
    [response] = loamy.send([("DELETE", url)])
    assert (response.status_code, response.content, response.text, response.http_version) == (0, b"", "", "")
    assert (response.url, response.method, response.redirects, response.ok) == (url, "DELETE", 0, False)
    assert dict(response.headers) == {} and response.headers.get("anything") is None
    assert response.attempts >= 1 and response.kind == "connect.refused"


def test_the_error_is_one_object_while_somebody_holds_it(refused_port: int) -> None:
    [response] = loamy.send([f"http://127.0.0.1:{refused_port}/"])
    error = response.error
    assert error is not None and response.error is error
    gone = weakref.ref(error)
    del error
    gc.collect()
    assert gone() is None and response.kind == "connect.refused"


def test_a_response_that_was_raised_from_is_freed_without_the_collector(refused_port: int) -> None:
    gc.collect()
    gc.disable()
    try:
        [response] = loamy.send([f"http://127.0.0.1:{refused_port}/"])
        gone = weakref.ref(response)
        with pytest.raises(loamy.ConnectError):
            response.raise_for_status()
        del response
        gc.enable()
        gc.collect()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("media", "body", "text"),
    [
        ("text/plain; charset=utf-8", "grün €".encode(), "grün €"),
        ("text/plain; charset=ISO-8859-1", b"gr\xfcn", "grün"),
        ('text/plain; charset="windows-1252"', b"5 \x80", "5 €"),
        ("text/plain; charset=shift_jis", "日本".encode("shift_jis"), "日本"),
        ("application/json; charset=utf-16", "[1]".encode("utf-16"), "[1]"),
        ("text/plain", "grün".encode(), "grün"),
        ("text/plain", b"gr\xfcn \xff", "gr\ufffdn \ufffd"),
        ("text/plain; charset=no-such-thing", b"abc\xff", "abc\ufffd"),
        # Codecs that replace nothing, that decode no text, or that warn.
        ("text/plain; charset=idna", b"xn--a\xff", "xn--a\ufffd"),
        ("text/plain; charset=punycode", "grün \xff".encode(), "grün \xff"),
        ("text/plain; charset=undefined", b"abc", "abc"),
        ("text/plain; charset=rot13", b"abc", "abc"),
        ("application/octet-stream", b"\x00\x01", "\x00\x01"),
    ],
)
def test_text_is_decoded_by_the_charset_that_came(server: TestServer, media: str, body: bytes, text: str) -> None:
    row = {"method": "POST", "url": server.url("/echo"), "content": body, "headers": {"Content-Type": media}}
    [response] = loamy.send([row])
    assert response.content == body and response.text == text
    assert response.headers["content-type"] == media


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [1, 2.5, null, true, "\\u00e4"]}',
        b"[]",
        b"5",
        b'"text"',
        b"null",
        b"  [1]\r\n",
        b'{"a": 1, "a": 2}',
        b"[NaN, Infinity]",
        b"123456789012345678901234567890",
        b'"\\ud83d\\ude00"',
        b"[" * 500 + b"]" * 500,
        "[1]".encode("utf-16"),
        b"\xef\xbb\xbf[1]",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_json_is_what_json_loads_makes_of_the_bytes(server: TestServer, body: bytes) -> None:
    [response] = loamy.send([{"method": "POST", "url": server.url("/echo"), "content": body}])
    assert repr(response.json()) == repr(json.loads(body))


@pytest.mark.parametrize("body", [b"", b"{", b"[1,]", b"nul", b"\xff", b"{'a': 1}", b"[" * 100_000])
def test_json_that_is_none_raises_and_keeps_the_answer(server: TestServer, body: bytes) -> None:
    [response] = loamy.send([{"method": "POST", "url": server.url("/echo"), "content": body}])
    assert response.ok and response.content == body
    with pytest.raises(loamy.JSONDecodeError) as caught:
        response.json()
    assert str(caught.value).startswith(f"not_json: the body of {len(body):,} bytes is not JSON: ")
    assert caught.value.response is response


def test_json_takes_the_options_of_json_loads(server: TestServer) -> None:
    [response] = loamy.send([{"method": "POST", "url": server.url("/echo"), "content": b'{"a": 1.10}'}])
    assert response.json(parse_float=str) == {"a": "1.10"}
    assert response.json(object_pairs_hook=list) == [("a", 1.1)]


def test_the_url_is_the_one_that_answered(server: TestServer) -> None:
    [response] = loamy.send([server.url("/redirect/3")])
    assert response.url == server.url("/get") and response.redirects == 3
    assert response.request == server.url("/redirect/3")


def test_the_url_that_answered_keeps_the_fragment_out_of_the_wire(server: TestServer) -> None:
    [response] = loamy.send([server.url("/anything#part")])
    assert response.ok and server.requests[0].target == "/anything"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_the_version_is_the_one_that_the_peer_spoke(script: Callable[..., Any], version: str) -> None:
    peer = script("read", rf"send {version} 200 OK\r\nContent-Length: 2\r\n\r\nok", "close")
    [response] = loamy.send([peer.url()])
    assert response.http_version == version and response.content == b"ok"


def test_elapsed_covers_redirects_and_not_the_wait_for_a_slot(server: TestServer) -> None:
    began = time.monotonic()
    first, second = loamy.send([server.url("/delay/0.3"), server.url("/delay/0.3")], concurrency=1)
    took = time.monotonic() - began
    assert 0.3 <= first.elapsed <= took - 0.3 and 0.3 <= second.elapsed <= took - 0.3


def test_attempts_count_a_second_sending(script: Callable[..., Any]) -> None:
    answer = r"send HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    peer = script("read", answer, "read", "close", "connection", "read", answer, "again")
    responses = loamy.send([peer.url("/1"), peer.url("/2")], concurrency=1)
    assert [(response.ok, response.attempts) for response in responses] == [(True, 1), (True, 2)]
    assert [request["target"] for request in peer.seen()["requests"]] == ["/1", "/2", "/2"]


def test_tags_come_back_as_the_objects_given(server: TestServer) -> None:
    tags = [None, 0, "a", ("t", 1), {"k": [1]}, object()]
    rows = [{"url": server.url("/json"), "tag": tag} for tag in tags]
    rows.append({"url": "no scheme", "tag": tags[-1]})
    responses = loamy.send(rows)
    assert all(response.tag is tag for response, tag in zip(responses, [*tags, tags[-1]], strict=True))


def test_a_response_is_never_changed(server: TestServer) -> None:
    [response] = loamy.send([server.url("/json")])
    for name in ("status_code", "content", "url", "tag"):
        with pytest.raises(AttributeError):
            setattr(response, name, 1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_responses_pickle_and_copy_with_all_they_say(
    server: TestServer, refused_port: int, copied: Callable[[Any], Any]
) -> None:
    rows: list[Any] = [
        {"url": server.url("/redirect/1"), "tag": ("t", 1)},
        server.url("/status/404?X-A=1"),
        f"http://127.0.0.1:{refused_port}/",
        {"method": "POST", "url": server.url("/post"), "headers": {"Idempotency-Key": "mine"}},
    ]
    assert loamy.send(rows)[3].idempotency_key == "mine"
    for before in loamy.send(rows):
        after = copied(before)
        for name in [
            "index",
            "tag",
            "request",
            "method",
            "ok",
            "status_code",
            "content",
            "text",
            "url",
            "http_version",
            "redirects",
            "elapsed",
            "attempts",
            "kind",
            "idempotency_key",
        ]:
            assert getattr(after, name) == getattr(before, name), name
        assert after.headers == before.headers and after.headers.raw == before.headers.raw
        assert repr(after) == repr(before)
        if before.error is not None:
            assert type(after.error) is type(before.error) and str(after.error) == str(before.error)
            with pytest.raises(loamy.ConnectError):
                after.raise_for_status()


def test_the_repr_says_what_became_of_the_row(server: TestServer, refused_port: int) -> None:
    good, bad, none = loamy.send([server.url("/json"), server.url("/status/503"), f"http://127.0.0.1:{refused_port}/a"])
    assert repr(good) == f"<Response 0: status 200 (GET {server.url('/json')})>"
    assert repr(bad) == f"<Response 1: status 503 (GET {server.url('/status/503')})>"
    assert repr(none) == (
        f"<Response 2: connect.refused: 127.0.0.1:{refused_port} refused the connection "
        f"(GET http://127.0.0.1:{refused_port}/a, attempt 1)>"
    )


def test_a_head_has_no_body(server: TestServer) -> None:
    [response] = loamy.send([("HEAD", server.url("/json"))])
    assert response.ok and response.content == b"" and response.headers["content-length"] == "197"


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_048_577, 30_000_000])
def test_bodies_of_any_size_arrive_whole(server: TestServer, size: int) -> None:
    plain, chunked = loamy.send([server.url(f"/bytes/{size}"), server.url(f"/stream-bytes/{size}?chunk_size=9999")])
    assert len(plain.content) == size and plain.content == chunked.content


def test_large_bodies_go_out_whole(server: TestServer) -> None:
    body = bytes(range(256)) * 40_000
    [response] = loamy.send([{"method": "POST", "url": server.url("/echo"), "content": body}])
    assert response.content == body


def test_codings_are_undone_and_the_rest_is_left_alone(server: TestServer) -> None:
    for response in loamy.send([server.url(f"/{coding}") for coding in ("gzip", "deflate", "brotli", "zstd")]):
        assert response.json()["coding"] == response.headers["content-encoding"]
        assert set(response.json()["headers"]["Accept-Encoding"].split(", ")) == {"gzip", "deflate", "br", "zstd"}


def test_a_view_of_the_body_copies_nothing_and_outlives_its_response(server: TestServer) -> None:
    [response, refused] = loamy.send([server.url("/bytes/100000"), "nowhere"])
    content = response.content
    view = memoryview(response)
    assert view.readonly and view.format == "B" and view.shape == (100_000,)
    del response
    assert view == content
    assert bytes(memoryview(refused)) == refused.content == b""
