"""The list that comes back: how it counts, shows, flattens and sends again."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import loamy
import pytest
from loamy.testing import TestServer


def mixed(server: TestServer, refused_port: int) -> loamy.Responses:
    rows: list[Any] = [server.url("/json")] * 5
    rows += [server.url("/status/503")] * 3 + [f"http://127.0.0.1:{refused_port}/{n}" for n in range(2)]
    rows += [{"url": server.url("/delay/5"), "timeout": 0.05, "tag": "slow"}]
    return loamy.send(rows)


def test_responses_are_a_list(server: TestServer) -> None:
    responses = loamy.send([server.url("/json"), server.url("/status/404"), server.url("/json")])
    assert type(responses) is loamy.Responses and issubclass(loamy.Responses, list) and len(responses) == 3
    assert type(responses[1:]) is loamy.Responses and [one.index for one in responses[1:]] == [1, 2]
    assert responses[-1].index == 2 and responses == list(responses)


def test_failed_has_those_that_are_not_ok_in_their_order(server: TestServer, refused_port: int) -> None:
    failed = mixed(server, refused_port).failed
    assert isinstance(failed, loamy.Responses)
    assert [response.index for response in failed] == [5, 6, 7, 8, 9, 10]


def test_counts_name_each_ending_the_most_frequent_first(server: TestServer, refused_port: int) -> None:
    counts = mixed(server, refused_port).counts()
    assert list(counts.items()) == [("ok", 5), ("status 503", 3), ("connect.refused", 2), ("timeout.total", 1)]
    assert loamy.Responses().counts() == {}


def test_the_repr_says_how_many_ended_how_and_where(server: TestServer, refused_port: int) -> None:
    responses = mixed(server, refused_port)
    host = server.url("").removeprefix("http://")
    first, *lines = repr(responses).split("\n")
    assert first == (
        f"11 responses: 5 ok · 3 status 503 · 2 connect.refused (127.0.0.1:{refused_port}) · 1 timeout.total ({host})"
    )
    assert lines[:4] == [
        *(f"  {index}: status 503 (GET {server.url('/status/503')})" for index in (5, 6, 7)),
        f"  8: connect.refused: 127.0.0.1:{refused_port} refused the connection "
        f"(GET http://127.0.0.1:{refused_port}/0, attempt 1)",
    ]
    assert len(lines) == 6 and lines[5].startswith("  10: timeout.total: ")


def test_the_repr_groups_thousands_and_shows_ten_failures(server: TestServer) -> None:
    responses = loamy.send([server.url("/json")] * 1200 + [server.url("/status/404")] * 12)
    lines = repr(responses).split("\n")
    assert lines[0] == "1,212 responses: 1,200 ok · 12 status 404"
    assert len(lines) == 12 and lines[-1] == "  … and 2 more in .failed"
    assert repr(responses[:1]) == "1 response: 1 ok"
    assert repr(loamy.Responses()) == "0 responses"


def test_the_repr_counts_hosts_when_there_are_several() -> None:
    closed = []
    import socket

    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            closed.append(probe.getsockname()[1])
    responses = loamy.send([f"http://127.0.0.1:{port}/" for port in closed])
    assert repr(responses).split("\n")[0] == "2 responses: 2 connect.refused (2 hosts)"


def test_the_html_says_the_same_and_escapes_what_the_peer_may_have_said(server: TestServer) -> None:
    responses = loamy.send([server.url("/status/404"), {"url": "<script>alert(1)</script>"}])
    html = responses._repr_html_()
    assert html.startswith("<p>2 responses: 1 status 404 · 1 bad_request</p><ul><li><code>0: status 404 (GET http://")
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert loamy.send([server.url("/json")])._repr_html_() == "<p>1 response: 1 ok</p>"


def test_raise_for_failures_raises_once_with_all_of_them(server: TestServer, refused_port: int) -> None:
    good = loamy.send([server.url("/json")])
    assert good.raise_for_failures() is good
    responses = mixed(server, refused_port)
    with pytest.raises(loamy.FailedResponses) as caught:
        responses.raise_for_failures()
    error = caught.value
    assert list(error.responses) == list(responses.failed)
    assert isinstance(error.__cause__, loamy.HTTPStatusError) and error.__cause__.response is responses[5]
    assert str(error) == f"failures: {responses!r}"


def test_rows_are_flat_and_go_through_json(server: TestServer, refused_port: int) -> None:
    responses = loamy.send(
        [
            {"url": server.url("/redirect/1"), "tag": "t", "method": "POST", "json": {}},
            server.url("/status/404"),
            ("POST", server.url("/reset")),
            f"http://127.0.0.1:{refused_port}/",
        ]
    )
    rows = responses.rows()
    assert json.loads(json.dumps(rows)) == rows
    names = [
        "index",
        "tag",
        "method",
        "url",
        "status_code",
        "ok",
        "kind",
        "error",
        "in_doubt",
        "attempts",
        "elapsed",
        "earlier",
        "text",
    ]
    assert all(list(row) == names for row in rows)
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["tag"] == "t" and rows[0]["url"] == server.url("/get") and rows[0]["kind"] is None
    assert json.loads(rows[0]["text"])["method"] == "GET" and rows[0]["elapsed"] > 0
    assert (rows[1]["status_code"], rows[1]["ok"], rows[1]["error"]) == (404, False, None)
    assert (rows[2]["kind"], rows[2]["in_doubt"], rows[2]["attempts"]) == ("closed", True, 1)
    assert rows[3]["kind"] == "connect.refused" and rows[3]["error"] == str(responses[3].error)
    assert rows[3]["status_code"] == 0 and rows[3]["text"] == "" and rows[3]["in_doubt"] is False


@pytest.mark.parametrize(
    "tag", [("a", 1), {"x", "y"}, object(), b"bytes", {1: {2: object()}}], ids=lambda tag: type(tag).__name__
)
def test_rows_go_through_json_whatever_the_tag(server: TestServer, tag: Any) -> None:
    rows = loamy.send([{"url": server.url("/json"), "tag": tag}]).rows()
    assert json.loads(json.dumps(rows)) == rows and rows[0]["tag"] == str(tag)


def test_responses_pickle_and_copy_as_what_they_are(server: TestServer, refused_port: int) -> None:
    responses = mixed(server, refused_port)
    for after in (pickle.loads(pickle.dumps(responses)), copy.copy(responses), copy.deepcopy(responses)):
        assert isinstance(after, loamy.Responses)
        assert repr(after) == repr(responses) and after.counts() == responses.counts()
    assert isinstance(responses.copy(), list)


# --- Sending again


def test_resend_puts_the_new_answers_in_their_places(server: TestServer) -> None:
    rows = [server.url("/json"), server.url("/count/a?fail=1"), server.url("/count/b?fail=2"), server.url("/json?2")]
    before = loamy.send(rows)
    assert [response.status_code for response in before] == [200, 503, 503, 200]
    after = before.resend()
    assert [response.status_code for response in after] == [200, 200, 503, 200]
    assert [response.index for response in after] == [0, 1, 2, 3]
    assert after[0] is before[0] and after[3] is before[3], "what was answered is kept"
    assert [response.status_code for response in before] == [200, 503, 503, 200], "the old list stays as it was"
    assert sorted(seen.target for seen in server.requests) == sorted(
        [*rows_of(rows, server), *rows_of(rows[1:3], server)]
    )
    assert [response.status_code for response in after.resend()] == [200, 200, 200, 200]
    assert after.resend()[2].index == 2


def rows_of(rows: list[str], server: TestServer) -> list[str]:
    return [row.removeprefix(server.url("")) for row in rows]


def test_resend_sends_the_row_whole(server: TestServer) -> None:
    tag = object()
    row = {
        "method": "PUT",
        "url": server.url("/count/a?fail=1"),
        "json": {"a": 1},
        "headers": {"X-Own": "1"},
        "tag": tag,
        "params": {"q": "1"},
    }
    after = loamy.send([server.url("/json"), row], concurrency=1).resend()
    assert after[1].ok and after[1].tag is tag and after[1].request is row and after[1].index == 1
    _, first, second = server.requests
    assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
    assert first.headers == second.headers


def test_rows_in_doubt_are_sent_again_only_when_told_to(server: TestServer) -> None:
    before = loamy.send([("POST", server.url("/reset")), ("GET", server.url("/reset"))], concurrency=1)
    assert [response.error is not None and response.error.in_doubt for response in before] == [True, False]
    sent = [seen.method for seen in server.requests]
    again = before.resend()
    assert again[0] is before[0] and again[1] is not before[1]
    assert [seen.method for seen in server.requests][len(sent) :] == ["GET"]
    sent = [seen.method for seen in server.requests]
    all_again = again.resend(in_doubt=True, concurrency=1)
    assert [seen.method for seen in server.requests][len(sent) :] == ["POST", "GET"]
    assert all_again[0] is not before[0]


def test_g2_a_post_whose_result_could_not_be_read_is_in_doubt_and_left_out(server: TestServer) -> None:
    rows = [("POST", server.url(f"/status/{status}?Location=/status/503")) for status in (303, 307)]
    before = loamy.send([*rows, ("POST", server.url("/status/503"))], concurrency=1)
    assert [response.status_code for response in before] == [503, 503, 503]
    assert [response.in_doubt for response in before] == [True, False, False]
    assert [row["in_doubt"] for row in before.rows()] == [True, False, False]
    assert [response.in_doubt for response in pickle.loads(pickle.dumps(before))] == [True, False, False]
    with pytest.raises(loamy.HTTPStatusError) as raised:
        before[0].raise_for_status()
    assert raised.value.in_doubt
    sent = len(server.requests)
    again = before.resend()
    assert again[0] is before[0]
    assert [(seen.method, seen.target) for seen in server.requests[sent:] if "303" in seen.target] == []
    sent = len(server.requests)
    again.resend(in_doubt=True, concurrency=1)
    assert [seen.method for seen in server.requests[sent:]][:2] == ["POST", "GET"]


@pytest.mark.parametrize("given", ["no", 1, None])
def test_in_doubt_is_said_plainly(server: TestServer, given: Any) -> None:
    before = loamy.send([("POST", server.url("/reset"))])
    with pytest.raises(TypeError, match=f"^in_doubt must be True or False, not {type(given).__name__}$"):
        before.resend(in_doubt=given)
    assert len(server.requests) == 1


def test_resend_keeps_the_policy_and_its_keywords_win(server: TestServer) -> None:
    before = loamy.send([server.url("/delay/0.3")], timeout=0.05, headers={"X-Own": "1"})
    assert before[0].kind == "timeout.total"
    assert before.resend()[0].kind == "timeout.total", "as before"
    after = before.resend(timeout=20)
    assert after[0].ok and [seen.header("x-own") for seen in server.requests] == ["1", "1", "1"]
    [other] = before.resend(policy=loamy.Policy(timeout=20, headers={"X-Own": "2"}))
    assert other.ok and server.requests[-1].header("x-own") == "2"


def test_a_slice_can_be_sent_again(server: TestServer) -> None:
    before = loamy.send([server.url("/status/503"), server.url("/count/a?fail=1")])
    after = before[1:].resend()
    assert [(response.index, response.status_code) for response in after] == [(1, 200)]
    assert before.failed.resend()[1].index == 1


def test_resend_without_failures_sends_nothing(server: TestServer) -> None:
    before = loamy.send([server.url("/json")])
    after = before.resend()
    assert after == before and after is not before and len(server.requests) == 1
