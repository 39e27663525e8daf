"""redlock-py, python-redis-lock and pottery: locks by script."""

import redis
import redis_lock
from pottery import Redlock as PotteryLock
from redlock import Redlock

from common import PORT

client = redis.Redis(port=PORT)
manager = Redlock([{"host": "127.0.0.1", "port": PORT}], retry_count=1)
lock = manager.lock("resource", 20_000)
assert lock and not manager.lock("resource", 20_000)
manager.unlock(lock)
assert manager.lock("resource", 20_000)

with redis_lock.Lock(client, "other", expire=20, auto_renewal=True) as lock:
    assert not redis_lock.Lock(client, "other").acquire(blocking=False)
    lock.extend(30)

third = PotteryLock(key="third", masters={client}, auto_release_time=20)
assert third.acquire() and third.locked()
third.extend()
third.release()
assert not third.locked()
