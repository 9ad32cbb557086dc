"""C4, C6, C12: connections reset at their beginning and in mid-transfer, and a wire that loses packets."""

from __future__ import annotations

from collections import Counter

import pytest
from client import send
from namespaces import Network
from protocols import Protocol, spoken
from website import BLOB, PORTS, Website

RESETTING = "10.87.0.3"


@spoken
def test_c4_a_reset_in_answer_to_the_first_packet_is_a_refusal_at_once(
    network: Network, website: Website, protocol: Protocol
) -> None:
    network.server.give_address(f"{RESETTING}/16")
    network.server.rule("input", f"ip daddr {RESETTING} counter reject with tcp reset")
    rows = [*website.rows(protocol, RESETTING, 50), *website.rows(protocol, Network.SERVER, 50, first=50)]
    batch = send(network.client, rows, **protocol.policy(website.certificates.authority))
    for row in batch.rows[:50]:
        assert row.kind == "connect.refused" and not row.in_doubt and row.bytes_sent == 0 and row.retryable, row
    assert batch.seconds < 1
    assert all(row.ok for row in batch.rows[50:])
    assert network.server.packets()[0] >= 1
    assert website.seen() == Counter(range(50, 100))


@spoken
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_c6_a_reset_in_mid_body_is_an_incomplete_answer_with_what_came(
    network: Network, website: Website, protocol: Protocol, method: str
) -> None:
    network.server.give_address(f"{RESETTING}/16")
    network.server.set("net.netfilter.nf_conntrack_acct", "1")
    network.server.rule("input", f"ip daddr {RESETTING} ct reply bytes > 1000000 counter reject with tcp reset")
    cut = {"method": method, "url": website.url(protocol, RESETTING, "/blob?id=0")}
    others = website.rows(protocol, Network.SERVER, 100, first=1)
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, [cut, *others], timeout=10, **policy)
    row = batch.rows[0]
    assert row.kind == "incomplete" and row.in_doubt == (method == "POST") and row.attempts == 1, row
    assert row.elapsed < 2
    assert all(other.ok for other in batch.rows[1:]), batch.failed[:3]
    assert network.server.packets()[0] >= 1


@spoken
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_c6_a_reset_in_mid_request_on_a_new_connection_ends_the_row(
    network: Network, website: Website, protocol: Protocol, method: str
) -> None:
    network.server.give_address(f"{RESETTING}/16")
    # A part of the request passes: nobody knows what was done with it.
    network.server.set("net.netfilter.nf_conntrack_acct", "1")
    network.server.rule("input", f"ip daddr {RESETTING} ct original bytes > 20000 counter reject with tcp reset")
    row = {"method": method, "url": website.url(protocol, RESETTING, "/upload?id=0"), "data": "x" * 300_000}
    policy = protocol.policy(website.certificates.authority)
    [ended] = send(network.client, [row], timeout=10, **policy).rows
    assert ended.kind == "closed" and ended.in_doubt == (method == "POST") and ended.bytes_sent, ended
    assert ended.attempts == 1 and ended.elapsed < 2, ended
    assert network.server.packets()[0] >= 1


@spoken
def test_c12_all_complete_on_a_wire_that_loses_one_packet_of_twenty(
    network: Network, website: Website, protocol: Protocol
) -> None:
    port = PORTS[protocol.name]
    network.server.rule("input", f"tcp dport {port} numgen random mod 100 < 5 counter drop")
    network.server.rule("output", f"tcp sport {port} numgen random mod 100 < 5 counter drop")
    rows = website.rows(protocol, Network.SERVER, 600)
    rows.append({"method": "GET", "url": website.url(protocol, Network.SERVER, "/blob?id=600")})
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, rows, concurrency=50, **policy)
    assert not batch.failed, batch.failed[:3]
    assert [row.text for row in batch.rows[:600]] == [str(number) for number in range(600)]
    assert batch.rows[600].length == BLOB
    assert all(row.attempts == 1 for row in batch.rows)
    assert all(count >= 1 for count in network.server.packets()), "packets were lost both ways"
    assert website.seen() == Counter(range(601))
