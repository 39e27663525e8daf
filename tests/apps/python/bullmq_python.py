"""BullMQ for Python: jobs with results, one that is due later, a retry."""

import asyncio

from bullmq import Queue, Worker

from common import URL

results = {}


async def main():
    done = asyncio.Event()

    async def work(job, token):
        if job.name == "second-time" and job.attemptsMade == 0:
            raise ValueError("the first time")
        return job.data["n"] * 2

    def completed(job, result):
        results[job.data["n"]] = result
        if len(results) == 12:
            done.set()

    queue = Queue("queue", {"connection": URL})
    await queue.addBulk([{"name": "double", "data": {"n": n}} for n in range(10)])
    await queue.add("later", {"n": 10}, {"delay": 300})
    await queue.add("second-time", {"n": 11}, {"attempts": 3, "backoff": 50})
    worker = Worker("queue", work, {"connection": URL})
    worker.on("completed", completed)
    await asyncio.wait_for(done.wait(), 45)
    assert results == {n: n * 2 for n in range(12)}
    await worker.close()
    await queue.close()


asyncio.run(main())
