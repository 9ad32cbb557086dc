"""pyreqwest's asynchronous client on uvloop: as many workers as connections, JSON decoded by the library."""

from __future__ import annotations

import asyncio

import answers
import uvloop
from pyreqwest.client import Client, ClientBuilder


async def main() -> None:
    """Send the task's requests and check each answer."""
    task = answers.job()
    rows = iter(range(task.count))
    right = 0

    async def worker(client: Client) -> None:
        nonlocal right
        for _ in rows:
            response = await client.get(task.url).build().send()
            task.check_json(response.status, await response.json())
            right += 1

    builder = ClientBuilder().max_connections(task.connections).no_proxy().pool_max_idle_per_host(task.connections)
    async with builder.build() as client:
        workers = [asyncio.create_task(worker(client)) for _ in range(min(task.connections, task.count))]
        for done in workers:
            await done
    answers.report(task, right)


uvloop.run(main())
