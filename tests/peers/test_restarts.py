"""Servers that are reloaded, restarted and killed while 20,000 rows are on their way to them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import loamy
from certificates import Certificates
from kinds import each
from loamy.progress import Progress
from peer import Apache, Peer
from protocols import H1, H1_TLS, H2_TLS, H2C, Protocol

ROWS = 20_000
SLOTS = 100
UNDER_WAY = 1_500
"""Rows that have ended when it happens."""

CUT_OFF = {"closed", "incomplete", "connect", "connect.refused", "tls.handshake", "refused"}
"""What a row may end as whose server went away."""


@each(
    *((kind, protocol) for kind in ("nginx", "apache", "haproxy") for protocol in (H1, H2_TLS)),
    ("nginx", H1_TLS),
    ("nginx", H2C),
)
def test_a_reload_costs_nothing_but_posts_that_were_on_their_way(
    peer: Peer, protocol: Protocol, certificates: Certificates
) -> None:
    policy = protocol.policy(certificates.authority)
    responses = send_while(peer.reload, rows(peer, protocol), policy)
    account(peer, responses)
    for response in responses.failed:
        assert response.method == "POST" and response.error is not None and response.error.in_doubt, response
    # HTTP/2 says which rows it leaves undone (GOAWAY, RFC 9113 §6.8). Apache at times does not: it says that it will go (last
    # stream 2³¹-1) and closes, or names as its last a stream that it then leaves without an answer, with an error of its own
    # (code 0xfffffc7a, "The user callback function failed"). HTTP/1.1 just closes, once under each slot at most.
    says_what_it_left = protocol.version == "HTTP/2" and not isinstance(peer, Apache)
    assert len(responses.failed) <= (0 if says_what_it_left else SLOTS)
    afterwards_all_is_well(peer, protocol, policy)


@each(
    *((kind, protocol) for kind in ("nginx", "apache", "haproxy") for protocol in (H1, H2_TLS)),
    ("nghttpd-plain", H2C),
)
def test_a_restart_leaves_every_row_accounted_for(peer: Peer, protocol: Protocol, certificates: Certificates) -> None:
    def restart() -> None:
        peer.stop_gracefully()
        peer.start()

    policy = protocol.policy(certificates.authority)
    responses = send_while(restart, rows(peer, protocol), policy)
    account(peer, responses)
    account(peer, responses.resend(), before=responses)
    afterwards_all_is_well(peer, protocol, policy)


@each(
    *((kind, protocol) for kind in ("nginx", "apache", "haproxy") for protocol in (H1, H2_TLS)),
    ("nginx", H1_TLS),
    ("nghttpd", H2_TLS),
    ("nghttpd-plain", H2C),
)
def test_a_kill_leaves_every_row_accounted_for(peer: Peer, protocol: Protocol, certificates: Certificates) -> None:
    def kill() -> None:
        peer.kill()
        peer.start()

    policy = protocol.policy(certificates.authority)
    responses = send_while(kill, rows(peer, protocol), policy)
    assert responses.failed, "it was killed in the midst of the batch"
    account(peer, responses)
    again = responses.resend()
    account(peer, again, before=responses)
    # What is in doubt is not sent again unasked; all else is, and arrives.
    assert all(response.error is not None and response.error.in_doubt for response in again.failed), again
    afterwards_all_is_well(peer, protocol, policy)


def rows(peer: Peer, protocol: Protocol) -> list[dict[str, Any]]:
    return [peer.row(protocol, number) for number in range(ROWS)]


def send_while(event: Callable[[], None], rows: list[dict[str, Any]], policy: dict[str, Any]) -> loamy.Responses:
    """Send the rows, and let it happen once some of them have ended; return when both are over."""
    failures: list[BaseException] = []

    def happen() -> None:
        try:
            event()
        except BaseException as failure:
            failures.append(failure)

    happening = threading.Thread(target=happen)

    def watch(now: Progress) -> None:
        if happening.ident is None and now.done >= UNDER_WAY:
            assert now.done < len(rows), "the batch was over before it happened"
            happening.start()

    responses = loamy.send(rows, progress=watch, concurrency=SLOTS, **policy)
    assert happening.ident is not None, "the batch was over before it happened"
    happening.join()
    if failures:
        raise failures[0]
    return responses


def account(peer: Peer, responses: loamy.Responses, before: loamy.Responses | None = None) -> None:
    """Hold what came of each row against what the server saw of it, in the call ``before`` that it was sent again from too."""
    assert [response.index for response in responses] == list(range(ROWS))
    seen = Counter(request.id for request in peer.seen())
    assert seen.keys() <= set(range(ROWS))
    for number, response in enumerate(responses):
        count = seen[number]
        if response.ok:
            assert peer.is_answer(number, response)
            assert count >= 1, f"row {number} was answered and never seen"
        else:
            assert response.error is not None and response.kind in CUT_OFF, response
        if response.method == "POST":
            assert count <= 1, f"the POST of row {number} was seen {count} times"
            if not response.ok and count:
                assert response.error is not None and response.error.in_doubt, response
        else:
            sent = response.attempts
            if before is not None and before[number] is not response:
                sent += before[number].attempts
            assert count <= sent, f"row {number} was seen {count} times: {response}"


def afterwards_all_is_well(peer: Peer, protocol: Protocol, policy: dict[str, Any]) -> None:
    """Connections that died with the server cost those who come later nothing."""
    peer.forget()
    responses = loamy.send([peer.row(protocol, number) for number in range(300)], **policy).raise_for_failures()
    assert all(peer.is_answer(number, response) for number, response in enumerate(responses))
    assert Counter(request.id for request in peer.seen()) == Counter(range(300))
