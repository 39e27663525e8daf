"""walrus: containers, a lock, a rate limit, a cache, a stream's group, ranges by script."""

from walrus import Database, RateLimitException

from common import PORT

db = Database(port=PORT)
hashed = db.Hash("hash")
hashed.update(a="1", b="2")
assert hashed["a"] == b"1" and len(hashed) == 2
items = db.List("list")
items.extend(["a", "b", "c"])
assert items[1:] == [b"b", b"c"]
scores = db.ZSet("scores")
scores.add({"a": 1, "b": 2, "c": 3})
assert scores[:2] == [b"a", b"b"] and scores.score("c") == 3
with db.lock("lock", ttl=20_000):
    assert not db.lock("lock").acquire(block=False)
limit = db.rate_limit("limit", limit=2, per=60)
assert [limit.limit("user") for _ in range(3)] == [False, False, True]
cache = db.cache("cache")
calls = []


@cache.cached(timeout=60)
def square(n):
    calls.append(n)
    return n * n


assert (square(3), square(3), calls) == (9, 9, [3])
group = db.consumer_group("group", ["stream"])
group.create()
group.set_id("$")
entry = db.Stream("stream").add({"a": "b"})
assert group.read()[0][1][0][0] == entry
array = db.Array("array")
array.extend(["a", "b", "c", "d"])
assert array[1] == b"b" and array.pop(0) == b"a" and len(array) == 3
