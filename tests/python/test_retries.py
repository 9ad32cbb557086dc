"""Retries: what is sent again, how often, when, and what a response tells of it."""

from __future__ import annotations

import copy
import itertools
import logging
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import loamy
import pytest
from loamy.session import Clump, RequestMap
from loamy.testing import TestServer
from zconcurrent import zsession

SOON = (0.01, 0.02)
"""A backoff that tests can wait for."""
SLOW_MACHINE_S = 2.0
"""What a loaded machine may need on top of the time that a call must take."""


def visits(server: TestServer) -> dict[str, int]:
    """How often each target was asked for, without its query."""
    counted: dict[str, int] = {}
    for seen in server.requests:
        path = seen.target.partition("?")[0]
        counted[path] = counted.get(path, 0) + 1
    return counted


def test_nothing_that_was_answered_is_sent_again_unless_asked(server: TestServer) -> None:
    rows = [server.url(f"/flaky/{status}?status={status}") for status in (408, 425, 429, 500, 502, 503, 504)]
    responses = loamy.send(rows)
    assert [response.status_code for response in responses] == [408, 425, 429, 500, 502, 503, 504]
    assert all((response.attempts, response.earlier) == (1, ()) for response in responses)
    assert set(visits(server).values()) == {1}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_a_second_try_may_better_are_sent_again(server: TestServer, status: int) -> None:
    [response] = loamy.send([server.url(f"/flaky/a?fail=2&status={status}")], retries=3, backoff=SOON)
    assert response.ok and response.json()["attempts"] == 3
    assert (response.attempts, response.earlier) == (3, (f"status {status}", f"status {status}"))
    assert visits(server) == {"/flaky/a": 3}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 422, 501, 505])
def test_other_statuses_are_answers_however_many_retries_there_are(server: TestServer, status: int) -> None:
    [response] = loamy.send([server.url(f"/status/{status}")], retries=5, backoff=SOON)
    assert (response.status_code, response.attempts) == (status, 1)
    assert len(server.requests) == 1


def test_a_row_is_sent_again_as_often_as_it_may_and_no_oftener(server: TestServer) -> None:
    responses = loamy.send([server.url(f"/flaky/{n}?fail=99") for n in range(4)], retries=2, backoff=SOON)
    assert [(response.status_code, response.attempts) for response in responses] == [(503, 3)] * 4
    assert responses[0].earlier == ("status 503", "status 503"), "the last answer is the response itself"
    assert visits(server) == {f"/flaky/{n}": 3 for n in range(4)}


def test_c7_a_post_is_not_sent_again_without_a_key_or_permission(server: TestServer) -> None:
    def post(name: str, **more: Any) -> dict[str, Any]:
        return {"method": "POST", "url": server.url(f"/flaky/{name}?status=503"), "content": b"x", **more}

    plain, keyed = loamy.send([post("plain"), post("keyed", headers={"Idempotency-Key": "1"})], retries=3, backoff=SOON)
    assert (plain.status_code, plain.attempts) == (503, 1)
    assert keyed.ok and keyed.attempts == 2
    [allowed] = loamy.send([post("allowed")], retries=3, retry_unsafe=True, backoff=SOON)
    assert allowed.ok and allowed.attempts == 2
    assert visits(server) == {"/flaky/plain": 1, "/flaky/keyed": 2, "/flaky/allowed": 2}


def test_e20_a_429_means_refused_so_that_a_post_is_sent_again(server: TestServer) -> None:
    row = {"method": "POST", "url": server.url("/flaky/a?status=429"), "content": b"paid once"}
    [response] = loamy.send([row], retries=1, backoff=SOON)
    assert response.ok and response.earlier == ("status 429",)
    assert [seen.body for seen in server.requests] == [b"paid once"] * 2


def test_failures_on_the_way_are_sent_again_and_named(server: TestServer) -> None:
    closed, late = loamy.send(
        [
            server.url("/flaky/closed?fail=2&status=close,reset"),
            {"url": server.url("/flaky/late?status=hang"), "timeout": {"first_byte": 0.2}},
        ],
        retries=3,
        backoff=SOON,
    )
    assert closed.ok and closed.earlier == ("closed", "closed")
    assert late.ok and late.earlier == ("timeout.first_byte",)
    assert visits(server) == {"/flaky/closed": 3, "/flaky/late": 2}


def test_a_post_that_broke_is_in_doubt_and_not_sent_again(server: TestServer) -> None:
    row = {"method": "POST", "url": server.url("/flaky/a?status=close"), "content": b"x"}
    [response] = loamy.send([row], retries=3, backoff=SOON)
    assert response.kind == "closed" and response.error is not None and response.error.in_doubt
    assert visits(server) == {"/flaky/a": 1}


def test_no_connection_is_tried_again_and_the_error_tells_of_each(refused_port: int) -> None:
    [response] = loamy.send([f"http://127.0.0.1:{refused_port}/"], retries=2, backoff=SOON)
    assert response.kind == "connect.refused" and response.attempts == 3
    assert response.earlier == ("connect.refused",) * 2
    error = response.error
    assert error is not None and error.earlier == response.earlier and error.attempts == 3
    assert str(error).partition("\n")[0].endswith(", attempt 3)")
    for same in (pickle.loads(pickle.dumps(response)), copy.copy(response)):
        assert same.error is not None
        assert same.earlier == response.earlier and same.error.earlier == response.earlier


def test_what_came_before_stands_in_rows_pickles_and_errors(server: TestServer) -> None:
    again, once = loamy.send(
        [server.url("/flaky/a?fail=3&status=503,close,429"), server.url("/status/500")], retries=3, backoff=SOON
    )
    assert again.earlier == ("status 503", "closed", "status 429")
    assert pickle.loads(pickle.dumps(again)).earlier == again.earlier
    rows = loamy.Responses([again, once]).rows()
    assert [row["earlier"] for row in rows] == [
        "status 503, closed, status 429",
        "status 500, status 500, status 500",
    ]
    assert loamy.send([server.url("/json")]).rows()[0]["earlier"] is None
    with pytest.raises(loamy.HTTPStatusError) as raised:
        once.raise_for_status()
    assert raised.value.earlier == ("status 500",) * 3


def test_the_contract_classes_pass_retries_through_and_tell_of_them(server: TestServer) -> None:
    policy = loamy.Policy(retries=2, backoff=SOON)
    [response] = Clump([RequestMap(server.url("/flaky/c?fail=2"), "GET")], policy=policy).send_requests()
    assert (response.status_code, response.attempts, response.earlier) == (200, 3, ("status 503", "status 503"))
    [plain] = Clump([RequestMap(server.url("/flaky/p"), "GET")]).send_requests()
    assert (plain.status_code, plain.earlier) == (503, ()), "as ever: what was answered is not sent again"
    results = zsession.zSession([zsession.RequestMap(server.url("/flaky/z?fail=2"), "GET")], policy=policy)
    [answer] = results.sendRequests().requestResponses
    assert answer.statusCode == 200
    gone = zsession.zSession([zsession.RequestMap(server.url("/close"), "GET")], policy=policy)
    [error] = gone.sendRequests(return_exceptions=True).taskExceptions
    # On a connection that was kept, the first time is no retry.
    assert isinstance(error, loamy.ConnectionClosed) and error.attempts in (3, 4)
    assert error.earlier == ("closed",) * (error.attempts - 1)
    assert visits(server) == {"/flaky/c": 3, "/flaky/p": 1, "/flaky/z": 3, "/close": error.attempts}


def test_a_row_waits_without_holding_a_slot(server: TestServer) -> None:
    rows = [server.url("/flaky/slow?status=503&retry_after=1"), *(server.url(f"/json?n={n}") for n in range(20))]
    # Without the governor, since it would have all rows of the host wait.
    loamy.send(rows, concurrency=1, retries=1, governor=False).raise_for_failures()
    assert [seen.target.partition("?")[0] for seen in server.requests] == [
        "/flaky/slow",
        *["/json"] * 20,
        "/flaky/slow",
    ]


@pytest.mark.parametrize("spelling", ["1", "date"])
def test_e20_retry_after_is_never_undercut(server: TestServer, spelling: str) -> None:
    asked = 1.0
    rows = [server.url(f"/flaky/{n}?status=503&retry_after={spelling}") for n in range(5)]
    if spelling == "date":
        # In whole seconds: a date told now for a second later.
        rows = [server.url(f"/limited/a/{n}?limit=1&window=1500ms&as=retry-after-date") for n in range(3)]
    responses = loamy.send(rows, retries=3, backoff=SOON)
    assert all(response.ok for response in responses)
    by_target: dict[str, list[Any]] = {}
    for seen in server.requests:
        by_target.setdefault(seen.target, []).append(seen.arrived)
    gaps = [later - earlier for times in by_target.values() for earlier, later in itertools.pairwise(times)]
    assert gaps and min(gaps) >= (asked if spelling == "1" else 0.5)


def test_e20_a_retry_after_that_is_none_is_ignored(server: TestServer) -> None:
    for said in ("soon", "-5", "99999999999999999999999", "", "1.5.2", "Thu, 99 Foo 2026 00:00:00 GMT"):
        began = time.monotonic()
        row = server.url("/flaky/a" + said.encode().hex()) + "?status=503&retry_after=text:" + said.replace(" ", "%20")
        [response] = loamy.send([row], retries=1, backoff=SOON)
        took = time.monotonic() - began
        if said.startswith("999"):
            assert (response.status_code, response.attempts) == (503, 1), "absurdly far, but a time"
        else:
            assert response.ok and response.attempts == 2 and took < SLOW_MACHINE_S, said


def test_e20_a_retry_after_beyond_max_pause_ends_the_row_with_its_answer(server: TestServer) -> None:
    began = time.monotonic()
    for status in (429, 503):
        row = server.url(f"/flaky/{status}?status={status}&retry_after=3600")
        [response] = loamy.send([row], retries=3, backoff=SOON)
        assert (response.status_code, response.attempts) == (status, 1)
        [response] = loamy.send([row.replace("flaky/", "flaky/own") + "&fail=9"], retries=3, max_pause=0.5)
        assert (response.status_code, response.attempts) == (status, 1)
    assert time.monotonic() - began < SLOW_MACHINE_S
    assert set(visits(server).values()) == {1}


def test_h10_a_server_that_fails_everything_sees_a_fifth_more_than_its_rows_and_ten(server: TestServer) -> None:
    with loamy.testing.serve() as well:
        rows = [
            url for n in range(200) for url in (server.url(f"/count/{n}?status=503"), well.url(f"/flaky/{n}?fail=1"))
        ]
        responses = loamy.send(rows, retries=5, backoff=SOON, concurrency=20)
        assert {response.status_code for response in responses[::2]} == {503}
        assert len(server.requests) <= 200 * 1.2 + 10
        assert len(server.requests) > 200, "some were sent again"
        # The other host has a budget of its own: as many rows come through as it is worth.
        assert sum(response.ok for response in responses[1::2]) == 50
        assert len(well.requests) == 250


@pytest.mark.parametrize("door", ["send", "stream", "clump"])
def test_h10_rows_that_the_budget_keeps_from_going_again_say_so(
    server: TestServer, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    rows, budget = 20, 14
    policy = loamy.Policy(retries=1, backoff=SOON)
    urls = [server.url(f"/status/503?row={n}") for n in range(rows)]
    with caplog.at_level(logging.INFO, "loamy"):
        if door == "clump":
            Clump([RequestMap(url, "GET") for url in urls], policy=policy).send_requests()
        elif door == "stream":
            assert sum(response.over_budget for response in loamy.stream(urls, policy=policy)) == rows - budget
        else:
            responses = loamy.send(urls, policy=policy)
            assert [response.over_budget for response in responses] == [
                response.attempts == 1 for response in responses
            ]
    assert len(server.requests) == rows + budget
    host = server.url("").removeprefix("http://")
    [record] = caplog.records
    assert (record.name, record.levelno, record.thread) == ("loamy", logging.WARNING, threading.get_ident())
    assert record.getMessage() == (
        f"the budget of retries of {host} is used up (a fifth of its rows and 10): what fails there is not sent again"
    )


def test_h10_the_summary_and_the_errors_of_rows_over_budget_tell_of_it(server: TestServer) -> None:
    responses = loamy.send([server.url(f"/status/503?row={n}") for n in range(20)], retries=1, backoff=SOON)
    host = server.url("").removeprefix("http://")
    told = f"20 responses: 20 status 503 · 6 not sent again: the budget of retries of {host} is used up"
    assert repr(responses).splitlines()[0] == told
    assert repr(responses).splitlines()[-1].startswith("hint: responses.resend() sends")
    assert told in responses._repr_html_()
    over = next(response for response in responses if response.over_budget)
    assert pickle.loads(pickle.dumps(over)).over_budget
    with pytest.raises(
        loamy.HTTPStatusError, match="hint: not sent again: the budget of retries of its host is used up"
    ):
        over.raise_for_status()
    sent_again = next(response for response in responses if not response.over_budget)
    with pytest.raises(loamy.HTTPStatusError) as raised:
        sent_again.raise_for_status()
    assert raised.value.hint is None
    with loamy.testing.serve() as other:
        urls = [peer.url(f"/status/503?row={n}") for n in range(20) for peer in (server, other)]
        both = repr(loamy.send(urls, retries=1, backoff=SOON))
    assert "· 12 not sent again: the budget of retries of 2 hosts is used up" in both


def test_h10_an_error_over_budget_has_it_in_its_hint(server: TestServer) -> None:
    [response] = loamy.send([server.url("/close")], retries=99, backoff=(0.001, 0.001))
    host = server.url("").removeprefix("http://")
    assert (response.kind, response.attempts, response.over_budget) == ("closed", 11, True)
    assert response.error is not None
    assert response.error.hint == f"not sent again: the budget of retries of {host} is used up"
    assert len(server.requests) == 11


def test_a_backoff_grows_to_its_highest(script: Callable[..., Any]) -> None:
    # Full jitter is drawn from nothing, so single waits say little; their sum has a ceiling that it cannot pass.
    refusal = r"send HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    peer = script("read", refusal, "again")
    began = time.monotonic()
    [response] = loamy.send([peer.url()], retries=10, backoff=(0.05, 0.1))
    took = time.monotonic() - began
    assert response.attempts == 11 and took <= 0.05 + 9 * 0.1 + SLOW_MACHINE_S
    assert len(peer.seen()["requests"]) == 11


def test_the_deadline_ends_waits_too(server: TestServer) -> None:
    began = time.monotonic()
    [response] = loamy.send([server.url("/flaky/a?status=503&retry_after=30")], retries=3, deadline=1.0)
    assert time.monotonic() - began < 1.0 + SLOW_MACHINE_S
    assert (response.status_code, response.attempts) == (503, 1)


def test_resend_goes_by_the_policy_of_before(server: TestServer) -> None:
    responses = loamy.send([server.url("/flaky/a?fail=5")], retries=1, backoff=SOON)
    assert responses[0].status_code == 503
    responses = responses.resend()
    assert responses[0].attempts == 2 and visits(server) == {"/flaky/a": 4}
    responses = responses.resend(retries=4)
    assert responses[0].ok and visits(server) == {"/flaky/a": 6}


def test_rows_that_wait_to_be_sent_again_are_counted_in_the_progress(server: TestServer) -> None:
    seen: list[loamy.Progress] = []
    rows = [server.url(f"/flaky/{n}?status=503&retry_after=1") for n in range(3)]
    loamy.send(rows, retries=1, governor=False, progress=seen.append).raise_for_failures()
    assert max(now.retrying for now in seen) == 3
    assert all(now.retrying <= now.waiting for now in seen)
    assert seen[-1].retrying == 0


def test_a_429_without_retries_is_explained_and_with_them_it_is_not(server: TestServer) -> None:
    hint = "hint: status 429 asks to come again later; retries=3 does, when the server allows it"
    responses = loamy.send([server.url("/json"), server.url("/status/429")])
    assert repr(responses).splitlines()[-1].startswith(hint)
    assert "retries=3" in responses._repr_html_()
    assert "hint" not in repr(loamy.send([server.url("/status/429")], retries=1, backoff=SOON))
    assert "hint" not in repr(loamy.send([server.url("/status/503")]))


def test_a_real_server_is_asked_again(httpbin: str, nginx: Any) -> None:
    [flask] = loamy.send([f"{httpbin}/status/503"], retries=2, backoff=SOON)
    assert (flask.status_code, flask.attempts, flask.earlier) == (503, 3, ("status 503",) * 2)
    before = len(nginx.seen())
    [response] = loamy.send([f"{nginx.url}/unavailable"], retries=2, backoff=SOON)
    assert (response.status_code, response.attempts) == (503, 3)
    from waiting import until

    until(lambda: len(nginx.seen()) == before + 3)


# --- Keys


def keys(server: TestServer) -> list[str | None]:
    return [seen.header("idempotency-key") for seen in server.requests]


def orders(server: TestServer, count: int, query: str = "", **more: Any) -> list[Any]:
    return [
        {"method": "POST", "url": server.url(f"/keyed/{n}{query}"), "json": {"n": n}, "tag": f"order {n}", **more}
        for n in range(count)
    ]


def test_c7_a_row_keeps_its_key_in_every_sending_and_takes_effect_once(server: TestServer) -> None:
    rows = orders(server, 5, "?lose=1")
    responses = loamy.send(rows, idempotency="auto", retries=2, backoff=SOON)
    assert all(response.ok and response.attempts == 2 for response in responses)
    by_target: dict[str, set[str | None]] = {}
    for seen in server.requests:
        by_target.setdefault(seen.target, set()).add(seen.header("idempotency-key"))
    assert len(server.requests) == 10 and all(len(own) == 1 and None not in own for own in by_target.values())
    assert len(set().union(*by_target.values())) == 5, "each row its own"
    [effects] = loamy.send([server.url("/effects")])
    assert effects.json() == {str(n): 1 for n in range(5)}


def test_a_key_is_only_for_rows_that_need_one_and_have_none(server: TestServer) -> None:
    url = server.url("/anything")
    rows = [
        {"url": url, "method": method, "headers": headers}
        for method in ("GET", "PUT", "DELETE", "POST", "PATCH")
        for headers in ({}, {"Idempotency-Key": "mine"})
    ]
    loamy.send(rows, idempotency="auto", concurrency=1)
    made = keys(server)
    assert made[:6] == [None, "mine"] * 3 and made[7::2] == ["mine"] * 2
    assert all(key is not None and len(key) == 36 for key in (made[6], made[8]))


def test_a_named_job_has_the_same_keys_each_time_and_a_nameless_one_has_not(server: TestServer) -> None:
    def sent(rows: list[Any], **policy: Any) -> list[str | None]:
        before = len(server.requests)
        loamy.send(rows, idempotency="auto", concurrency=1, **policy).raise_for_failures()
        return keys(server)[before:]

    rows: list[Any] = orders(server, 3)
    first = sent(rows, job="invoices")
    assert sent(list(reversed(rows)), job="invoices") == list(reversed(first)), "the tag counts, not the place"
    assert not set(first) & set(sent(rows, job="reminders"))
    nameless = sent(rows)
    assert not set(nameless) & set(sent(rows))
    places = [{**row, "tag": None} for row in rows]
    assert sent(places, job="invoices") == sent(places, job="invoices")
    assert not set(sent(places, job="invoices")) & set(first)
    numbers = [{**row, "tag": n} for n, row in enumerate(rows)]
    assert sent(numbers, job="invoices") == list(reversed(sent(list(reversed(numbers)), job="invoices")))
    texts = [{**row, "tag": str(n)} for n, row in enumerate(rows)]
    assert sent(texts, job="invoices") == sent(numbers, job="invoices"), "a number counts as its text"


@pytest.mark.parametrize("job", [None, "invoices"])
@pytest.mark.parametrize("tagged", [True, False])
def test_what_is_resent_has_the_key_that_it_had(server: TestServer, job: str | None, tagged: bool) -> None:
    rows = [{**row, "tag": row["tag"] if tagged else None} for row in orders(server, 6)]
    for place in (2, 4):
        # Twice, as a keyed row on a kept connection that dies is sent once more in any case.
        rows[place]["url"] = rows[place]["url"] + "?lose=2"
    responses = loamy.send(rows, idempotency="auto", job=job, concurrency=1)
    assert [response.kind for response in responses] == [None, None, "closed", None, "closed", None]
    sent = {seen.target: seen.header("idempotency-key") for seen in server.requests}
    before = len(server.requests)
    again = responses.resend(in_doubt=True, concurrency=1).raise_for_failures()
    assert [response.index for response in again] == list(range(6))
    assert {seen.target: seen.header("idempotency-key") for seen in server.requests[before:]} == {
        target: sent[target] for target in ("/keyed/2?lose=2", "/keyed/4?lose=2")
    }
    assert loamy.send([server.url("/effects")])[0].json() == {str(n): 1 for n in range(6)}


def refused_at_first(server: TestServer, *names: str, **more: Any) -> list[Any]:
    """Rows that are answered 503 and acted upon by nobody, until they are sent again."""
    return [{"method": "POST", "url": server.url(f"/flaky/{name}?fail=1"), **more} for name in names]


def keys_of(server: TestServer) -> dict[str, list[str | None]]:
    """The keys with which each target was asked for, in order."""
    sent: dict[str, list[str | None]] = {}
    for seen in server.requests:
        sent.setdefault(seen.target.partition("?")[0], []).append(seen.header("idempotency-key"))
    return sent


def again_with_another_policy(responses: loamy.Responses) -> loamy.Responses:
    return responses.resend(policy=loamy.Policy(timeout=20))


def again_with_another_job(responses: loamy.Responses) -> loamy.Responses:
    return responses.resend(idempotency="auto", job="another")


def again_as_a_plain_list(responses: loamy.Responses) -> loamy.Responses:
    return loamy.Responses(list(responses)).resend()


def again_out_of_a_pickle(responses: loamy.Responses) -> loamy.Responses:
    return loamy.Responses([pickle.loads(pickle.dumps(one)) for one in responses]).resend()


def again_as_copies(responses: loamy.Responses) -> loamy.Responses:
    return loamy.Responses([copy.deepcopy(copy.copy(one)) for one in responses]).resend()


def again_with_other_tags(responses: loamy.Responses) -> loamy.Responses:
    for response in responses:
        response.request["tag"] = f"again {response.index}"
    return responses.resend()


@pytest.mark.parametrize(
    "again",
    [
        again_with_another_policy,
        again_with_another_job,
        again_as_a_plain_list,
        again_out_of_a_pickle,
        again_as_copies,
        again_with_other_tags,
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_c7_a_row_is_resent_with_its_key_whatever_the_policy(
    server: TestServer, again: Callable[[loamy.Responses], loamy.Responses], streamed: bool
) -> None:
    rows = [*refused_at_first(server, "a", "b"), *refused_at_first(server, "c", headers={"Idempotency-Key": "mine"})]
    if streamed:
        before = loamy.Responses(loamy.stream(rows, idempotency="auto", order="given"))
    else:
        before = loamy.send(rows, idempotency="auto")
    assert before.counts() == {"status 503": 3}
    after = again(before)
    assert after.counts() == {"ok": 3}
    sent = keys_of(server)
    assert sent["/flaky/c"] == ["mine"] * 2
    for name, response in zip("abc", after, strict=True):
        first, second = sent[f"/flaky/{name}"]
        assert first is not None and first == second == response.idempotency_key
    assert sent["/flaky/a"] != sent["/flaky/b"]
    assert again(after).counts() == {"ok": 3} and sent == keys_of(server), "all is well now"


def test_c7_rows_of_two_calls_keep_each_its_own_key(server: TestServer) -> None:
    def called(name: str, **policy: Any) -> loamy.Responses:
        return loamy.send(refused_at_first(server, name), **policy)

    one, other = called("a", idempotency="auto"), called("b", idempotency="auto")
    without = called("c")
    assert [response.index for response in one + other + without] == [0, 0, 0]
    joined = one + other
    joined += without
    assert joined.resend().counts() == {"ok": 3}
    sent = keys_of(server)
    assert len(set(sent["/flaky/a"])) == len(set(sent["/flaky/b"])) == 1 and sent["/flaky/a"] != sent["/flaky/b"]
    assert None not in sent["/flaky/a"] + sent["/flaky/b"]
    assert sent["/flaky/c"] == [None, None], "the job of another call is not its own"


def test_c7_new_keys_are_made_when_asked_for_and_never_the_same_for_two_rows(server: TestServer) -> None:
    calls = [loamy.send(refused_at_first(server, name)) for name in ("a", "b")]
    assert all(response.idempotency_key is None for response in calls[0] + calls[1])
    with pytest.raises(ValueError, match="would give two of these rows the same key"):
        (calls[0] + calls[1]).resend(idempotency="auto")
    assert server.counts["requests"] == 2
    after = calls[0].resend(idempotency="auto") + calls[1].resend(idempotency="auto")
    sent = keys_of(server)
    assert [own[1] for own in sent.values()] == [response.idempotency_key for response in after]
    assert sent["/flaky/a"][0] is None and len({own[1] for own in sent.values()} - {None}) == 2
    tagged = [loamy.send(refused_at_first(server, name, tag=name)) for name in ("c", "d")]
    assert (tagged[0] + tagged[1]).resend(idempotency="auto", job="later").counts() == {"ok": 2}
    gets = [loamy.send([server.url(f"/flaky/{name}?fail=1")]) for name in ("e", "f")]
    assert (gets[0] + gets[1]).resend(idempotency="auto").counts() == {"ok": 2}


def test_c7_rows_that_were_not_read_before_ctrl_c_get_the_key_of_their_own_call(server: TestServer) -> None:
    def broken_off(name: str) -> Any:
        def stop(response: loamy.Response) -> None:
            raise KeyboardInterrupt

        url = server.url(f"/anything/{name}")
        rows = [{"method": "POST", "url": f"{url}/{n}", "tag": f"{name} {n}"} for n in range(10_000)]
        with pytest.raises(loamy.BatchInterrupted) as caught:
            loamy.send(rows, concurrency=1, on_response=stop, idempotency="auto", job=f"job {name}")
        return caught.value.responses

    one, other = broken_off("a"), broken_off("b")
    assert one[-1].kind == other[-1].kind == "not_sent" and one[-1].idempotency_key is None, "it was not read"
    last = pickle.loads(pickle.dumps(one[-1:])) + other[-1:]
    assert last.resend().counts() == {"ok": 2}
    resent = keys(server)[-2:]
    places = {"job a": "a 9999", "job b": "b 9999"}
    for job, tag in places.items():
        [fresh] = loamy.send([{"method": "POST", "url": server.url("/post"), "tag": tag}], idempotency="auto", job=job)
        assert fresh.idempotency_key in resent, "as if the whole call were made again"


def test_ctrl_c_in_a_resend_leaves_every_response_at_its_own_index(server: TestServer) -> None:
    rows: list[Any] = [server.url("/json")] + [server.url("/status/503")] * 9_000
    before = loamy.send(rows, governor=False)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(loamy.BatchInterrupted) as caught:
            before.resend(concurrency=1, rate="50/s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert [response.index for response in caught.value.responses] == list(range(9_001))
    assert caught.value.responses[-1].kind == "not_sent"


def test_each_call_of_a_clump_has_keys_of_its_own(server: TestServer) -> None:
    clump = Clump(
        [RequestMap(server.url("/keyed/c"), "POST", {"a": 1})], policy=loamy.Policy(idempotency="auto", concurrency=1)
    )
    clump.send_requests()
    clump.send_requests()
    first, second = keys(server)
    assert first != second and None not in (first, second)


def test_a_stream_gives_keys_by_tag_and_place(server: TestServer) -> None:
    rows = orders(server, 4)
    loamy.send(rows, idempotency="auto", job="j", concurrency=1)
    list(loamy.stream(iter(rows), idempotency="auto", job="j", concurrency=1))
    made = keys(server)
    assert made[:4] == made[4:]


# --- Duplicates


def test_a2_duplicates_are_shared_when_asked_and_each_row_has_its_record(server: TestServer) -> None:
    url = server.url("/count/a?own=1")
    rows: list[Any] = [url, ("GET", url), {"url": url, "tag": "third"}, server.url("/count/b"), ("POST", url)] * 10
    responses = loamy.send(rows, duplicates="share", concurrency=8)
    assert [response.index for response in responses] == list(range(50))
    assert all(response.ok and response.request is row for response, row in zip(responses, rows, strict=True))
    assert [response.tag for response in responses[:5]] == [None, None, "third", None, None]
    counts = {(seen.method, seen.target): 0 for seen in server.requests}
    for seen in server.requests:
        counts[seen.method, seen.target] += 1
    assert counts == {("GET", "/count/a?own=1"): 1, ("GET", "/count/b"): 1, ("POST", "/count/a?own=1"): 10}
    gets = [response for response in responses if response.method == "GET"]
    assert sum(response.attempts for response in gets) == 2, "who was not sent has no attempt"
    loamy.send([url] * 5)
    assert len(server.requests) == 17, "otherwise each is sent"


def test_rows_with_settings_of_their_own_share_with_nobody(server: TestServer) -> None:
    url = server.url("/count/a")
    loamy.send([url, {"url": url, "timeout": 5}, {"url": url, "headers": {"X-Own": "1"}}], duplicates="share")
    assert len(server.requests) == 3


# --- Giving up


def test_fail_fast_lets_nothing_follow_the_first_failure(server: TestServer) -> None:
    rows = [*(server.url(f"/json?n={n}") for n in range(3)), server.url("/status/404"), *([server.url("/json")] * 50)]
    responses = loamy.send(rows, concurrency=1, fail_fast=True)
    assert [response.ok for response in responses[:3]] == [True] * 3
    assert responses[3].status_code == 404
    assert {response.kind for response in responses[4:]} == {"not_sent"}
    error = responses[4].error
    assert isinstance(error, loamy.NotSent)
    assert str(error).startswith("not_sent: 1 row failed before this row's turn, and max_failures allows no more (GET ")
    assert len(server.requests) == 4


def test_after_max_failures_no_row_is_sent_and_those_in_flight_are_waited_for(server: TestServer) -> None:
    rows = [server.url("/delay/0.5")] + [server.url("/status/500")] * 40
    responses = loamy.send(rows, concurrency=2, max_failures=3)
    assert responses[0].ok, "what was in flight has its answer"
    statuses = [response.status_code for response in responses]
    assert statuses.count(500) == 3 and len(server.requests) == 4
    assert sum(response.kind == "not_sent" for response in responses) == 37


def test_a_retry_counts_its_row_once(server: TestServer) -> None:
    rows = [server.url(f"/flaky/{n}?fail=9") for n in range(10)]
    responses = loamy.send(rows, concurrency=1, retries=1, backoff=0, max_failures=2)
    ended = [response for response in responses if response.kind != "not_sent"]
    assert len(ended) >= 2 and {response.status_code for response in ended} == {503}
    assert sum(response.attempts == 2 for response in responses) >= 2


def test_a_host_that_fails_is_left_alone_and_the_others_go_on(server: TestServer) -> None:
    with loamy.testing.serve() as well:
        rows = [url for _ in range(30) for url in (server.url("/status/503"), well.url("/json"))]
        responses = loamy.send(rows, concurrency=4, per_host=2, max_failures_per_host=3)
        assert all(response.ok for response in responses[1::2]) and len(well.requests) == 30
        assert 3 <= len(server.requests) <= 4, "one more may have been in flight"
        unsent = [response for response in responses[::2] if response.kind == "not_sent"]
        assert len(unsent) == 30 - len(server.requests)
        assert "failed for this host, and max_failures_per_host allows no more (GET " in str(unsent[0].error)


def test_a_failure_of_the_rows_own_says_nothing_of_its_host(server: TestServer) -> None:
    responses = loamy.send([server.url("/status/404")] * 20, concurrency=1, max_failures_per_host=2)
    assert {response.status_code for response in responses} == {404} and len(server.requests) == 20


def test_a_stream_ends_every_row_when_it_gives_up(server: TestServer) -> None:
    rows = (server.url("/status/500") for _ in range(100))
    responses = list(loamy.stream(rows, concurrency=1, fail_fast=True))
    assert len(responses) == 100 and sum(response.kind == "not_sent" for response in responses) == 99
    assert len(server.requests) == 1


def test_retries_are_silent(server: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "loamy"):
        loamy.send([server.url("/flaky/a")], retries=1, backoff=SOON).raise_for_failures()
    assert caplog.records == []
