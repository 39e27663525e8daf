"""saq: jobs with results, one that is due later, a retry."""

import asyncio
import time

from saq import Queue, Worker

from common import URL

tries = []


async def double(ctx, *, n):
    return n * 2


async def second_time(ctx):
    tries.append(1)
    if len(tries) == 1:
        raise ValueError("the first time")
    return "done"


async def main():
    queue = Queue.from_url(URL)
    worker = Worker(queue, functions=[double, second_time], concurrency=4)
    task = asyncio.create_task(worker.start())
    results = await asyncio.gather(*(queue.apply("double", n=n, timeout=45) for n in range(10)))
    assert results == [n * 2 for n in range(10)]
    later = await queue.enqueue("double", n=50, scheduled=time.time() + 1)
    retried = await queue.enqueue("second_time", retries=3)
    for job, result in ((later, 100), (retried, "done")):
        async with asyncio.timeout(45):
            while not job.completed:
                await asyncio.sleep(0.05)
                await job.refresh()
        assert job.result == result, job
    await worker.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await queue.disconnect()


asyncio.run(main())
