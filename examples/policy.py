"""How a list is sent: keywords for one call, a `Policy` for many, and what a row sets for itself."""

import loamy
from loamy import testing

careful = loamy.Policy(
    concurrency=16,  # rows in flight at once
    per_host=4,  # and for one host
    timeout=loamy.Timeout(connect=2, total=10),  # seconds; the clock starts when the row takes its slot
    headers={"X-Client": "example"},  # for every row that does not set it itself
)

with testing.serve() as server:
    responses = loamy.send([server.url("/delay/0.05")] * 20, policy=careful)
    print(f"{responses}; at most {server.counts['max_in_flight']} at once")
    assert server.counts["max_in_flight"] <= 4
    assert all(seen.header("x-client") == "example" for seen in server.requests)

    # A keyword wins over the policy, a row's own over both.
    quick, hasty = loamy.send(
        [server.url("/delay/0.3"), {"url": server.url("/delay/0.3"), "timeout": 0.1}],
        policy=careful,
        timeout=5,
    )
    assert quick.ok and hasty.kind == "timeout.total"

    # A deadline ends the whole call: every row still has its outcome.
    counts = loamy.send([server.url("/hang")] * 3, concurrency=2, deadline=0.2).counts()
    print(f"after the deadline: {counts}")
    assert counts == {"timeout.total": 2, "not_sent": 1}

try:
    loamy.Policy(concurrency=0)
except ValueError as error:
    print(error)
