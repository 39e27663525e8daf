"""Django: its own cache, that of django-redis with a lock, and sessions in a cache."""

import django
from django.conf import settings

from common import URL

settings.configure(
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": URL},
        "other": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": URL, "KEY_PREFIX": "other"},
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    INSTALLED_APPS=["django.contrib.sessions"],
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import caches

for cache in (caches["default"], caches["other"]):
    cache.set_many({"a": 1, "b": [1, 2]}, timeout=60)
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": [1, 2]}
    assert cache.incr("a") == 2 and cache.add("a", 9) is False and cache.touch("a", 100)
    assert cache.get_or_set("c", lambda: "made") == "made"
    cache.delete("b")
    assert cache.get("b") is None
other = caches["other"]
with other.lock("lock", timeout=20):
    assert not other.lock("lock").acquire(blocking=False)
assert sorted(other.keys("*")) == ["a", "c"] and other.ttl("a") > 0 and other.delete_pattern("*") == 2
session = SessionStore()
session["colour"] = "red"
session.save()
assert SessionStore(session.session_key)["colour"] == "red"
