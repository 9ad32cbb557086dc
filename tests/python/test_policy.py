"""How a list is sent: keywords, `Policy`, rows' own settings, and the limits that follow from them."""

from __future__ import annotations

import asyncio
import copy
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from typing import Any

import loamy
import pytest
from loamy import Policy, Timeout
from loamy._keywords import OWN
from loamy.testing import TestServer

RATE_HINT = "hint: write a count and a span, such as 100/s, 500/min, 5/2s, 1000/h or 10/day"

LATE_S = 0.6
"""How much later than its limit a timeout may end a row, on a machine with other work."""


HALVES: list[tuple[dict[str, Any], str]] = [
    ({"job": "\ud800"}, "job"),
    ({"rate": "\ud800/s"}, "rate"),
    ({"limits": {"tokens": "\ud800/s"}}, "limits['tokens']"),
    ({"limits": {"\ud800": "1/s"}}, "the name of a limit in limits"),
]
"""Half of a surrogate pair, and where the message finds it."""


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("concurency", "send() has no keyword 'concurency'; is it 'concurrency'?"),
        ("timeouts", "send() has no keyword 'timeouts'; is it 'timeout'?"),
        ("max_redirect", "send() has no keyword 'max_redirect'; is it 'max_redirects'?"),
        ("polcy", "send() has no keyword 'polcy'; is it 'policy'?"),
        ("journl", "send() has no keyword 'journl'; is it 'journal'?"),
        ("retry_fail", "send() has no keyword 'retry_fail'; is it 'retry_failed'?"),
        ("max_workers", "send() has no keyword 'max_workers': concurrency= says how many rows are in flight at once"),
        ("proxies", "send() has no keyword 'proxies': proxies are not spoken in this version"),
        ("json", "send() has no keyword 'json': it belongs to a row, as in {'url': url, 'json': …}"),
        ("order", "send() has no keyword 'order'; it is one of stream()"),
    ],
)
def test_an_unknown_keyword_raises_and_names_the_nearest(keyword: str, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        loamy.send([], **{keyword: 1})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_every_door_names_itself_for_an_unknown_keyword() -> None:
    with pytest.raises(TypeError, match=r"^stream\(\) has no keyword 'tmeout'; is it 'timeout'\?$"):
        loamy.stream([], tmeout=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^resend\(\) has no keyword 'tmeout'; is it 'timeout'\?$"):
        loamy.send([]).resend(tmeout=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^resend\(\) has no keyword 'on_response'; it is one of send\(\)"):
        loamy.send([]).resend(on_response=print)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^resend\(\) has no keyword 'journal': it keeps no journal; "):
        loamy.send([]).resend(journal="run.loamy")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "name", ["max_workers", "max_connections", "body", "log", "proxies", "auth", "cookies", "files"]
)
def test_a_keyword_of_another_client_is_not_taken_for_a_slip(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        loamy.send([], **{name: 1})  # type: ignore[arg-type]
    assert "is it" not in str(caught.value)


DOORS: list[Callable[..., Any]] = [loamy.send, loamy.stream, loamy.send_async, loamy.Responses.resend]


@pytest.mark.parametrize("door", DOORS)
def test_a_door_has_the_keywords_that_wrong_ones_are_held_against_and_no_others(door: Callable[..., Any]) -> None:
    given = signature(door).parameters.values()
    assert {one.name for one in given if one.kind is Parameter.KEYWORD_ONLY} == set(OWN[door.__name__])


@pytest.mark.parametrize("door", DOORS)
def test_a_slip_in_any_keyword_of_a_door_finds_it(door: Callable[..., Any]) -> None:
    own = [name for name, parameter in signature(door).parameters.items() if parameter.kind is Parameter.KEYWORD_ONLY]
    assert own
    for name in own:
        slip = f"{name}s"
        try:
            begun = door(loamy.Responses(), **{slip: True})
            asyncio.run(begun)
        except TypeError as error:
            assert str(error) == f"{door.__name__}() has no keyword {slip!r}; is it {name!r}?"
        else:
            pytest.fail(f"{slip} was taken")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"concurrency": 0}, ValueError, "concurrency is 0; it must be 1 or more"),
        ({"concurrency": "9"}, ValueError, "concurrency is '9'; it must be a whole number or 'auto'"),
        ({"concurrency": 1.5}, TypeError, "concurrency must be a whole number, not float"),
        ({"concurrency": True}, TypeError, "concurrency must be a whole number, not bool"),
        ({"per_host": 0}, ValueError, "per_host is 0; it must be 1 or more"),
        ({"threads": 0.5}, TypeError, "threads must be a whole number or None, not float"),
        ({"max_redirects": -1}, ValueError, "max_redirects is -1; it must be 0 or more"),
        ({"max_redirects": 1 << 20}, ValueError, "max_redirects is 1048576; it must be 65535 or less"),
        ({"follow_redirects": 1}, TypeError, "follow_redirects must be True or False, not int"),
        ({"timeout": 0}, ValueError, "timeout is 0; it must be above 0, or None for no limit"),
        ({"timeout": float("nan")}, ValueError, "timeout is nan; it must be above 0, or None for no limit"),
        ({"timeout": "5"}, TypeError, "timeout must be a number of seconds or None, not str"),
        ({"timeout": (1, 2, 3)}, TypeError, "timeout as a pair is (connect, read); this one has 3 parts"),
        ({"timeout": {"conect": 1}}, TypeError, "timeout has no phase 'conect'; is it 'connect'?"),
        ({"timeout": {"read": -1}}, ValueError, "timeout.read is -1; it must be above 0, or None for no limit"),
        ({"deadline": -2.5}, ValueError, "deadline is -2.5; it must be above 0, or None for no limit"),
        *(
            ({name: 10**400}, ValueError, f"{name} is too large a number")
            for name in ("timeout", "deadline", "backoff", "max_pause", "hedge")
        ),
        ({"timeout": {"read": 10**400}}, ValueError, "timeout.read is too large a number"),
        *(
            ({**given, "idempotency": "auto"}, ValueError, f"{name} holds half of a surrogate pair, which has no UTF-8")
            for given, name in HALVES
        ),
        ({"headers": {"a": 5}}, TypeError, "headers: a must be str, not int"),
        ({"headers": {5: "a"}}, TypeError, "headers: a name must be str, not int"),
        ({"headers": 5}, TypeError, "headers must be a mapping of str to str, not int"),
        ({"headers": "a: b"}, TypeError, "headers must be a mapping of str to str, not str"),
        ({"headers": ["ab"]}, TypeError, "headers that are a list hold pairs of name and value"),
        ({"headers": [("a", "b", "c")]}, TypeError, "headers that are a list hold pairs of name and value"),
        ({"headers": {"a b": "c"}}, ValueError, "headers: header name \"a b\" holds ' '"),
        ({"secret_headers": "X-Own"}, TypeError, "secret_headers must be a sequence of names"),
        ({"secret_headers": b"X-Own"}, TypeError, "secret_headers must be a sequence of names"),
        ({"secret_headers": 5}, TypeError, "secret_headers must be a sequence of names"),
        ({"secret_headers": [5]}, TypeError, "secret_headers must be a sequence of names"),
        (
            {"secret_headers": ["X-Own", "X Api:"]},
            ValueError,
            "secret_headers holds 'X Api:', which is no name of a header",
        ),
        ({"retries": -1}, ValueError, "retries is -1; it must be 0 or more"),
        ({"retries": True}, TypeError, "retries must be a whole number, not bool"),
        ({"retries": 1 << 40}, ValueError, "retries is 1099511627776; it must be 4294967295 or less"),
        ({"retry_unsafe": 1}, TypeError, "retry_unsafe must be True or False, not int"),
        ({"backoff": "1"}, TypeError, "backoff must be a number of seconds, not str"),
        ({"backoff": -1}, ValueError, "backoff is -1; it must be 0 or more"),
        ({"backoff": (1, 2, 3)}, TypeError, "backoff as a pair is (first, highest); this one has 3 parts"),
        ({"backoff": (2, 1)}, ValueError, "backoff begins at 2 s, which is above its highest, 1 s"),
        ({"max_pause": None}, TypeError, "max_pause must be a number of seconds, not NoneType"),
        ({"max_pause": float("nan")}, ValueError, "max_pause is nan; it must be 0 or more"),
        ({"governor": None}, TypeError, "governor must be True or False, not NoneType"),
        ({"rate": 100}, TypeError, "rate must be a str such as '100/s' or '500/min', not int"),
        ({"rate": "100"}, ValueError, f'rate: rate "100": the unit is missing\n{RATE_HINT}'),
        (
            {"rate": "0/s"},
            ValueError,
            f'rate: rate "0/s": a rate of 0 would send nothing; it must be 1 or more\n{RATE_HINT}',
        ),
        ({"rate_per_host": "-1/s"}, ValueError, f'rate_per_host: rate "-1/s": it is negative\n{RATE_HINT}'),
        ({"burst": 5}, ValueError, "burst belongs to rate, which is not given"),
        ({"rate": "1/s", "burst": 0}, ValueError, "burst is 0; it must be 1 or more"),
        ({"limits": ["5/s"]}, TypeError, "limits must be a mapping of names to rates, not list"),
        ({"limits": {7: "5/s"}}, TypeError, "limits must have names of limits as keys, not int"),
        ({"limits": {"": "5/s"}}, ValueError, "limits has a limit without a name"),
        ({"limits": {"a": "5"}}, ValueError, f"limits['a']: rate \"5\": the unit is missing\n{RATE_HINT}"),
        ({"limits": {"a": 5}}, TypeError, "limits['a'] must be a str such as '100/s' or '500/min', not int"),
        (
            {"rate": "1/s", "limits": {"requests": "2/s"}},
            ValueError,
            "rate and limits['requests'] are the same limit; give one of them",
        ),
        (
            {"rate_per_host": "1/s", "limits_per_host": {"requests": "2/s"}},
            ValueError,
            "rate_per_host and limits_per_host['requests'] are the same limit; give one of them",
        ),
        ({"adaptive": "vegas"}, ValueError, "adaptive is 'vegas'; it must be one of 'aimd', 'gradient2'"),
        ({"adaptive": True}, TypeError, "adaptive must be a str, not bool"),
        ({"max_failures": 0}, ValueError, "max_failures is 0; it must be 1 or more"),
        ({"max_failures_per_host": 0}, ValueError, "max_failures_per_host is 0; it must be 1 or more"),
        ({"fail_fast": "yes"}, TypeError, "fail_fast must be True or False, not str"),
        ({"idempotency": "always"}, ValueError, "idempotency is 'always'; it must be one of 'auto'"),
        ({"job": "a"}, ValueError, 'job is what keys are made of, and none are made; give idempotency="auto" too'),
        (
            {"idempotency": "auto", "job": ""},
            ValueError,
            "job is empty; it must tell this job's keys from those of others",
        ),
        ({"idempotency": "auto", "job": 7}, TypeError, "job must be a str or None, not int"),
        ({"duplicates": "drop"}, ValueError, "duplicates is 'drop'; it must be one of 'send', 'share'"),
        ({"duplicates": None}, TypeError, "duplicates must be a str, not NoneType"),
        ({"hedge": "auto"}, TypeError, "hedge must be True, False or a number of seconds, not str"),
        ({"hedge": 0}, ValueError, "hedge is 0; it must be above 0, or every row would be sent twice"),
        ({"on_reponse": print}, TypeError, "send() has no keyword 'on_reponse'; is it 'on_response'?"),
        ({"policy": {"timeout": 5}}, TypeError, "policy must be a loamy.Policy, not dict"),
    ],
)
def test_a_field_that_is_wrong_raises_at_once_and_sends_nothing(
    server: TestServer, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        loamy.send([server.url("/json")], **fields)
    assert str(caught.value) == message
    assert server.counts["connections"] == 0


def test_a_header_of_the_policy_that_is_no_header_raises_at_once(server: TestServer) -> None:
    with pytest.raises(ValueError, match="control character"):
        loamy.send([server.url("/json")], headers={"X-Own": "a\r\nb: c"})
    assert server.counts["connections"] == 0


@pytest.mark.parametrize("headers", [{"X-Own": "a\nb"}, {"Host": "h"}, [("Content-Length", "5")], [["Upgrade", "h2c"]]])
def test_a_policy_with_headers_that_cannot_be_sent_cannot_be_built(headers: Any) -> None:
    with pytest.raises(ValueError, match=r"^headers: "):
        Policy(headers=headers)


def test_a_policy_keeps_the_headers_that_it_was_built_with(server: TestServer) -> None:
    given = {"X-Own": "1", "x-own": "2"}
    pairs = [["X-Key", "a"], ("X-Other", "b")]
    policies = [Policy(headers=given), Policy(headers=pairs)]  # type: ignore[arg-type]
    given["X-Own"] = "changed"
    pairs.clear()
    assert [policy.headers for policy in policies] == [(("x-own", "2"),), (("X-Key", "a"), ("X-Other", "b"))]
    assert hash(policies[0].headers) == hash(Policy(headers=policies[0].headers).headers)
    for policy in policies:
        loamy.send([server.url("/json")], policy=policy).raise_for_failures()
    assert [seen.header("X-Own") for seen in server.requests] == ["2", None]
    assert [seen.header("X-Key") for seen in server.requests] == [None, "a"]
    assert "'a'" not in repr(policies[1]) and "('X-Key', '***'), ('X-Other', 'b')" in repr(policies[1])


def test_a_row_whose_timeout_is_none_has_no_limit(server: TestServer) -> None:
    slow = server.url("/delay/0.6")
    rows = [{"url": slow, "timeout": None}, {"url": slow}]
    assert [response.kind for response in loamy.send(rows, timeout=0.2)] == [None, "timeout.total"]


def test_a_keyword_wins_over_the_policy_and_a_row_over_both(server: TestServer) -> None:
    policy = Policy(timeout=0.05, headers={"X-Own": "policy"})
    slow = server.url("/delay/0.4")
    plain, longer, own = loamy.send([slow], policy=policy) + loamy.send(
        [slow, {"url": slow, "timeout": 0.06, "headers": {"x-own": "row"}}], policy=policy, timeout=20
    )
    assert (plain.kind, longer.kind, own.kind) == ("timeout.total", None, "timeout.total")
    assert [seen.header("x-own") for seen in sorted(server.requests, key=lambda seen: seen.header("x-own") or "")] == [
        "policy",
        "policy",
        "row",
    ]


def test_policies_are_values() -> None:
    policy = Policy(concurrency=5, timeout={"read": 3}, headers={"A": "b"})
    assert policy == Policy(concurrency=5, timeout=Timeout(read=3), headers={"A": "b"})
    assert pickle.loads(pickle.dumps(policy)) == policy == copy.deepcopy(policy)
    with pytest.raises(AttributeError):
        policy.concurrency = 6  # type: ignore[misc]


def test_what_is_said_of_limits_and_keys_is_part_of_the_value() -> None:
    policy = Policy(rate="5/s", burst=2, limits={"tokens": "7/min"}, backoff=(1, 2), idempotency="auto", hedge=0.5)
    assert pickle.loads(pickle.dumps(policy)) == policy == copy.deepcopy(policy)
    assert policy.job is None, "a call makes one up for itself alone"
    given = {"tokens": "7/min"}
    own = Policy(limits=given)
    given["tokens"] = "not a rate"
    assert own.limits == {"tokens": "7/min"}


def test_a_backoff_can_be_written_in_two_ways() -> None:
    assert Policy().backoff == (0.5, 20.0) == Policy(backoff=0.5).backoff
    assert Policy(backoff=30).backoff == (30.0, 30.0)
    assert Policy(backoff=0).backoff == (0.0, 20.0)
    assert Policy(backoff=(1, 2)).backoff == (1.0, 2.0)


def test_a_timeout_can_be_written_in_four_ways() -> None:
    assert Policy(timeout=5).timeout == Timeout(total=5)
    assert Policy(timeout=(1, 2)).timeout == Timeout(connect=1, first_byte=2, read=2)
    assert Policy(timeout={"connect": 1}).timeout == Timeout(connect=1)
    assert Policy(timeout=None).timeout == Timeout(connect=None, total=None)
    assert Policy().timeout == Timeout() == Timeout(connect=30.0, total=300.0)


def test_the_server_never_sees_more_at_once_than_allowed(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        rows = [one.url("/delay/0.02") for one in (server, other) for _ in range(60)]
        loamy.send(rows, concurrency=16, per_host=5, threads=4).raise_for_failures()
        for one in (server, other):
            assert one.counts["requests"] == 60
            assert one.counts["max_in_flight"] <= 5
            assert one.counts["max_open"] <= 5


def test_concurrency_one_sends_one_after_the_other_on_one_connection(server: TestServer) -> None:
    loamy.send([server.url(f"/anything?n={n}") for n in range(20)], concurrency=1).raise_for_failures()
    assert [seen.target for seen in server.requests] == [f"/anything?n={n}" for n in range(20)]
    assert server.counts["max_in_flight"] == 1 and server.counts["connections"] == 1


# --- Timeouts by phase


def timed(row: Any, **policy: Any) -> tuple[loamy.Response, float]:
    began = time.monotonic()
    [response] = loamy.send([row], **policy)
    return response, time.monotonic() - began


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a listener that takes no more connections: its queue is full, and further SYNs are dropped."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        queued = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            queued.append(client)
        yield f"http://127.0.0.1:{address[1]}"
        for client in queued:
            client.close()


@pytest.mark.parametrize("phase", ["connect", "acquire"])
def test_a_peer_that_takes_no_connection_ends_the_row_in_its_phase(deaf: str, phase: str) -> None:
    response, took = timed(deaf, timeout={phase: 0.3})
    assert response.kind == f"timeout.{phase}"
    error = response.error
    assert isinstance(error, loamy.ConnectTimeout) and isinstance(error, TimeoutError)
    assert error.retryable and not error.in_doubt
    port = int(deaf.rpartition(":")[2])
    assert (error.host, error.port) == ("127.0.0.1", port)
    assert str(error) == f"timeout.{phase}: no connection to 127.0.0.1:{port} within 0.3 s (GET {deaf}/, attempt 1)"
    assert 0.3 <= took <= 0.3 + LATE_S


def test_a_peer_that_takes_no_bytes_ends_the_row_in_write(script: Callable[..., Any]) -> None:
    peer = script("hold", receive_buffer=4096)
    row = {"method": "POST", "url": peer.url(), "content": b"x" * 8_000_000}
    response, took = timed(row, timeout={"write": 0.3})
    assert response.kind == "timeout.write" and response.error is not None
    assert response.error.in_doubt, "part of a POST is with the server"
    assert 0.3 <= took <= 0.3 + 3 * LATE_S


def test_a_peer_that_does_not_answer_ends_the_row_in_first_byte(script: Callable[..., Any]) -> None:
    peer = script("read", "hold")
    response, took = timed(peer.url(), timeout={"first_byte": 0.3})
    assert response.kind == "timeout.first_byte"
    assert 0.3 <= took <= 0.3 + LATE_S
    assert len(peer.seen()["requests"]) == 1


def test_a_peer_that_pauses_ends_the_row_in_read_and_one_that_drips_does_not(script: Callable[..., Any]) -> None:
    stuck = script("read", r"send HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel", "hold")
    response, took = timed(stuck.url(), timeout={"read": 0.3})
    assert response.kind == "timeout.read" and response.error is not None
    assert response.error.response is not None and response.error.response.content == b"hel"
    assert 0.3 <= took <= 0.3 + LATE_S
    dripping = script("read", r"send HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "drip 60ms 0123456789")
    response, took = timed(dripping.url(), timeout={"read": 0.5})
    assert response.ok and response.content == b"0123456789" and took >= 0.5, "each pause is short, all of them are not"


def test_the_total_ends_a_row_that_drips(script: Callable[..., Any]) -> None:
    peer = script("read", r"send HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "repeat-every 20ms forever x")
    response, took = timed(peer.url(), timeout=0.4)
    assert response.kind == "timeout.total"
    assert 0.4 <= took <= 0.4 + LATE_S


def test_the_clock_of_a_row_starts_when_it_takes_its_slot(server: TestServer) -> None:
    rows = [server.url("/delay/0.2")] * 5
    responses = loamy.send(rows, concurrency=1, timeout=0.7)
    assert all(response.ok for response in responses), "one second in all, but 0.2 s for each"


def test_a_deadline_ends_the_whole_call_and_every_row_has_its_outcome(server: TestServer) -> None:
    rows = [server.url("/hang")] * 2 + [server.url("/json")] * 50
    began = time.monotonic()
    responses = loamy.send(rows, concurrency=2, deadline=0.4)
    assert 0.4 <= time.monotonic() - began <= 0.4 + LATE_S
    assert [response.kind for response in responses] == ["timeout.total"] * 2 + ["not_sent"] * 50
    assert len(server.requests) == 2, "what is not_sent was not sent"
    error = responses[5].error
    assert isinstance(error, loamy.NotSent) and error.retryable and not error.in_doubt
    assert str(error).startswith("not_sent: the deadline of the batch passed before this row's turn (GET http://")


def test_no_limit_at_all_is_none(server: TestServer) -> None:
    [response] = loamy.send([server.url("/delay/0.1")], timeout=None)
    assert response.ok


# --- Redirects


def test_redirects_are_followed_ten_deep_and_counted(server: TestServer) -> None:
    ten, eleven = loamy.send([server.url("/redirect/10"), server.url("/redirect/11")])
    assert ten.ok and ten.redirects == 10 and ten.url == server.url("/get")
    assert eleven.kind == "redirect" and isinstance(eleven.error, loamy.TooManyRedirects)
    assert eleven.error.response is not None and eleven.error.response.status_code == 302


def test_where_redirects_are_not_followed_the_redirect_is_the_response(server: TestServer) -> None:
    url = server.url("/redirect/2")
    policy, row, wide = loamy.send([url], follow_redirects=False) + loamy.send(
        [{"url": url, "allow_redirects": False}, {"url": url, "max_redirects": 1}]
    )
    for response in (policy, row):
        assert (response.status_code, response.ok, response.redirects) == (302, True, 0)
        assert response.headers["location"] == "/redirect/1" and response.url == url
    assert wide.kind == "redirect", "a row's own limit binds"
    [follows] = loamy.send([{"url": url, "follow_redirects": True}], follow_redirects=False)
    assert follows.ok and follows.redirects == 2


def test_credentials_and_named_headers_do_not_leave_the_origin(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        row = {
            "url": server.url("/redirect-to"),
            "params": {"url": other.url("/anything"), "status_code": 307},
            "method": "POST",
            "content": b"body",
            "headers": {"Authorization": "secret", "Cookie": "a=b", "X-Own-Secret": "s", "X-Plain": "p"},
        }
        loamy.send([row], secret_headers=["x-own-secret"]).raise_for_failures()
        [seen] = other.requests
        assert (seen.method, seen.body, seen.header("x-plain")) == ("POST", b"body", "p")
        assert [seen.header(name) for name in ("authorization", "cookie", "x-own-secret")] == [None] * 3
        assert server.requests[0].header("authorization") == "secret"


def test_g3_secret_headers_may_come_out_of_an_iterator(server: TestServer) -> None:
    with loamy.testing.serve() as other:
        row = {"url": server.url(f"/redirect-to?url={other.url('/anything')}"), "headers": {"X-Own": "s"}}
        names: Any = (name for name in ["X-Own"])
        loamy.send([row], secret_headers=names).raise_for_failures()
        assert [seen.header("x-own") for seen in (*server.requests, *other.requests)] == ["s", None]


@pytest.mark.parametrize("options", [{}, {"http_version": "2"}], ids=["HTTP/1.1", "HTTP/2"])
def test_g3_credentials_of_the_policy_do_not_leave_the_origin_either(server: TestServer, options: Any) -> None:
    secrets = {"Authorization": "a", "Cookie": "b", "Proxy-Authorization": "c", "X-Own-Secret": "d"}
    with loamy.testing.serve() as other:
        away = server.url(f"/redirect-to?url={other.url('/redirect-to')}%3Furl%3D{server.url('/anything')}")
        rows = [away, {"url": away, "headers": {"Authorization": "own", "X-Row": "1"}}, server.url("/redirect/1")]
        policy = Policy(headers=secrets | {"X-Plain": "p"}, secret_headers=["x-own-secret"], **options)
        for row, redirects in zip(rows, (2, 2, 1), strict=True):
            [response] = loamy.send([row], policy=policy).raise_for_failures()
            assert response.redirects == redirects
        assert [seen.header(name) for seen in other.requests for name in secrets] == [None] * 8
        assert [seen.header("X-Plain") for seen in [*server.requests, *other.requests]] == ["p"] * 8
        first, back, own, own_back, near, followed = server.requests
        assert [first.header(name) for name in secrets] == ["a", "b", "c", "d"]
        assert own.header("Authorization") == "own"
        assert [seen.header(name) for seen in (back, own_back) for name in secrets] == [None] * 8, "they do not return"
        assert [seen.header(name) for seen in (near, followed) for name in secrets] == ["a", "b", "c", "d"] * 2
