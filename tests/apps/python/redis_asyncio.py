"""redis-py with asyncio: commands at once, a lock, subscriptions."""

import asyncio

import redis.asyncio

from common import PORT


async def main():
    client = redis.asyncio.Redis(port=PORT, decode_responses=True)
    assert sorted(await asyncio.gather(*(client.incr("n") for _ in range(100)))) == list(range(1, 101))

    async def add():
        async with client.lock("lock", timeout=20, sleep=0.001):
            await client.set("m", int(await client.get("m") or 0) + 1)

    await asyncio.gather(*(add() for _ in range(30)))
    assert await client.get("m") == "30"
    async with client.pubsub() as subscriber:
        await subscriber.psubscribe("n*")
        assert (await subscriber.get_message(timeout=10))["type"] == "psubscribe"
        assert await client.publish("news", "hello") == 1
        assert (await subscriber.get_message(timeout=10))["data"] == "hello"
    await client.aclose()


asyncio.run(main())
