"""aiohttp on uvloop: one session, as many workers as connections, orjson for the body."""

from __future__ import annotations

import asyncio

import aiohttp
import answers
import orjson
import uvloop


async def main() -> None:
    """Send the task's requests and check each answer."""
    task = answers.job()
    rows = iter(range(task.count))
    right = 0

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal right
        for _ in rows:
            async with session.get(task.url) as response:
                body = await response.read()
                if task.expected is not None:
                    task.check_json(response.status, orjson.loads(body))
                else:
                    task.check_bytes(response.status, body)
                right += 1

    connector = aiohttp.TCPConnector(limit=task.connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        workers = [asyncio.create_task(worker(session)) for _ in range(min(task.connections, task.count))]
        for done in workers:
            await done
    answers.report(task, right)


uvloop.run(main())
