"""requests in threads: one thread and one session for each connection, environment ignored, orjson for the body."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import answers
import orjson
import requests


def main() -> None:
    """Send the task's requests from a pool of threads and check each answer."""
    task = answers.job()
    kept = threading.local()

    def new_session() -> None:
        kept.session = requests.Session()
        # Else the proxies of the environment are looked up for every request.
        kept.session.trust_env = False

    def exchange(_row: int) -> None:
        response = kept.session.get(task.url)
        task.check_json(response.status_code, orjson.loads(response.content))

    with ThreadPoolExecutor(task.connections, initializer=new_session) as pool:
        right = sum(1 for _ in pool.map(exchange, range(task.count)))
    answers.report(task, right)


main()
