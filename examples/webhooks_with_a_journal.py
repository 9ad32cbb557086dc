"""Webhooks that must not be delivered twice: the program is killed, and the same call goes on where it stopped."""

import os
import subprocess
import sys
import tempfile

import loamy
from loamy import testing

HOOKS = 60


def deliver(base: str, journal: str, deadly: int | None = None) -> loamy.Responses:
    """Deliver every hook; the response of this index is the end, as if by kill -9."""

    def look(response: loamy.Response) -> None:
        if response.index == deadly:
            os._exit(9)

    url = f"{base}/keyed/{{}}?takes=30ms"
    rows = [{"url": url.format(n), "method": "POST", "json": {"event": n}, "tag": n} for n in range(HOOKS)]
    return loamy.send(rows, journal=journal, concurrency=5, on_response=look)


if len(sys.argv) > 1:
    sys.exit(str(deliver(sys.argv[1], sys.argv[2], deadly=20)))  # never so far

with tempfile.TemporaryDirectory() as folder, testing.serve() as server:
    journal = f"{folder}/hooks.loamy"
    subprocess.run([sys.executable, __file__, server.url(""), journal])
    responses = deliver(server.url(""), journal)
    replayed = sum(response.replayed for response in responses)
    doubtful = [response.tag for response in responses if response.error is not None and response.error.in_doubt]
    effects = {int(hook): times for hook, times in loamy.send([server.url("/effects")])[0].json().items()}
    print(f"{replayed} of {HOOKS} were on record; in doubt are {doubtful}, and not sent again")
    print("of those the receiver says that it had:", [hook for hook in doubtful if hook in effects])
    assert replayed >= 15 and all(response.ok for response in responses if response.tag not in doubtful)
    assert set(effects.values()) == {1}, "none was delivered twice"
    assert set(range(HOOKS)) - set(effects) <= set(doubtful), "and only what is in doubt may be missing"
