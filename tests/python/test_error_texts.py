"""What each kind of failure says, whole and word for word."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import loamy
import pytest
from loamy.testing import TestServer

AT_ONCE_S = 1.0
"""How long a failure may take that nobody has to wait for."""


def told(row: Any, **policy: Any) -> str:
    """Send one row and return what its failure says, the peer's port as PORT."""
    began = time.monotonic()
    [response] = loamy.send([row], **{"timeout": 20, **policy})
    assert response.error is not None
    assert str(response.error).startswith(f"{response.kind}: ") and response.error.kind == response.kind
    if "timeout" not in policy:
        assert time.monotonic() - began < AT_ONCE_S
    return str(response.error)


KEYS = (
    "method, url, params, json, data, content, headers, timeout, tag, allow_redirects, follow_redirects, max_redirects, "
    "verify, extra_ca, tls_min, raw_url, cost, limit_key"
)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            "api.x.com/v1",
            'bad_request: the URL "api.x.com/v1" has no scheme (GET api.x.com/v1)\n'
            'hint: write it whole, as in "http://api.x.com/v1"',
        ),
        ("", "bad_request: the URL is empty (GET )"),
        ("http://h:99999/", "bad_request: the URL is not valid: invalid port number (GET http://h:99999/)"),
        ("http://[::1", "bad_request: the URL is not valid: invalid IPv6 address (GET http://[::1)"),
        (
            "http://h/\n",
            "bad_request: the URL holds the control character '\\n' (GET http://h/\n)\n"
            "hint: the URL ends with a line break; strip it",
        ),
        ("http://h/ ", "bad_request: the URL begins or ends with a space (GET http://h/ )"),
        ("ftp://h/x", 'blocked: the scheme "ftp" is not spoken; "http" and "https" are (GET ftp://h/x)'),
        (
            ("get", "http://h/"),
            'bad_request: method "get" is unknown (GET http://h/)\nhint: methods are case-sensitive; use "GET"',
        ),
        (("GE T", "http://h/"), "bad_request: method \"GE T\" holds ' ' (GET http://h/)"),
        (("", "http://h/"), "bad_request: the method is empty (GET http://h/)"),
        (
            {"method": "TRACE", "url": "http://h/", "content": "x"},
            "bad_request: a TRACE request has no body (RFC 9110 §9.3.8) (TRACE http://h/)",
        ),
        ({"method": "GET"}, 'bad_request: the row has no "url" (GET )'),
        (5, "bad_request: a row is a URL, a (method, url) pair, a dict or a RequestMap, not int (GET )"),
        (
            ("GET", "http://h/", 1),
            "bad_request: a pair is (method, url); this row has 3 parts; what has more to say is a dict (GET http://h/)",
        ),
        (("http://h/",), "bad_request: a pair is (method, url); this row has 1 parts (GET http://h/)"),
        (
            ("http://u:p@h/", "POST"),
            "bad_request: a pair is (method, url); this one begins with a URL (POST http://***@h/)",
        ),
        (
            "localhost:8080/x",
            'blocked: the scheme "localhost" is not spoken; "http" and "https" are (GET localhost:8080/x)\n'
            'hint: write it whole, as in "http://localhost:8080/x"',
        ),
        (
            "/a",
            'bad_request: the URL "/a" has no scheme (GET /a)\nhint: write it whole, as in "http://example.com/a"',
        ),
        ({"url": 5}, "bad_request: url must be str, not int (GET )"),
        (
            {"url": "http://h/", "json": 1, "data": "x"},
            "bad_request: a row has one body; this one has json and data (GET http://h/)",
        ),
        (
            {"url": "http://h/", "json": {1}},
            "bad_request: the body has no form in JSON: Object of type set is not JSON serializable (GET http://h/)",
        ),
        (
            {"url": "http://h/", "json": float("nan")},
            "bad_request: the body has no form in JSON: Out of range float values are not JSON compliant: nan (GET http://h/)",
        ),
        (
            {"url": "http://h/", "headers": {"a": "b\r\nc: d"}},
            "bad_request: header a: its value holds the control character '\\r' (GET http://h/)",
        ),
        ({"url": "http://h/", "headers": {"a b": "c"}}, "bad_request: header name \"a b\" holds ' ' (GET http://h/)"),
        ({"url": "http://h/", "headers": {"a": 5}}, "bad_request: header a must be str, not int (GET http://h/)"),
        (
            {"url": "http://h/", "headers": [("Host", "a"), ("host", "b")]},
            "bad_request: header Host is set twice (GET http://h/)",
        ),
        (
            {"url": "http://h/", "method": "POST", "headers": {"Content-Length": "5"}, "content": "x"},
            'bad_request: header Content-Length is "5", and the body has 1 bytes; leave it out, it is added (POST http://h/)',
        ),
        (
            {"url": "http://h/", "timeout": -1},
            "bad_request: timeout is -1; it must be above 0, or None for no limit (GET http://h/)",
        ),
        (
            {"url": "http://h/", "timeout": {"conect": 1}},
            'bad_request: timeout has no phase "conect"; it has acquire, resolve, connect, tls, write, first_byte, read, '
            "total (GET http://h/)",
        ),
        (
            {"url": "http://h/", "frobnicate": 1},
            f'bad_request: the row\'s key "frobnicate" is unknown; known are {KEYS} (GET http://h/)',
        ),
    ],
    ids=itertools.count(),
)
def test_a_row_that_cannot_be_sent_says_why(row: Any, text: str) -> None:
    assert told(row) == text


def test_a_refused_loopback_says_who_refused_and_asks_for_the_server(refused_port: int) -> None:
    port = refused_port
    assert told(f"http://127.0.0.1:{port}/v1") == (
        f"connect.refused: 127.0.0.1:{port} refused the connection (GET http://127.0.0.1:{port}/v1, attempt 1)\n"
        f"hint: nothing listens on port {port} of this machine; is the server running?"
    )


def test_a_network_that_cannot_be_reached_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # A socket without the right to broadcast is refused by the system itself: nothing leaves the machine.
    assert told("http://255.255.255.255/") == (
        "connect.unreachable: no route to 255.255.255.255:80 (GET http://255.255.255.255/, attempt 1)"
    )


def test_an_address_that_cannot_be_connected_to_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # A link-local address without its link.
    assert told("http://[fe80::1]/") == (
        "connect: no connection to [fe80::1]:80: Invalid argument (os error 22) (GET http://[fe80::1]/, attempt 1)"
    )


def test_an_ignored_proxy_is_hinted_at(child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://user:s3cr3t@proxy:3128")
    code, out, err = child(
        """
        import loamy
        print(loamy.send(["http://nosuch.invalid/"], timeout=5)[0].error)
        """
    ).end()
    assert code == 0, err
    assert out.split("\n", 1)[1] == "hint: HTTP_PROXY is set but not used: proxies are not spoken yet\n"
    assert "s3cr3t" not in out


def test_a_name_without_an_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # The reserved domain: resolvers answer it themselves (RFC 6761 §6.4).
    [response] = loamy.send(["http://nosuch.invalid/v1"], timeout=20)
    assert response.kind == "dns" and isinstance(response.error, loamy.DNSError)
    text = str(response.error)
    assert text.startswith("dns: the look-up of nosuch.invalid failed: ")
    assert text.endswith(" (GET http://nosuch.invalid/v1, attempt 1)")


WHOLE = r"send HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"


@pytest.mark.parametrize(
    ("steps", "policy", "text"),
    [
        (["read", "close"], {}, "closed: the connection closed before the response began ({row})"),
        (["read", "reset"], {}, "closed: the connection broke before the response began ({row})"),
        (["read", WHOLE, "close"], {}, "incomplete: the connection closed after 3 of 10 bytes of the body ({row})"),
        (
            ["read", r"send HTTP/1.1 abc\r\n\r\n", "close"],
            {},
            'protocol: "HTTP/1.1 abc" is no status line of HTTP/1.1 ({row})',
        ),
        (
            ["read", "send-coded gzip flip=12 : hello hello hello", "close"],
            {},
            "decode: the gzip body does not match its checksum ({row})",
        ),
        (
            ["read", r"send HTTP/1.1 200 OK\r\nX: ", f"repeat 100 {'a' * 60}", "close"],
            {"max_head": 1000},
            "too_large: the response head is larger than 1000 bytes ({row})",
        ),
        (
            ["read", r"send HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nhel", "hold"],
            {"max_body": 1000},
            "too_large: the body is 10000 bytes large, more than 1000 ({row})",
        ),
        (
            ["read", "hold"],
            {"timeout": {"first_byte": 0.2}},
            "timeout.first_byte: no response from {peer} within 0.2 s ({row})",
        ),
        (
            ["read", WHOLE, "hold"],
            {"timeout": {"read": 0.25}},
            "timeout.read: the response of {peer} paused for 0.25 s ({row})",
        ),
        (["read", "hold"], {"timeout": 0.2}, "timeout.total: no whole response from {peer} within 0.2 s ({row})"),
        (
            ["read", r"send HTTP/1.1 302 Found\r\nLocation: /v1?token=t\r\nContent-Length: 0\r\n\r\n", "again"],
            {"max_redirects": 2},
            "redirect: more than 2 redirects ({row})",
        ),
        (
            ["read", r"send HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n", "close"],
            {},
            'redirect: the Location "http://[::1/" is not valid: invalid IPv6 address ({row})',
        ),
        (
            ["read", r"send HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "close"],
            {},
            'blocked: the scheme "file" is not spoken; "http" and "https" are ({row})',
        ),
    ],
    ids=itertools.count(),
)
def test_a_row_that_fails_on_the_way_says_where(
    script: Callable[..., Any], steps: list[str], policy: dict[str, Any], text: str
) -> None:
    for method in ("GET", "POST"):
        # Each has a peer of its own: a connection kept by the first may be closing when the second takes it.
        peer = script(*steps)
        said = told((method, peer.url("/v1?token=t")), **policy)
        # The hop that failed is named: a POST that was redirected goes on as a GET (RFC 9110 §15.4.3).
        hop = "GET" if "more than 2 redirects" in text else method
        row = f"{hop} {peer.base}/v1?token=***, attempt 1"
        assert said == text.format(peer=f"127.0.0.1:{peer.port}", row=row)


def test_a_row_after_the_deadline_says_that_it_was_not_sent(server: TestServer) -> None:
    responses = loamy.send([server.url("/hang"), server.url("/json?token=t")], concurrency=1, deadline=0.2)
    assert str(responses[1].error) == (
        f"not_sent: the deadline of the batch passed before this row's turn (GET {server.url('/json?token=***')})"
    )


def test_a_body_that_is_not_json_says_what_json_says(server: TestServer) -> None:
    [response] = loamy.send([server.url("/html")])
    with pytest.raises(loamy.JSONDecodeError) as caught:
        response.json()
    assert str(caught.value) == (
        f"not_json: the body of 60 bytes is not JSON: Expecting value (GET {server.url('/html')}, status 200)"
    )
