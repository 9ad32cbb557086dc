"""C3: a name has several addresses, and one of them is dead (RFC 8305)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from client import send
from nameserver import NameServer
from namespaces import Network
from protocols import Protocol, spoken
from website import Website

HOST = "two.loamy.test"

OURS, THEIRS = "2001:db8:87::1", "2001:db8:87::2"
OURS_OF_ANOTHER_KIND = "fd00:87::1"
"""With this one alone, the system puts IPv4 first: the labels of the two IPv6 addresses differ (RFC 6724 §5, rule 5)."""


@spoken
@pytest.mark.parametrize("dead", ["A", "AAAA"])
def test_c3_where_one_family_is_dead_the_other_serves(
    network: Network, names: Callable[..., NameServer], website: Website, dead: str, protocol: Protocol
) -> None:
    network.server.give_address(f"{THEIRS}/64", "10.87.0.3/16")
    if dead == "A":
        network.client.give_address(f"{OURS_OF_ANOTHER_KIND}/64")
        network.client.route("2001:db8:87::/64")
        network.server.route("fd00:87::/64")
        network.server.rule("input", "ip daddr 10.87.0.3 counter drop")
    else:
        network.client.give_address(f"{OURS}/64")
        network.server.rule("input", f"ip6 daddr {THEIRS} tcp dport != 0 counter drop")
    server = names(f"--host-record={HOST},10.87.0.3,{THEIRS}")

    rows = website.rows(protocol, HOST, 30)
    batch = send(network.client, rows, **protocol.policy(website.certificates.authority))
    assert not batch.failed, batch.failed[:3]
    assert network.server.packets()[0] >= 1, "the dead one was tried first"
    assert all(row.attempts == 1 and row.version == protocol.version for row in batch.rows)
    assert batch.seconds < 1.5, "a quarter of a second for the dead one"
    assert website.seen() == Counter(range(30))
    assert server.asked() == {("A", HOST): 1, ("AAAA", HOST): 1}


@spoken
def test_c3_where_one_of_two_addresses_of_a_family_is_dead_the_other_serves(
    network: Network, names: Callable[..., NameServer], website: Website, protocol: Protocol
) -> None:
    addresses = ("10.87.0.3", "10.87.0.4")
    network.server.give_address(*(f"{address}/16" for address in addresses))
    names(*(f"--address=/{HOST}/{address}" for address in addresses))
    tried = 0
    for count, dead in enumerate(addresses):
        network.server.rule("input", f"ip daddr {dead} counter drop")
        rows = website.rows(protocol, HOST, 30, first=30 * count)
        batch = send(network.client, rows, **protocol.policy(website.certificates.authority))
        assert not batch.failed, batch.failed[:3]
        assert all(row.attempts == 1 for row in batch.rows) and batch.seconds < 1.5
        tried += network.server.packets()[0]
        network.server.forget_rules()
    assert tried >= 1, "whichever comes first was dead once"
    assert website.seen() == Counter(range(60))


def test_c3_where_all_addresses_are_dead_the_rows_end_in_their_time(
    network: Network, names: Callable[..., NameServer]
) -> None:
    names(f"--address=/{HOST}/10.87.0.3", f"--address=/{HOST}/10.87.0.4")
    network.server.give_address("10.87.0.3/16", "10.87.0.4/16")
    network.server.rule("input", "tcp flags & (syn|ack) == syn counter drop")
    batch = send(network.client, [("POST", f"http://{HOST}/")] * 3, timeout={"connect": 0.8})
    for row in batch.rows:
        assert row.kind == "timeout.connect" and not row.in_doubt and row.bytes_sent == 0, row
        assert 0.8 <= row.at < 1.2
    assert network.server.packets()[0] >= 2, "both were tried"
