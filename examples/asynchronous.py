"""From asynchronous code: the event loop goes on while the list is sent, and cancelling the task cancels the batch."""

import asyncio

import loamy
from loamy import testing


async def main(server: testing.TestServer) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    responses = await loamy.send_async([server.url("/delay/0.3")] * 50)
    ticking.cancel()
    print(f"{responses}\nthe loop ticked {ticks} times meanwhile")
    assert len(responses.failed) == 0 and ticks > 5

    try:
        await asyncio.wait_for(loamy.send_async([server.url("/hang")] * 50), timeout=0.2)
    except asyncio.TimeoutError:
        print("a batch that takes too long is cancelled like any task")


with testing.serve() as own:
    asyncio.run(main(own))
