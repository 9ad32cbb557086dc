"""Credentials never reach a text that a person or a log may see."""

from __future__ import annotations

import logging
import pickle
from types import MappingProxyType
from typing import Any

import loamy
import pytest
import zconcurrent.zsession
from loamy import Policy
from loamy._loamy import is_secret_header
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer

SECRET = "s3cr3t"
HEADERS = {
    "Authorization": f"Bearer {SECRET}",
    "cookie": f"a={SECRET}",
    "Proxy-Authorization": SECRET,
    "X-Api-Key": SECRET,
    "x-auth-token": SECRET,
}
QUERY = f"token={SECRET}&key={SECRET}&signature={SECRET}&plain=seen"


def texts_of(response: loamy.Response) -> list[str]:
    texts = [repr(response), str(response)]
    if response.error is not None:
        texts += [str(response.error), repr(response.error), *map(str, response.error.args)]
    try:
        response.raise_for_status()
    except loamy.LoamyError as error:
        texts += [str(error), repr(error)]
    return texts


@pytest.mark.parametrize(
    "path", ["/json", "/status/404", "/reset", "/html", "/redirect-to?url=/status/500"], ids=lambda path: path[1:6]
)
def test_no_text_of_a_response_shows_a_secret(server: TestServer, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    separator = "&" if "?" in path else "?"
    url = server.url(f"{path}{separator}{QUERY}").replace("http://", f"http://user:{SECRET}@")
    responses = loamy.send([{"url": url, "headers": HEADERS}, {"url": url + "#x", "headers": {"bad name": SECRET}}])
    texts = [repr(responses), responses._repr_html_(), repr(responses.counts())]
    for response in responses:
        texts += texts_of(response)
        texts += texts_of(pickle.loads(pickle.dumps(response)))
    try:
        responses.raise_for_failures()
    except loamy.FailedResponses as error:
        texts += [str(error), repr(error)]
    assert not [text for text in texts if SECRET in text]
    assert SECRET not in caplog.text
    assert "plain=seen" in repr(responses[0]) or path.startswith("/redirect-to")
    assert server.requests[0].header("x-api-key") == SECRET, "the server got it all the same"


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@nosuch.invalid/?plain=seen",
        f"http://{SECRET}@127.0.0.1:1/",
        f"http://127.0.0.1:1/?access_token={SECRET}",
        f"http://127.0.0.1:1/?api_key={SECRET}&a=b",
        f"http://127.0.0.1:1/?X-Amz-Signature={SECRET}",
        f"http://u:{SECRET}@[::1/",
        f"http://u:{SECRET}@host:99999/?token={SECRET}",
        f"ftp://u:{SECRET}@host/",
        f"u:{SECRET}@host/?token={SECRET}",
        f"//u:{SECRET}@host/",
        f"http://u:{SECRET}@h ost/",
        f"http://u:{SECRET}/{SECRET}@127.0.0.1:9/",
        f"http://u:{SECRET}#{SECRET}@127.0.0.1:9/",
        f"http://u:{SECRET}?{SECRET}@127.0.0.1:9/",
        f"http://u:{SECRET}\\{SECRET}@127.0.0.1:9/",
        f"u:{SECRET}/{SECRET}@host/",
        f"http://h/?token={SECRET}\n",
    ],
)
def test_no_text_of_a_row_that_cannot_be_sent_shows_a_secret(url: str) -> None:
    rows: list[Any] = [url, ("POST", url), (url, "POST"), [url] * 3, {"url": url, "jsn": 1}, RequestMap(url, "GET")]
    for response in loamy.send(rows, timeout=5):
        assert response.error is not None
        assert not [text for text in texts_of(response) if SECRET in text]


def test_no_header_that_is_refused_shows_its_value() -> None:
    [response] = loamy.send([{"url": "http://127.0.0.1:1/", "headers": {"Authorization": f"{SECRET}\n"}}])
    assert response.kind == "bad_request" and not [text for text in texts_of(response) if SECRET in text]


@pytest.mark.parametrize(
    "make",
    [
        lambda url: RequestMap(url, "POST", None, None, HEADERS),
        lambda url: zconcurrent.zsession.RequestMap(url, "POST", None, None, HEADERS),
    ],
    ids=["loamy", "zconcurrent"],
)
def test_the_repr_of_a_request_map_masks_and_cuts(make: Any) -> None:
    row = make(f"http://u:{SECRET}@h/?{QUERY}")
    assert SECRET not in repr(row) and "plain=seen" in repr(row) and "'Authorization': '***'" in repr(row)
    assert SECRET in str(row.url) and row.headers["Authorization"] == f"Bearer {SECRET}", (
        "the value itself is untouched"
    )
    row.body = {"long": "x" * 10_000}
    assert len(repr(row)) < 1000


def test_the_repr_of_a_request_response_masks_and_cuts(server: TestServer) -> None:
    rows = [RequestMap(server.url(f"/json/5000?{QUERY}"), "GET", None, None, HEADERS)]
    rows.append(RequestMap(server.url(f"/reset?{QUERY}"), "POST", None, None, HEADERS))
    for response in Clump(rows).send_requests():
        assert SECRET not in repr(response) and len(repr(response)) < 2000


def test_the_repr_of_a_query_parameter_masks_its_secret(server: TestServer) -> None:
    row = RequestMap("http://h/", "GET", None, {"token": SECRET, "plain": "seen"})
    assert SECRET not in repr(row) and "seen" in repr(row)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([("Authorization", SECRET), ("X-Plain", "seen")], [("token", SECRET), ("plain", "seen")]),
        ([["Authorization", SECRET], ["X-Plain", "seen"]], f"token={SECRET}&plain=seen"),
        (MappingProxyType({"apikey": SECRET, "X-Plain": "seen"}), MappingProxyType({"pwd": SECRET, "plain": "seen"})),
        ((("X-Auth", SECRET), ("X-Plain", "seen")), (("jwt", SECRET), ("plain", "seen"))),
    ],
    ids=["pairs", "lists and text", "mappings", "tuples"],
)
def test_the_repr_of_a_request_map_masks_every_form_of_headers_and_query(headers: Any, query: Any) -> None:
    for row in (
        RequestMap("http://h/", "GET", None, query, headers),
        zconcurrent.zsession.RequestMap("http://h/", "GET", None, query, headers),
    ):
        assert SECRET not in repr(row) and repr(row).count("seen") == 2 and repr(row).count("***") == 2


def test_the_repr_of_a_policy_masks_every_form_of_headers() -> None:
    forms: list[Any] = [{"Authorization": SECRET}, [("Authorization", SECRET)], [["Authorization", SECRET]]]
    for headers in [*forms, MappingProxyType(forms[0])]:
        assert SECRET not in repr(Policy(headers=headers)) and "'***'" in repr(Policy(headers=headers))


@pytest.mark.parametrize(
    "name", ["apikey", "X-Auth", "X-Session", "X-Password", "X-Forwarded-Authorization", "X-Secret", "X-JWT"]
)
def test_what_names_a_credential_is_secret(name: str) -> None:
    assert is_secret_header(name)
    assert not any(map(is_secret_header, ("Idempotency-Key", "Content-Type", "X-Author", "ETag", "X-Request-Id")))


def test_a_url_where_a_method_belongs_is_shown_without_its_credentials(server: TestServer) -> None:
    url = server.url(f"/json?token={SECRET}").replace("http://", f"http://user:{SECRET}@")
    method: Any = url
    swapped: list[Any] = [RequestMap("GET", method), zconcurrent.zsession.RequestMap("GET", method)]
    rows: list[Any] = [
        *swapped,
        {"url": "GET", "method": url},
        {"method": f"POST {url}"},
        {"url": server.url("/json"), url: 1},
        {"url": server.url("/json"), "headers": {f"Authorization: Bearer {SECRET}": "x"}},
        f"GET {server.url('/json')}#access_token={SECRET}",
    ]
    responses = loamy.send(rows)
    assert [response.kind for response in responses] == ["bad_request"] * len(rows)
    texts = [repr(responses), repr(responses.rows()[:-1]), *map(repr, swapped)]
    for response in responses:
        texts += [response.method, *texts_of(response)]
    texts += [repr(Clump([swapped[0]]).send_requests())]
    texts += [repr(zconcurrent.zsession.zSession([swapped[1]]).sendRequests(return_exceptions=True))]
    assert not [text for text in texts if SECRET in text]
    assert server.counts["requests"] == 0


def test_logging_is_silent_by_default(server: TestServer, child: Any) -> None:
    code, out, err = child(
        """
        import sys, loamy
        loamy.send([sys.argv[1], "no scheme", "http://127.0.0.1:1/"])
        """,
        server.url("/json"),
    ).end()
    assert (code, out, err) == (0, "", "")
