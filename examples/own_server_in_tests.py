"""Your own code under test, against a real server in the same process: nothing is mocked, and the server tells what it saw."""

from typing import Any

import loamy
from loamy import testing


def charge(base: str, amounts: list[int]) -> list[Any]:
    """Do something worth testing: charge each amount, and say which charges went through."""
    rows = [
        {"url": f"{base}/anything/charge", "method": "POST", "json": {"amount": amount}, "tag": amount}
        for amount in amounts
    ]
    return [response.tag for response in loamy.send(rows, headers={"Authorization": "Bearer secret"}) if response.ok]


def test_each_amount_is_posted_once_with_the_token() -> None:
    with testing.serve() as server:
        assert charge(server.url(""), [100, 250]) == [100, 250]
        assert sorted(seen.body for seen in server.requests) == [b'{"amount": 100}', b'{"amount": 250}']
        assert {seen.header("authorization") for seen in server.requests} == {"Bearer secret"}
        assert {(seen.method, seen.target) for seen in server.requests} == {("POST", "/anything/charge")}


def test_a_server_that_closes_its_connections_loses_no_charge() -> None:
    amounts = list(range(50))
    with testing.serve(close_after=2) as server:
        assert charge(server.url(""), amounts) == amounts
        assert server.counts["requests"] == 50 and server.counts["connections"] >= 25


if __name__ == "__main__":  # with pytest, put the tests into a file of their own
    test_each_amount_is_posted_once_with_the_token()
    test_a_server_that_closes_its_connections_loses_no_charge()
    print("2 tests passed")
