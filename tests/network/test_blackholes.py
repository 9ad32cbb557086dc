"""C5, C10: packets vanish, before a connection stands and while it does; other hosts do not notice."""

from __future__ import annotations

from collections import Counter

import pytest
from client import send
from namespaces import Network
from protocols import Protocol, spoken
from website import BLOB, Website

HOLE = "10.87.0.3"


@spoken
def test_c5_a_host_that_takes_no_connection_ends_its_rows_in_their_time_and_no_others(
    network: Network, website: Website, protocol: Protocol
) -> None:
    network.server.give_address(f"{HOLE}/16")
    network.server.rule("input", f"ip daddr {HOLE} tcp flags & (syn|ack) == syn counter drop")
    # The dead ones come first, and are more than there are slots.
    dead, alive = website.rows(protocol, HOLE, 100), website.rows(protocol, Network.SERVER, 300, first=100)
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, [*dead, *alive], concurrency=50, timeout={"connect": 0.8}, **policy)

    for row in batch.rows[:100]:
        assert row.kind == "timeout.connect" and not row.in_doubt and row.bytes_sent == 0, row
        assert row.elapsed < 1.2, row
    assert 1 <= network.server.packets()[0] <= 20, "what is dead is tried a few times, not for each row"
    assert batch.seconds < 7, "and each time takes more of the rows that wait with it"
    for row in batch.rows[100:]:
        assert row.ok and row.attempts == 1 and row.at < 0.7, row
    assert website.seen() == Counter(range(100, 400))


@spoken
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("limit", ["read", "total"])
def test_c5_a_connection_that_falls_silent_in_mid_body_ends_in_its_time_and_no_other(
    network: Network, website: Website, protocol: Protocol, method: str, limit: str
) -> None:
    network.server.give_address(f"{HOLE}/16")
    network.server.set("net.netfilter.nf_conntrack_acct", "1")
    network.server.rule("output", f"ip saddr {HOLE} ct reply bytes > 1000000 counter drop")
    cut = {"method": method, "url": website.url(protocol, HOLE, "/blob?id=0")}
    others = website.rows(protocol, Network.SERVER, 300, first=1)
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, [cut, *others], timeout={limit: 1}, **policy)

    row = batch.rows[0]
    assert row.kind == f"timeout.{limit}", row
    assert 1 <= row.elapsed < 1.6, row
    assert row.attempts == 1 and row.in_doubt == (method == "POST"), row
    assert network.server.packets()[0] >= 1
    assert all(other.ok and other.at < 0.9 for other in batch.rows[1:]), batch.failed[:3]
    seen = website.seen()
    del seen[0]  # nginx writes it down once it has given up, which it has not yet
    assert seen == Counter(range(1, 301))


@spoken
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_c5_an_answer_that_never_comes_is_in_doubt_for_a_post(
    network: Network, website: Website, protocol: Protocol, method: str
) -> None:
    network.server.give_address(f"{HOLE}/16")
    network.server.set("net.netfilter.nf_conntrack_acct", "1")
    # Handshakes pass, and so does the request, which is longer than they are and short enough to be sent unacknowledged;
    # what is said back from then on does not.
    network.server.rule("output", f"ip saddr {HOLE} ct original bytes > 8000 counter drop")
    row = {"method": method, "url": website.url(protocol, HOLE, "/upload?id=0"), "data": "x" * 12_000}
    policy = protocol.policy(website.certificates.authority)
    [ended] = send(network.client, [row], timeout={"first_byte": 0.7}, **policy).rows
    assert ended.kind == "timeout.first_byte" and 0.7 <= ended.elapsed < 1.5, ended
    assert ended.in_doubt == (method == "POST") and ended.attempts == 1 and ended.bytes_sent, ended
    assert website.seen() == Counter([0]), "it did take effect"
    assert network.server.packets()[0] >= 1


@spoken
def test_c10_a_request_that_the_peer_does_not_take_ends_in_its_time(
    network: Network, website: Website, protocol: Protocol
) -> None:
    network.server.give_address(f"{HOLE}/16")
    network.server.set("net.netfilter.nf_conntrack_acct", "1")
    network.server.rule("input", f"ip daddr {HOLE} ct original bytes > 300000 counter drop")
    big = {"method": "POST", "url": website.url(protocol, HOLE, "/upload?id=0"), "data": "x" * BLOB}
    others = website.rows(protocol, Network.SERVER, 100, first=1)
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, [big, *others], timeout={"write": 1}, **policy)
    row = batch.rows[0]
    assert row.kind == "timeout.write" and row.in_doubt and 0 < (row.bytes_sent or 0) < BLOB, row
    assert 1 <= row.elapsed < 2, row
    assert all(other.ok and other.at < 0.9 for other in batch.rows[1:]), batch.failed[:3]
    assert network.server.packets()[0] >= 1
