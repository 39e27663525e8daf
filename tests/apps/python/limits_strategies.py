"""limits: every strategy, with threads and with asyncio."""

import asyncio

import limits
from limits.aio import storage as aio_storage
from limits.aio import strategies as aio_strategies

from common import PORT

two = limits.parse("2/minute")
store = limits.storage.storage_from_string(f"redis://127.0.0.1:{PORT}")
assert store.check()
for strategy in ("FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"):
    limiter = getattr(limits.strategies, strategy)(store)
    assert [limiter.hit(two, strategy, "user") for _ in range(3)] == [True, True, False], strategy
    assert limiter.get_window_stats(two, strategy, "user").remaining == 0
    assert not limiter.test(two, strategy, "user")
    limiter.clear(two, strategy, "user")
    assert limiter.hit(two, strategy, "user")


async def main():
    store = aio_storage.RedisStorage(f"async+redis://127.0.0.1:{PORT}", implementation="redispy")
    limiter = aio_strategies.MovingWindowRateLimiter(store)
    assert [await limiter.hit(two, "async", "user") for _ in range(3)] == [True, True, False]


asyncio.run(main())
