"""Pages of several hosts, none of which is asked too often: a rate for each, pauses where one asks for them, errors at the end."""

from contextlib import ExitStack

import loamy
from loamy import testing

with ExitStack() as stack:
    books, shop, blog, gone = (stack.enter_context(testing.serve()) for _ in range(4))
    gone.stop()  # nobody listens there any more
    urls = [
        *(books.url(f"/stamp/books?page={n}") for n in range(20)),
        *(shop.url(f"/limited/shop/{n}?limit=10&window=1s&as=draft10") for n in range(25)),  # says how much it bears
        *(blog.url(f"/flaky/{n}?fail=1&status=503") for n in range(5)),  # fails at first
        *(blog.url("/json") for _ in range(10)),  # the same link, found on ten pages
        *(gone.url(f"/{n}") for n in range(3)),
        books.url("/status/404"),
    ]
    responses = loamy.send(
        urls,
        rate_per_host="20/s",
        per_host=2,
        duplicates="share",
        retries=3,
        backoff=(0.1, 1),
        headers={"User-Agent": "example-crawler (bot@example.com)"},
    )

    print(responses)
    assert responses.counts() == {"ok": 60, "connect.refused": 3, "status 404": 1}

    pages = sorted(seen.arrived for seen in books.requests)
    assert len(pages) == 21 and pages[-1] - pages[0] >= 0.9  # 50 ms apart, though the first may arrive late
    usage = loamy.send([shop.url("/usage/shop")])[0].json()["limited"]
    assert usage["granted"] == 25 and usage["refused"] <= 2  # what it says of its limit is heard at once, and kept to
    assert sum(seen.target == "/json" for seen in blog.requests) == 1
    assert all("bot@example.com" in (seen.header("user-agent") or "") for seen in blog.requests)
    print(
        f"{len(pages)} requests to the first host in {pages[-1] - pages[0]:.2f} s; the second one refused {usage['refused']}"
    )
