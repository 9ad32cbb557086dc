"""H1, H2: the process runs out of descriptors, the machine of ports; rows wait and do not fail."""

from __future__ import annotations

from collections import Counter

import pytest
from client import send
from namespaces import Network
from protocols import H1, H1_TLS, Protocol, spoken
from website import Website


@spoken
def test_h1_with_64_descriptors_and_500_slots_every_row_arrives_once(
    network: Network, website: Website, protocol: Protocol
) -> None:
    rows = website.rows(protocol, Network.SERVER, 2000)
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, rows, concurrency=500, descriptors=64, **policy)
    assert not batch.failed, (len(batch.failed), batch.failed[:3])
    assert website.seen() == Counter(range(2000))


@pytest.mark.parametrize("protocol", [H1, H1_TLS], ids=lambda one: one.name)
def test_h1_connections_that_are_closed_each_time_give_their_descriptors_back(
    network: Network, website: Website, protocol: Protocol
) -> None:
    rows = website.rows(protocol, Network.SERVER, 1000, path="/closing")
    policy = protocol.policy(website.certificates.authority)
    batch = send(network.client, rows, concurrency=500, descriptors=64, **policy)
    assert not batch.failed, (len(batch.failed), batch.failed[:3])
    assert website.seen() == Counter(range(1000))


def test_h2_more_slots_than_ports_wait_for_a_port(network: Network, website: Website) -> None:
    network.client.set("net.ipv4.ip_local_port_range", "40000 40099")
    # Ports come back as their connections are closed, not a minute later.
    network.client.set("net.ipv4.tcp_max_tw_buckets", "0")
    rows = website.rows(H1, Network.SERVER, 250, path="/trickle")
    batch = send(network.client, rows, concurrency=250)
    assert not batch.failed, (len(batch.failed), batch.failed[:3])
    assert website.seen() == Counter(range(250))
    assert batch.seconds > 2, "a second for each hundred: they did wait"


def test_h2_two_thousand_connections_out_of_a_hundred_ports(network: Network, website: Website) -> None:
    network.client.set("net.ipv4.ip_local_port_range", "40000 40099")
    network.client.set("net.ipv4.tcp_max_tw_buckets", "0")
    rows = website.rows(H1, Network.SERVER, 2000, path="/closing")
    batch = send(network.client, rows, concurrency=400)
    assert not batch.failed, (len(batch.failed), batch.failed[:3])
    assert website.seen() == Counter(range(2000))


@pytest.mark.parametrize("switched_off", ["lo", "all"])
def test_h2_a_machine_without_an_address_of_the_family_does_not_wait_for_ports(
    network: Network, website: Website, switched_off: str
) -> None:
    # The system says the same, EADDRNOTAVAIL, as for the lack of ports; this one does not pass.
    network.client.set(f"net.ipv6.conf.{switched_off}.disable_ipv6", "1")
    rows = [{"method": "POST", "url": "http://[::1]/"}, *website.rows(H1, Network.SERVER, 100, first=1)]
    batch = send(network.client, rows, timeout=5)
    row = batch.rows[0]
    assert row.kind in ("connect", "connect.unreachable") and not row.in_doubt and row.bytes_sent == 0, row
    assert row.at < 1, "at once"
    assert not batch.failed[1:]
    assert website.seen() == Counter(range(1, 101))
