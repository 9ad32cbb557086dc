"""httpx's AsyncClient on uvloop: one client, as many workers as connections, orjson for the body."""

from __future__ import annotations

import asyncio

import answers
import httpx
import orjson
import uvloop


async def main() -> None:
    """Send the task's requests and check each answer."""
    task = answers.job()
    rows = iter(range(task.count))
    right = 0

    async def worker(client: httpx.AsyncClient) -> None:
        nonlocal right
        for _ in rows:
            response = await client.get(task.url)
            task.check_json(response.status_code, orjson.loads(response.content))
            right += 1

    limits = httpx.Limits(max_connections=task.connections, max_keepalive_connections=task.connections)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        workers = [asyncio.create_task(worker(client)) for _ in range(min(task.connections, task.count))]
        for done in workers:
            await done
    answers.report(task, right)


uvloop.run(main())
