"""Prompts for an API that limits requests and tokens: each row says what it costs, and nothing is sent too early."""

import json

import loamy
from loamy import testing

REQUESTS, TOKENS = 20, 4000  # what the API grants in each second
LONGEST_ANSWER = 100


def cost(prompt: str) -> int:
    """Estimate the tokens of a call: one for four letters, and what the answer may have."""
    return len(prompt) // 4 + LONGEST_ANSWER


prompts = [f"Summarise chapter {n}. " * (1 + n % 40) for n in range(45)]
# On top of a rate come one row as a burst, and one that was held up on its way: so the room of two rows is left.
limits = {"requests": f"{REQUESTS - 2}/s", "tokens": f"{TOKENS - 2 * max(map(cost, prompts))}/s"}

with testing.serve() as server:
    api = server.url(f"/limited/chat?limit={REQUESTS}&window=1s&how=sliding&as=none")
    rows = [
        {
            "url": api,
            "method": "POST",
            "json": {"prompt": prompt, "max_tokens": LONGEST_ANSWER},
            "cost": cost(prompt),
            "tag": f"chapter {n}",
        }
        for n, prompt in enumerate(prompts)
    ]
    responses = loamy.send(rows, limits=limits, retries=3, idempotency="auto", job="summaries, first edition")
    print(responses)
    assert loamy.send([server.url("/usage/chat")])[0].json()["limited"] == {"granted": 45, "refused": 0}

    calls = [(seen.arrived, cost(json.loads(seen.body)["prompt"])) for seen in server.requests if seen.body]
    busiest = max(sum(tokens for at, tokens in calls if 0 <= at - begin < 1) for begin, _ in calls)
    print(f"none was refused; at most {busiest:,} tokens came in a second, and {TOKENS:,} are granted")
    assert responses.counts() == {"ok": 45} and busiest <= TOKENS
