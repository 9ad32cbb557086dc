"""floodr: the whole list in one call, as its documentation shows it, orjson for the body."""

from __future__ import annotations

import asyncio

import answers
import orjson
from floodr import Client, Request


async def main() -> None:
    """Send the task's requests as one list and check each answer."""
    task = answers.job()
    client = Client(max_connections=task.connections)
    responses = await client.request(
        [Request(url=task.url) for _ in range(task.count)], max_concurrent=task.connections
    )
    right = 0
    for response in responses:
        task.check_json(response.status_code, orjson.loads(response.content))
        right += 1
    answers.report(task, right)


asyncio.run(main())
