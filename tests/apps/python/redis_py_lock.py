"""redis-py: locks, a transaction, subscriptions, a stream's group, and a client-side cache."""

import threading

import redis
from redis.cache import CacheConfig
from redis.exceptions import LockNotOwnedError

from common import PORT, eventually

client = redis.Redis(port=PORT, decode_responses=True)

# Threads that hold a lock in turn lose no increment.
client.set("n", 0)


def add():
    for _ in range(20):
        with client.lock("lock", timeout=20, sleep=0.001):
            client.set("n", int(client.get("n")) + 1)


threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert client.get("n") == "80"
lock = client.lock("lock", timeout=20)
assert lock.acquire() and lock.owned() and not client.lock("lock").acquire(blocking=False)
assert lock.extend(10) and lock.reacquire()
client.delete("lock")
try:
    lock.release()
except LockNotOwnedError:
    pass
else:
    raise AssertionError("a lock that somebody else removed was released")

with client.pipeline() as pipe:
    pipe.watch("n")
    pipe.multi()
    assert pipe.incr("n").hset("h", mapping={"a": 1}).hgetall("h").execute() == [81, 1, {"a": "1"}]

heard = []
subscriber = client.pubsub()
subscriber.subscribe(news=lambda message: heard.append(message["data"]))
thread = subscriber.run_in_thread(sleep_time=0.01)
eventually(lambda: client.publish("news", "hello"))
eventually(lambda: "hello" in heard)
thread.stop()
thread.join()

client.xgroup_create("stream", "group", mkstream=True)
entry = client.xadd("stream", {"a": "b"})
assert client.xreadgroup("group", "me", {"stream": ">"}) == [["stream", [(entry, {"a": "b"})]]]
assert client.xack("stream", "group", entry) == 1


class Cached(redis.connection.CacheProxyConnection):
    """A cache asks for a server of version 7.4, though older ones have what it needs."""

    MIN_ALLOWED_VERSION = "7.0.0"


redis.connection.CacheProxyConnection = Cached
cached = redis.Redis(port=PORT, protocol=3, decode_responses=True, cache_config=CacheConfig())
assert cached.get("n") == "81" and cached.get_cache().size == 1
client.set("n", 1)
eventually(lambda: cached.get("n") == "1")
