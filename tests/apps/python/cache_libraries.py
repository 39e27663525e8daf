"""aiocache with its lock, dogpile.cache with a distributed lock, cachelib."""

import asyncio

from aiocache import RedisCache
from aiocache.lock import RedLock
from cachelib import RedisCache as CacheLib
from dogpile.cache import make_region

from common import PORT


async def with_aiocache():
    cache = RedisCache(endpoint="127.0.0.1", port=PORT)
    await cache.set("a", "1", ttl=60)
    assert await cache.get("a") == "1" and await cache.increment("n") == 1
    async with RedLock(cache, "key", lease=2):
        await cache.multi_set([("b", "2"), ("c", "3")])
    assert await cache.multi_get(["b", "c", "d"]) == ["2", "3", None]
    await cache.close()


asyncio.run(with_aiocache())

region = make_region().configure(
    "dogpile.cache.redis",
    expiration_time=60,
    arguments={"host": "127.0.0.1", "port": PORT, "distributed_lock": True, "lock_timeout": 20},
)
calls = []


@region.cache_on_arguments()
def square(n):
    calls.append(n)
    return n * n


assert (square(3), square(3), calls) == (9, 9, [3])
square.invalidate(3)
assert (square(3), calls) == (9, [3, 3])

cachelib = CacheLib("127.0.0.1", PORT)
assert cachelib.set("x", {"y": 1}, timeout=60) and cachelib.get("x") == {"y": 1}
assert cachelib.add("x", 2) is False and cachelib.inc("z", 2) == 2 and cachelib.delete("x")
