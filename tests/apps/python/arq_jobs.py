"""arq: jobs with results, one that is due later, a retry."""

import asyncio
from datetime import timedelta

from arq import Retry, create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from common import PORT

settings = RedisSettings(port=PORT)


async def double(ctx, n):
    return n * 2


async def second_time(ctx):
    if ctx["job_try"] == 1:
        raise Retry(defer=0.05)
    return "done"


async def main():
    pool = await create_pool(settings)
    jobs = [await pool.enqueue_job("double", n) for n in range(10)]
    later = await pool.enqueue_job("double", 50, _defer_by=timedelta(milliseconds=300))
    retried = await pool.enqueue_job("second_time")
    assert await pool.enqueue_job("double", 1, _job_id=later.job_id) is None
    worker = Worker([double, second_time], redis_settings=settings, burst=True, poll_delay=0.05, handle_signals=False)
    await worker.main()
    assert [await job.result(timeout=30) for job in jobs] == [n * 2 for n in range(10)]
    assert await later.result(timeout=30) == 100 and await retried.result(timeout=30) == "done"
    await worker.close()


asyncio.run(main())
