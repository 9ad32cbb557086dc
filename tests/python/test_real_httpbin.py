"""Against a real httpbin."""

from __future__ import annotations

from typing import Any

import loamy
import pytest
from loamy.session import Clump, RequestMap
from zconcurrent import zsession

SIX: list[Any] = ["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_each_method_echoes_what_was_sent(httpbin: str, method: str) -> None:
    row = {
        "method": method,
        "url": f"{httpbin}/{method.lower()}?own=1",
        "params": {"q": "a b+c", "n": [1, 2]},
        "headers": {"X-Own": "grün"},
        "json": {"ä": [1, None, True]},
    }
    [response] = loamy.send([row]).raise_for_failures()
    echo = response.json()
    assert echo["args"] == {"own": "1", "q": "a b+c", "n": ["1", "2"]}
    assert echo["headers"]["User-Agent"] == f"loamy/{loamy.__version__}"
    assert echo["headers"]["X-Own"].encode("latin-1").decode() == "grün"
    if method != "GET":
        assert echo["json"] == {"ä": [1, None, True]} and echo["data"] == '{"\\u00e4": [1, null, true]}'


def test_options_is_answered(httpbin: str) -> None:
    [response] = loamy.send([("OPTIONS", f"{httpbin}/get")])
    assert response.ok and "GET" in response.headers["allow"] and response.content == b""


def test_the_contract_classes_send_all_six(httpbin: str) -> None:
    rows = [RequestMap(f"{httpbin}/anything", method, {"m": method}, {"q": "1"}, {"X-Own": "v"}) for method in SIX]
    old = [zsession.RequestMap(f"{httpbin}/anything", method, {"m": method}, {"q": "1"}) for method in SIX]
    new_answers = [response.body for response in Clump(rows).send_requests()]
    old_answers = [one.body for one in zsession.zSession(old).sendRequests(True).requestResponses]
    for answers in (new_answers, old_answers):
        by_method = {answer["method"]: answer for answer in answers if answer}
        for method in SIX:
            if method != "OPTIONS":  # httpbin answers that itself, without a body
                assert by_method[method]["args"] == {"q": "1"}
                assert by_method[method]["json"] == (None if method == "GET" else {"m": method})


def test_a_form_is_a_form(httpbin: str) -> None:
    row = {"method": "POST", "url": f"{httpbin}/post", "data": {"a": "b c", "d": ["1", "ü"]}}
    [response] = loamy.send([row])
    assert response.json()["form"] == {"a": "b c", "d": ["1", "ü"]}


@pytest.mark.parametrize(("coding", "flag"), [("gzip", "gzipped"), ("deflate", "deflated"), ("brotli", "brotli")])
def test_codings_are_undone(httpbin: str, coding: str, flag: str) -> None:
    [response] = loamy.send([f"{httpbin}/{coding}"]).raise_for_failures()
    assert response.json()[flag] is True


def test_statuses_come_as_they_are(httpbin: str) -> None:
    codes = [200, 201, 204, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504]
    responses = loamy.send([f"{httpbin}/status/{code}" for code in codes])
    assert [response.status_code for response in responses] == codes
    assert all(response.error is None for response in responses)


@pytest.mark.parametrize("route", ["redirect", "relative-redirect", "absolute-redirect"])
def test_redirects_are_followed(httpbin: str, route: str) -> None:
    [response] = loamy.send([f"{httpbin}/{route}/4"])
    assert response.ok and response.redirects == 4 and response.url == f"{httpbin}/get"


@pytest.mark.parametrize(("code", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirected_post_keeps_or_changes_its_method_by_the_status(httpbin: str, code: int, method: str) -> None:
    row = {
        "method": "POST",
        "url": f"{httpbin}/redirect-to",
        "params": {"url": f"{httpbin}/anything", "status_code": code},
        "json": {"a": 1},
    }
    [response] = loamy.send([row]).raise_for_failures()
    echo = response.json()
    assert echo["method"] == method and echo["json"] == ({"a": 1} if method == "POST" else None)
    assert ("Content-Type" in echo["headers"]) == (method == "POST")


def test_userinfo_is_basic_auth(httpbin: str) -> None:
    host = httpbin.removeprefix("http://")
    rows = [f"http://us%3Aer:p%40ss@{host}/headers", f"http://u:p@{host}/basic-auth/u/p", f"{httpbin}/basic-auth/u/p"]
    encoded, good, without = loamy.send(rows)
    assert encoded.json()["headers"]["Authorization"] == "Basic dXM6ZXI6cEBzcw=="
    assert good.ok and good.json() == {"authenticated": True, "user": "u"} and "p@" not in good.url
    assert without.status_code == 401 and "Basic" in without.headers["www-authenticate"]


def test_many_at_once_each_get_their_own(httpbin: str) -> None:
    responses = loamy.send([f"{httpbin}/get?n={n}" for n in range(200)], concurrency=16).raise_for_failures()
    assert [response.json()["args"]["n"] for response in responses] == [str(n) for n in range(200)]


def test_bytes_and_streams_arrive_whole(httpbin: str) -> None:
    plain, chunked, image = loamy.send(
        [f"{httpbin}/bytes/70000", f"{httpbin}/stream-bytes/50000?chunk_size=777", f"{httpbin}/image/png"]
    ).raise_for_failures()
    assert (len(plain.content), len(chunked.content), image.content[:4]) == (70_000, 50_000, b"\x89PNG")
    [lines] = loamy.send([f"{httpbin}/stream/5"])
    assert len(lines.text.splitlines()) == 5


def test_cookies_of_one_row_do_not_reach_another(httpbin: str) -> None:
    rows = [f"{httpbin}/cookies/set/a/b", f"{httpbin}/cookies"]
    first, second = loamy.send(rows, concurrency=1)
    assert first.json() == {"cookies": {}} and second.json() == {"cookies": {}}
    [asked] = loamy.send([rows[0]], follow_redirects=False)
    assert asked.headers["set-cookie"].startswith("a=b")


def test_encodings_of_text_are_read(httpbin: str) -> None:
    [response] = loamy.send([f"{httpbin}/encoding/utf8"])
    assert "STARGΛ̊TE" in response.text
