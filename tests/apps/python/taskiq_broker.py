"""taskiq: a broker over lists, and one over a stream, with results."""

import asyncio

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from common import URL


async def main():
    for broker in (ListQueueBroker(URL, queue_name="list"), RedisStreamBroker(URL, queue_name="stream")):
        broker = broker.with_result_backend(RedisAsyncResultBackend(URL))

        async def double(n: int) -> int:
            return n * 2

        task = broker.register_task(double, task_name="double")
        await broker.startup()
        receiver = asyncio.create_task(run_receiver_task(broker))
        kicked = [await task.kiq(n) for n in range(10)]
        for n, one in enumerate(kicked):
            assert (await one.wait_result(timeout=45)).return_value == n * 2
        receiver.cancel()
        await asyncio.gather(receiver, return_exceptions=True)
        await broker.shutdown()


asyncio.run(main())
