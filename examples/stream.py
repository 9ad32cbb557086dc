"""A million rows would need no more memory than these: rows are pulled as there is room, responses come as they end."""

from collections.abc import Iterator
from itertools import count

import loamy
from loamy import testing

pulled = 0


def endless(server: testing.TestServer) -> Iterator[str]:
    """Give URLs for as long as somebody asks."""
    global pulled
    for number in count():
        pulled += 1
        yield server.url(f"/anything?n={number}")


with testing.serve(keep_log=False) as server:
    rows = [server.url("/delay/0.2"), server.url("/json")]
    first_to_end = next(loamy.stream(rows))
    in_order = [response.index for response in loamy.stream(rows, order="given")]
    print(f"as they end, row {first_to_end.index} comes first; in the order given: {in_order}")
    assert first_to_end.index == 1 and in_order == [0, 1]

    answered = 0
    for response in loamy.stream(endless(server), concurrency=20):
        assert response.json()["args"]["n"] == str(response.index)
        answered += 1
        if answered == 5000:
            break  # cancels what is under way

    print(f"{answered:,} responses taken, {pulled:,} rows pulled")
    assert pulled <= 5000 + 4 * 20  # the window: 4 × concurrency
