"""What people sign goes out as they computed it: JSON as ``json.dumps`` writes it, queries as they know them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import loamy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"]))
)
KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
UNHURRIED = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def bodies(server: TestServer, values: list[Any]) -> list[bytes]:
    """Send each value as JSON and return the bodies that the server received, in order."""
    before = server.counts["requests"]
    rows = [{"method": "POST", "url": server.url("/anything"), "json": value} for value in values]
    loamy.send(rows, concurrency=1).raise_for_failures()
    return [seen.body for seen in server.requests[before:]]


@UNHURRIED
@given(values=st.lists(VALUES, min_size=5, max_size=20))
def test_json_goes_out_as_json_dumps_writes_it(server: TestServer, values: list[Any]) -> None:
    values = [value for value in values if value is not None]
    assert bodies(server, values) == [json.dumps(value).encode() for value in values]


class Number(int):
    def __repr__(self) -> str:
        return "a number"


class Words(str):
    __slots__ = ()


class Table(dict[str, Any]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": 2},
        [2**63, -(2**64), 10**300, 0.1, 1e16, 1e-7, -0.0, 5e-324, 1.7976931348623157e308],
        ['\x00\x1f\x7f\x80 "\\/', "\ud83d\ude00", "\ud800", "é", "\u2028\U0010ffff"],
        [Number(5), Words("w"), Table(a=1), True, False, None, (1, 2)],
        {1: "a", None: "b", False: "c", 2.5: "d", Words("w"): "e"},
        json.loads("[" * 200 + "]" * 200),
        {"": {}},
    ],
)
def test_odd_values_go_out_as_json_dumps_writes_them(server: TestServer, value: Any) -> None:
    assert bodies(server, [value]) == [json.dumps(value).encode()]
    body = {"v": value}
    Clump([RequestMap(server.url("/anything"), "POST", body)]).send_requests()
    assert server.requests[-1].body == json.dumps(body).encode()


def cycle() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def deep() -> list[Any]:
    own: list[Any] = []
    for _ in range(100_000):
        own = [own]
    return own


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), [-float("inf")], b"bytes", {1, 2}, object(), {(1, 2): 3}, {b"k": 1}, cycle(), deep()],
    ids=["nan", "inf", "-inf", "bytes", "set", "object", "tuple-key", "bytes-key", "cycle", "deep"],
)
def test_what_has_no_form_in_json_is_the_rows_bad_request(server: TestServer, value: Any) -> None:
    bad, good = loamy.send(
        [{"method": "POST", "url": server.url("/anything"), "json": value}, {"url": server.url("/anything"), "json": 1}]
    )
    assert bad.kind == "bad_request" and str(bad.error).startswith("bad_request: the body has no form in JSON: ")
    assert good.ok and [seen.body for seen in server.requests] == [b"1"]


@UNHURRIED
@given(params=st.lists(st.tuples(TEXT, TEXT | st.integers() | st.booleans()), min_size=1, max_size=8))
def test_query_parameters_mean_at_the_server_what_they_meant_here(
    server: TestServer, params: list[tuple[str, Any]]
) -> None:
    before = server.counts["requests"]
    loamy.send([{"url": server.url("/anything?own=%2B"), "params": params}]).raise_for_failures()
    target = server.requests[before].target
    path, _, query = target.partition("?")
    assert path == "/anything" and query.startswith("own=%2B&")
    written = {True: "true", False: "false"}
    expected = [(name, written[value] if isinstance(value, bool) else str(value)) for name, value in params]
    assert parse_qsl(query, keep_blank_values=True) == [("own", "+"), *expected]


@pytest.mark.parametrize("value", [object(), b"b", float("nan"), float("inf"), {"a": 1}, [[1]], "\ud800"])
def test_a_parameter_without_a_form_is_the_rows_bad_request(server: TestServer, value: Any) -> None:
    bad, good = loamy.send([{"url": server.url("/json"), "params": {"q": value}}, server.url("/json")])
    assert bad.kind == "bad_request" and good.ok and len(server.requests) == 1


def test_a_large_body_of_json_goes_out_whole(server: TestServer) -> None:
    value = {"rows": [{"n": n, "text": "ü" * 20} for n in range(20_000)]}
    assert bodies(server, [value]) == [json.dumps(value).encode()]


@pytest.mark.parametrize("where", ["header", "url", "params"])
def test_long_things_go_out_whole_or_fail_and_are_never_cut(server: TestServer, where: str) -> None:
    long = "x" * 60_000
    row: dict[str, Any] = {"url": server.url("/json")}
    if where == "header":
        row["headers"] = {"X-Long": long}
    elif where == "url":
        row["url"] += f"?q={long}"
    else:
        row["params"] = {f"p{n}": "v" for n in range(5000)}
    [response] = loamy.send([row])
    assert response.ok
    [seen] = server.requests
    if where == "header":
        assert seen.header("x-long") == long
    elif where == "url":
        assert seen.target == f"/json?q={long}"
    else:
        assert seen.target == "/json?" + "&".join(f"p{n}=v" for n in range(5000))
