"""C1, C2: names that are not there, name servers that fail, and many names at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from client import Batch, send
from nameserver import NameServer
from namespaces import Network
from protocols import H1
from website import Website

UPSTREAM = "10.87.0.9"

PERMANENT = ("Name or service not known", "No address associated with hostname")
TEMPORARY = "Temporary failure in name resolution"


def send_both(network: Network, host: str, **policy: Any) -> Batch:
    rows = [{"method": method, "url": f"http://{host}/?id=1"} for method in ("GET", "POST")]
    return send(network.client, rows, **policy)


def assert_never_sent(batch: Batch, kind: str) -> None:
    for row in batch.rows:
        assert row.kind == kind, row
        assert not row.in_doubt and row.bytes_sent == 0 and row.attempts <= 1, row


@pytest.mark.parametrize(
    ("host", "text"),
    [("gone.loamy.test", PERMANENT[0]), ("empty.loamy.test", PERMANENT[1])],
    ids=["nxdomain", "nodata"],
)
def test_c1_a_name_without_an_address_is_a_permanent_failure(
    network: Network, names: Callable[..., NameServer], website: Website, host: str, text: str
) -> None:
    server = names("--local=/loamy.test/", "--txt-record=empty.loamy.test,nothing else")
    batch = send_both(network, host)
    assert_never_sent(batch, "dns")
    for row in batch.rows:
        assert row.error is not None and text in row.error and host in row.error, row
        assert TEMPORARY not in row.error
    assert batch.seconds < 2
    assert server.asked() == {("A", host): 1, ("AAAA", host): 1}, "one look-up serves both rows"
    assert not website.seen()


def test_c1_a_daemon_without_descriptor_2_is_told_as_well_that_a_name_is_not_there(
    network: Network, names: Callable[..., NameServer], website: Website
) -> None:
    server = names("--local=/loamy.test/")
    batch = send_both(network, "gone.loamy.test", closed=[2], retries=2)
    assert_never_sent(batch, "dns")
    for row in batch.rows:
        assert row.error is not None and PERMANENT[0] in row.error, row
    assert server.asked() == {("A", "gone.loamy.test"): 1, ("AAAA", "gone.loamy.test"): 1}
    assert not website.seen()


@pytest.mark.parametrize("how", ["servfail", "refused"])
def test_c1_a_name_server_that_fails_is_a_temporary_failure(
    network: Network, names: Callable[..., NameServer], website: Website, how: str
) -> None:
    network.server.give_address(f"{UPSTREAM}/16")
    # Without a server to ask, dnsmasq refuses what it does not know.
    server = names(*([f"--server=/servfail.test/{UPSTREAM}"] if how == "servfail" else []))
    server.fail_upstream(UPSTREAM, 2)
    batch = send_both(network, f"www.{how}.test")
    assert_never_sent(batch, "dns")
    for row in batch.rows:
        assert row.error is not None and TEMPORARY in row.error, row
        assert row.retryable, "another time it may be there"
    assert batch.seconds < 3
    assert how.upper() in server.said().upper()
    assert not website.seen()


def test_c1_a_name_server_that_is_silent_is_a_temporary_failure_when_the_resolver_gives_up(
    network: Network, names: Callable[..., NameServer]
) -> None:
    server = names("--address=/loamy.test/10.87.0.2")
    network.server.rule("input", "udp dport 53 counter drop")
    batch = send_both(network, "www.loamy.test")
    assert_never_sent(batch, "dns")
    assert all(row.error is not None and TEMPORARY in row.error for row in batch.rows)
    assert 0.9 < batch.seconds < 5, "the resolver was told to wait a second, once"
    assert network.server.packets()[0] >= 2, "A and AAAA"
    assert not server.asked()


def test_c1_a_name_server_that_is_silent_is_waited_for_as_long_as_said(
    network: Network, names: Callable[..., NameServer], website: Website
) -> None:
    names("--address=/loamy.test/10.87.0.2", resolver=("timeout:3", "attempts:2"))
    network.server.rule("input", "udp dport 53 counter drop")
    rows = [
        *({"method": method, "url": "http://www.loamy.test/?id=1"} for method in ("GET", "POST")),
        *website.rows(H1, Network.SERVER, 30),
    ]
    batch = send(network.client, rows, timeout={"resolve": 0.5})
    for row in batch.rows[:2]:
        assert row.kind == "timeout.resolve" and not row.in_doubt and row.bytes_sent == 0, row
        assert 0.5 <= row.at < 0.9 and row.error is not None and "within 0.5 s" in row.error
    assert all(row.ok and row.at < 0.5 for row in batch.rows[2:]), "who needs no name waits for none"
    assert website.seen() == Counter(range(30))


def test_c1_a_name_server_that_comes_back_is_asked_again(
    network: Network, names: Callable[..., NameServer], website: Website
) -> None:
    server = names("--address=/loamy.test/10.87.0.2", resolver=("timeout:1", "attempts:3"))
    # The first question and the one that goes with it are lost; the resolver repeats them.
    network.server.rule("input", "udp dport 53 quota 120 bytes counter drop")
    batch = send(network.client, website.rows(H1, "www.loamy.test", 2))
    assert not batch.failed, batch.failed
    assert network.server.packets()[0] >= 1 and batch.seconds > 0.9
    assert server.asked()["A", "www.loamy.test"] >= 1
    assert website.seen() == Counter(range(2))


def test_c2_many_names_at_once_are_looked_up_once_each(
    network: Network, names: Callable[..., NameServer], website: Website
) -> None:
    server = names("--address=/loamy.test/10.87.0.2", resolver=("timeout:5", "attempts:2"))
    hosts = [f"h{number % 500}.loamy.test" for number in range(2000)]
    rows = [website.rows(H1, host, 1, first=number)[0] for number, host in enumerate(hosts)]
    batch = send(network.client, rows, concurrency=500)
    assert not batch.failed, batch.failed[:3]
    assert website.seen() == Counter(range(2000))
    assert server.asked() == {(kind, host): 1 for kind in ("A", "AAAA") for host in hosts}


@pytest.mark.parametrize(
    "spare", [None, 0, 1, 2, 3, 8], ids=lambda spare: "all left" if spare is None else f"{spare} left"
)
def test_c2_a_lack_of_descriptors_is_not_taken_for_a_name_that_is_not_there(
    network: Network, names: Callable[..., NameServer], website: Website, spare: int | None
) -> None:
    server = names("--address=/loamy.test/10.87.0.2", resolver=("timeout:5", "attempts:2"))
    hosts = [f"h{number}.loamy.test" for number in range(300)]
    rows = [website.rows(H1, host, 1, first=number)[0] for number, host in enumerate(hosts)]
    # With none or few left, the look-up itself has no descriptor for its socket or for the system's files.
    release_after = None if spare is None else 0.7
    batch = send(network.client, rows, concurrency=300, descriptors=64, spare=spare, release_after=release_after)
    assert not batch.failed, (len(batch.failed), batch.failed[:3])
    assert website.seen() == Counter(range(300))
    assert {host for _, host in server.asked()} == set(hosts)
    if spare == 0:
        assert min(row.at for row in batch.rows) > 0.6, "there was nothing to be had before"
