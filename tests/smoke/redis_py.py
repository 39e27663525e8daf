"""Test of redis-py against a server, whose data are lost: redis_py.py PORT. If the library is missing, the test is
skipped, or fails if CI is set."""

import os
import sys
import threading
import time

try:
    import redis
except ImportError:
    print("SKIPPED: no redis-py")
    sys.exit(1 if os.environ.get("CI") else 0)

PORT = int(sys.argv[1])


def connect(**options):
    return redis.Redis(port=PORT, decode_responses=True, **options)


def soon(action):
    """Runs `action` while the caller waits in a blocking command."""
    threading.Timer(0.05, action).start()


def messages(pubsub, number):
    got, until = [], time.monotonic() + 5
    while len(got) < number and time.monotonic() < until:
        message = pubsub.get_message(timeout=1)
        if message:
            got.append((message["type"], message["channel"], message["data"]))
    return got


def publish_subscribe(client):
    pubsub = client.pubsub()
    pubsub.subscribe("news")
    pubsub.psubscribe("w*")
    pubsub.ssubscribe("shard")
    assert len(messages(pubsub, 3)) == 3
    assert (client.publish("news", "1"), client.publish("weather", "2"), client.spublish("shard", "3")) == (1, 1, 1)
    got = sorted(messages(pubsub, 3))
    assert got == [("message", "news", "1"), ("pmessage", "weather", "2"), ("smessage", "shard", "3")], got
    assert client.pubsub_numsub("news", "other") == [("news", 1), ("other", 0)]
    pubsub.close()


def transactions(client):
    client.set("n", 1)
    seen = []

    def increment(pipe):
        seen.append(int(pipe.get("n")))
        if len(seen) == 1:
            connect().set("n", 10)
        pipe.multi()
        pipe.set("n", seen[-1] + 1)

    client.transaction(increment, "n")
    assert (seen, client.get("n")) == ([1, 10], "11")
    replies = client.pipeline().set("x", 1).lpush("x", 2).get("x").execute(raise_on_error=False)
    assert replies[0] and isinstance(replies[1], redis.ResponseError) and replies[2] == "1", replies


def blocking_pops(client):
    other = connect()
    soon(lambda: other.rpush("list", "a"))
    assert list(client.blpop(["none", "list"], 5)) == ["list", "a"]
    soon(lambda: other.rpush("list", "b"))
    assert client.blmove("list", "moved", 5) == "b"
    soon(lambda: other.rpush("list", "c", "d"))
    assert client.blmpop(5, 1, "list", direction="LEFT", count=2) == ["list", ["c", "d"]]
    soon(lambda: other.zadd("zset", {"m": 1.5}))
    assert list(client.bzpopmin("zset", 5)) == ["zset", "m", 1.5]
    assert client.brpop("none", 0.01) is None


def users(client):
    client.acl_setuser("reader", enabled=True, passwords=["+pw"], commands=["+@read"], keys=["a*"])
    reader = connect(username="reader", password="pw", protocol=client.get_connection_kwargs().get("protocol"))
    assert reader.get("a") is None
    for denied in (lambda: reader.get("b"), lambda: reader.set("a", 1)):
        try:
            denied()
        except redis.exceptions.NoPermissionError:
            continue
        raise AssertionError("nothing was denied")
    assert client.acl_log()[0]["username"] == "reader"
    assert client.acl_deluser("reader") == 1


def caching():
    """Client-side caching: what was read is not asked for again until it changes."""
    try:
        import redis.connection
        from redis.cache import CacheConfig
    except ImportError:
        return
    # The library asks for Redis 7.4; what it uses is there since 6.0.
    redis.connection.CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"
    cached, writer = connect(protocol=3, cache_config=CacheConfig()), connect()
    writer.set("key", "old")
    calls = []
    for _ in range(5):
        assert cached.get("key") == "old"
        calls.append(writer.info("commandstats")["cmdstat_get"]["calls"])
    assert calls[0] == calls[-1], calls
    writer.set("key", "new")
    until = time.monotonic() + 5
    while cached.get("key") != "new":
        assert time.monotonic() < until, "an invalidation is missing"
        time.sleep(0.01)


for protocol in (2, 3):
    client = connect(protocol=protocol)
    client.flushall()
    publish_subscribe(client)
    transactions(client)
    blocking_pops(client)
    users(client)
caching()
print(f"redis-py {redis.__version__}: publish/subscribe, transactions, blocking pops, users, caching")
