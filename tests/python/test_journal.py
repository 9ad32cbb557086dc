"""A call that was broken off goes on where it stopped (faults H4, H5, H7, H8, P1)."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loamy
import pytest
from arrivals import visits
from loamy.testing import TestServer
from waiting import until

ROWS = 300
BREAK_OFF_AFTER = 150
"""Answers after which a call is broken off."""
ON_RECORD = 20
"""How many of them are on disk by then, however slow the disk is."""
QUIET_S = 0.3
"""A server that is asked nothing for so long is asked nothing any more."""

CALL = """
    import sys
    import loamy

    url, journal, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    methods = ["GET", "PUT", "POST"]
    rows = [(methods[n % 3], f"{url}/count/{n}?takes=5ms") for n in range(count)]
    responses = loamy.send(rows, concurrency=8, journal=journal)
    print(len(responses))
"""


def rows(server: TestServer, count: int = ROWS) -> list[Any]:
    methods = ["GET", "PUT", "POST"]
    return [(methods[n % 3], server.url(f"/count/{n}?takes=5ms")) for n in range(count)]


def break_off(server: TestServer, child: Callable[..., Any], journal: Path, number: int) -> None:
    """Run the call in another process until the server has seen some rows, and end that with a signal."""
    running = child(CALL, server.url(""), journal, ROWS)
    until(lambda: server.counts["requests"] >= BREAK_OFF_AFTER)
    os.kill(running.process.pid, number)
    running.end()


def test_h5_after_a_kill_the_same_call_sends_what_is_left_and_returns_the_whole_list(
    server: TestServer, child: Callable[..., Any], journal: Path
) -> None:
    break_off(server, child, journal, signal.SIGKILL)
    responses = loamy.send(rows(server), concurrency=8, journal=journal)
    assert [response.index for response in responses] == list(range(ROWS))
    replayed = [response for response in responses if response.replayed]
    in_doubt = [response for response in responses if response.error is not None and response.error.in_doubt]
    assert len(replayed) >= ON_RECORD
    for response in responses:
        assert response.ok or response in in_doubt, response
    seen = visits(server)
    # What was about to be sent when the process was killed is in doubt, sent or not.
    told = {int(n) for n in seen} | {response.index for response in in_doubt}
    assert told == set(range(ROWS)), "every row was sent, or is told of"
    assert len(in_doubt) <= 2 * 8
    for n, methods in seen.items():
        most = 1 if int(n) % 3 == 2 else 2
        assert sum(methods.values()) <= most, (n, methods)
    # Whatever was in flight, or done and not yet on record, when the process was killed.
    again = [n for n, methods in seen.items() if sum(methods.values()) == 2]
    assert len(again) <= 8 + 1000
    assert all(int(response.index) % 3 == 2 for response in in_doubt), "only a POST can be in doubt"
    assert loamy.send(rows(server), journal=journal).counts() == responses.counts()
    assert visits(server) == {**seen}, "a call that is complete sends nothing"


def test_p1_ctrl_c_leaves_the_call_with_what_is_done_on_record(
    server: TestServer, child: Callable[..., Any], journal: Path
) -> None:
    break_off(server, child, journal, signal.SIGINT)
    before = visits(server)
    responses = loamy.send(rows(server), concurrency=8, journal=journal)
    assert sum(response.replayed for response in responses) >= BREAK_OFF_AFTER - 8
    seen = visits(server)
    assert set(before) < set(seen)
    assert all(sum(seen[n].values()) == 1 for n in seen if int(n) % 3 == 2), "no POST twice"


def test_p1_ctrl_c_before_all_rows_are_read_leaves_the_rest_to_the_next_run(server: TestServer, journal: Path) -> None:
    class Interrupting:
        def __str__(self) -> str:
            seen = -1
            # What was read before it has ended when nothing more comes.
            while seen != (seen := server.counts["requests"]):
                time.sleep(QUIET_S)
            raise KeyboardInterrupt

    urls: list[Any] = [server.url(f"/json?n={n}") for n in range(5000)]
    last = {"url": server.url("/post"), "method": "POST"}
    with pytest.raises(loamy.BatchInterrupted):
        loamy.send([*urls, {**last, "data": {"a": Interrupting()}}], journal=journal)
    responses = loamy.send([*urls, {**last, "data": {"a": "1"}}], journal=journal)
    assert responses.counts() == {"ok": 5001}
    assert [seen.method for seen in server.requests].count("POST") == 1


def test_resend_in_doubt_sends_what_may_have_been_sent(
    server: TestServer, child: Callable[..., Any], journal: Path
) -> None:
    running = child(
        """
        import sys
        import loamy
        loamy.send([("POST", sys.argv[1] + "/hang")], journal=sys.argv[2])
        """,
        server.url(""),
        journal,
    )
    until(lambda: server.counts["requests"] == 1)
    running.process.kill()
    running.end()
    row = [("POST", server.url("/hang"))]
    doubtful = loamy.send(row, journal=journal)[0]
    assert doubtful.error is not None and doubtful.error.in_doubt
    assert server.counts["requests"] == 1
    again = loamy.send(row, journal=journal, resend_in_doubt=True, timeout=0.2)[0]
    assert again.error is not None and again.error.kind == "timeout.total"
    assert server.counts["requests"] == 2


def test_retry_failed_sends_rows_again_that_had_no_answer(server: TestServer, journal: Path) -> None:
    row = [server.url("/flaky/a?fail=1&status=close"), server.url("/status/503")]
    first = loamy.send(row, journal=journal, concurrency=1)
    assert (first[0].error is not None, first[1].status_code) == (True, 503)
    assert [response.replayed for response in loamy.send(row, journal=journal)] == [True, True]
    second = loamy.send(row, journal=journal, retry_failed=True)
    assert second[0].ok and not second[0].replayed
    assert (second[1].status_code, second[1].replayed) == (503, True), "an answer is an answer"


def test_h5_what_a_journal_has_is_not_sent_past_it(server: TestServer, journal: Path) -> None:
    row = [server.url("/flaky/a?fail=1&status=close"), server.url("/count/a")]
    # One by one, so that the first has a new connection: on one that was used before it would be sent once more at once.
    first = loamy.send(row, journal=journal, concurrency=1)
    parts = [first.failed, first[:1], first[1:], first[1:].failed]
    sums = [first + [], first + first, loamy.Responses() + first]  # noqa: RUF005 (what is tested)
    copies = [first, *parts, *sums, first.copy(), copy.copy(first), pickle.loads(pickle.dumps(first))]
    for responses in copies:
        with pytest.raises(TypeError, match="retry_failed=True") as caught:
            responses.resend()
        assert str(journal) in str(caught.value)
    with pytest.raises(TypeError, match="resend_in_doubt=True"):
        first.resend(in_doubt=True)
    assert len(server.requests) == 2, "nothing was sent again"
    second = loamy.send(row, journal=journal, retry_failed=True)
    assert second.counts() == {"ok": 2} and len(server.requests) == 3
    assert loamy.send([server.url("/status/503")]).resend().counts() == {"status 503": 1}, "as ever"


def test_h5_nor_are_rows_of_a_call_that_was_broken_off(server: TestServer, journal: Path) -> None:
    def stop(response: loamy.Response) -> None:
        raise KeyboardInterrupt

    urls = [server.url(f"/count/{n}") for n in range(50)]
    with pytest.raises(loamy.BatchInterrupted) as sent:
        loamy.send(urls, journal=journal, concurrency=1, on_response=stop)
    with pytest.raises(loamy.BatchInterrupted) as streamed:
        list(loamy.stream(urls, journal=journal, concurrency=1, on_response=stop))
    asynchronous = asyncio.run(loamy.send_async(urls[:2], journal=journal.with_suffix(".other")))
    before = server.counts["requests"]
    for responses in (sent.value.responses, streamed.value.responses, asynchronous):
        assert isinstance(responses, loamy.Responses)
        with pytest.raises(TypeError, match="the next run would send them once more"):
            responses.resend()
    assert server.counts["requests"] == before


def test_a_stream_yields_what_it_had_or_only_what_is_new(server: TestServer, journal: Path) -> None:
    def source(count: int) -> Iterator[str]:
        return (server.url(f"/count/{n}") for n in range(count))

    begun = loamy.stream(source(100), journal=journal, order="given")
    first = [next(begun).index for _ in range(40)]
    begun.close()
    assert first == list(range(40))
    new = list(loamy.stream(source(100), journal=journal, order="given", replay=False))
    assert not any(response.replayed for response in new)
    assert [response.index for response in new] == list(range(100 - len(new), 100))
    whole = list(loamy.stream(source(100), journal=journal, order="given"))
    assert [response.index for response in whole] == list(range(100))
    assert all(response.replayed and response.ok for response in whole)
    assert whole[7].text == loamy.send([server.url("/count/200")])[0].text.replace("200", "7")


def test_send_async_has_a_journal_too(server: TestServer, journal: Path) -> None:
    async def twice() -> list[Any]:
        one = await loamy.send_async([server.url("/count/a")], journal=journal)
        return [*one, *await loamy.send_async([server.url("/count/a")], journal=journal)]

    first, second = asyncio.run(twice())
    assert (first.replayed, second.replayed) == (False, True)
    assert visits(server) == {"a": {"GET": 1}}
    assert pickle.loads(pickle.dumps(second)).replayed


def test_h7_a_journal_in_use_is_refused(server: TestServer, child: Callable[..., Any], journal: Path) -> None:
    running = child(CALL, server.url(""), journal, ROWS)
    until(lambda: server.counts["requests"] >= 1)
    with pytest.raises(loamy.JournalError) as caught:
        loamy.send(rows(server), journal=journal)
    assert caught.value.trouble == "in_use"
    assert str(journal) in str(caught.value)
    assert caught.value.hint
    assert running.end()[1].strip() == str(ROWS)


def test_h8_a_journal_of_other_rows_is_refused(server: TestServer, journal: Path) -> None:
    loamy.send([server.url("/count/a"), server.url("/count/b")], journal=journal)
    for other in ([server.url("/count/a"), server.url("/count/c")], [server.url("/count/b"), server.url("/count/a")]):
        with pytest.raises(loamy.JournalError) as caught:
            loamy.send(other, journal=journal)
        assert caught.value.trouble == "other_input"
    assert visits(server) == {"a": {"GET": 1}, "b": {"GET": 1}}, "nothing of the other rows was sent"


def one_keyed_row(journal: Path, server: TestServer, **policy: Any) -> loamy.Responses:
    row = {"method": "POST", "url": server.url("/keyed/order?takes=300ms"), "json": {"pay": 1}}
    return loamy.send([row], journal=journal, **policy)


KILLED = """
    import sys
    import loamy

    row = {"method": "POST", "url": sys.argv[1] + "/keyed/order?takes=300ms", "json": {"pay": 1}}
    loamy.send([row], journal=sys.argv[2], idempotency="auto", job="A")
"""


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"idempotency": "auto", "job": "B"}, 'this run has the idempotency keys of the job "B"'),
        ({}, "this run has no idempotency keys but those of the rows"),
    ],
)
def test_h8_a_journal_keeps_to_its_job(
    server: TestServer, child: Callable[..., Any], journal: Path, policy: dict[str, Any], said: str
) -> None:
    running = child(KILLED, server.url(""), journal)
    until(lambda: server.counts["in_flight"] == 1)
    running.process.kill()
    running.end()
    with pytest.raises(loamy.JournalError) as caught:
        one_keyed_row(journal, server, **policy)
    assert 'the journal was begun with the idempotency keys of the job "A", and ' in str(caught.value)
    assert said in str(caught.value) and caught.value.trouble == "other_input"
    assert caught.value.hint is not None and caught.value.hint.startswith(
        "give idempotency and job as in the first run"
    )
    assert len(server.requests) == 1, "nothing was sent"
    # A 409 while the first one is still worked on.
    [response] = one_keyed_row(journal, server, idempotency="auto", job="A", retries=5, backoff=0.3)
    assert response.ok
    assert loamy.send([server.url("/effects")])[0].json() == {"order": 1}


def test_h8_a_journal_without_keys_is_none_of_a_job(server: TestServer, journal: Path) -> None:
    loamy.send([server.url("/count/a")], journal=journal)
    for again in (loamy.send, lambda *rows, **how: list(loamy.stream(*rows, **how))):
        with pytest.raises(loamy.JournalError, match="was begun with no idempotency keys but those of the rows, and "):
            again([server.url("/count/a")], journal=journal, idempotency="auto", job="A")
    assert loamy.send([server.url("/count/a")], journal=journal)[0].replayed
    assert visits(server) == {"a": {"GET": 1}}


def test_h7_a_file_that_is_no_journal_is_refused_and_left_as_it_is(server: TestServer, journal: Path) -> None:
    journal.write_text("the accounts of 2019\n" * 500)
    with pytest.raises(loamy.JournalError) as caught:
        loamy.send([server.url("/count/a")], journal=journal)
    assert caught.value.trouble == "other_format"
    assert journal.read_text().startswith("the accounts of 2019")
    assert server.counts["requests"] == 0


def test_h4_a_journal_that_cannot_be_made_is_told_before_anything_is_sent(server: TestServer, tmp_path: Path) -> None:
    for path, trouble in ((tmp_path / "none" / "run.loamy", "system"), (tmp_path, "other_format")):
        with pytest.raises(loamy.JournalError) as caught:
            loamy.send([server.url("/count/a")], journal=path)
        assert caught.value.trouble == trouble
        assert str(tmp_path) in str(caught.value)
    assert server.counts["requests"] == 0


def test_the_files_are_their_owners_alone_and_hold_no_secrets(server: TestServer, journal: Path) -> None:
    row = {
        "url": server.url("/status/204").replace("http://", "http://user:hidden-word@"),
        "method": "POST",
        "headers": {"Authorization": "Bearer hidden-token"},
        "content": b"hidden-body",
    }
    loamy.send([row], journal=journal)
    files = [path for path in journal.parent.iterdir() if path.name.startswith(journal.name)]
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert b"hidden" not in path.read_bytes(), path


class PathOfBytes:
    def __fspath__(self) -> bytes:
        return b"run.loamy"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"retry_failed": True}, TypeError, "pass journal='run.loamy' too"),
        ({"resend_in_doubt": True}, TypeError, "resend_in_doubt=True"),
        ({"keep_good": True}, TypeError, "keep_good=True"),
        ({"journal": "run.loamy", "retry_failed": "no"}, TypeError, "retry_failed must be True or False, not str"),
        ({"journal": "run.loamy", "resend_in_doubt": None}, TypeError, "resend_in_doubt must be True or False"),
        ({"journal": "run.loamy", "keep_good": 1}, TypeError, "keep_good must be True or False, not int"),
        ({"keep_good": 0}, TypeError, "keep_good must be True or False, not int"),
        ({"journal": 7}, TypeError, "journal must be a path, not int"),
        ({"journal": b"run"}, TypeError, "not bytes"),
        ({"journal": PathOfBytes()}, TypeError, "journal must be a path of str, not of bytes"),
        ({"journal": ""}, ValueError, "journal is empty"),
        ({"journal": "run.loamy", "idempotency": "auto"}, ValueError, "name the job"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        loamy.send(["http://127.0.0.1:9/"], **arguments)
    assert text in str(caught.value)


def test_replay_is_a_matter_of_journals(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="replay=False"):
        loamy.stream(["http://127.0.0.1:9/"], replay=False)
    with pytest.raises(TypeError, match="replay must be True or False, not str"):
        loamy.stream(["http://127.0.0.1:9/"], journal=tmp_path / "run.loamy", replay="no")  # type: ignore[arg-type]


def test_the_older_doors_have_a_journal_too(server: TestServer, tmp_path: Path) -> None:
    from loamy import session
    from zconcurrent import zsession

    url = server.url("/count/a")
    for _ in range(2):
        clump = session.Clump(requests=[session.RequestMap(url=url, http_op="GET")])
        assert clump.send_requests(journal=tmp_path / "clump.loamy")[0].status_code == 200
    for _ in range(2):
        old = zsession.zSession(requestMaps=[zsession.RequestMap(url=url, httpOperation="GET")])
        assert old.sendRequests(journal=tmp_path / "zsession.loamy").requestResponses[0].statusCode == 200
    assert visits(server) == {"a": {"GET": 2}}, "each of them sent it once"
    with pytest.raises(TypeError, match="retry_failed=True"):
        session.Clump(requests=[]).send_requests(retry_failed=True)


@pytest.mark.parametrize("door", ["send", "clump", "zsession"])
def test_h7_every_door_takes_up_what_can_be_read_of_a_damaged_journal(
    server: TestServer, journal: Path, door: str
) -> None:
    from loamy import session
    from zconcurrent import zsession

    urls = [server.url(f"/json/200?n={n}") for n in range(50)]
    clump = session.Clump([session.RequestMap(url, "GET") for url in urls])
    old = zsession.zSession([zsession.RequestMap(url, "GET") for url in urls])
    calls: dict[str, Callable[..., list[Any]]] = {
        "send": lambda **fields: loamy.send(urls, journal=journal, **fields),
        "clump": lambda **fields: clump.send_requests(journal=journal, **fields),
        "zsession": lambda **fields: old.sendRequests(journal=journal, **fields).requestResponses,
    }
    call = calls[door]
    assert len(call()) == 50 and len(server.requests) == 50
    bodies = Path(f"{journal}.bodies")
    content = bytearray(bodies.read_bytes())
    content[len(content) // 2] ^= 0xFF
    bodies.write_bytes(content)
    with pytest.raises(loamy.JournalError) as caught:
        call()
    assert caught.value.trouble == "damaged" and "keep_good" in str(caught.value)
    assert len(server.requests) == 50
    assert len(call(keep_good=True)) == 50
    assert 50 < len(server.requests) <= 100, "what was lost is sent again"
    with pytest.raises(TypeError, match="keep_good must be True or False, not str"):
        call(keep_good="yes")
