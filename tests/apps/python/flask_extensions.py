"""Flask: sessions of Flask-Session, caching of Flask-Caching, limits of Flask-Limiter."""

import redis
from flask import Flask, session
from flask_caching import Cache
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_session import Session

from common import PORT, URL

app = Flask(__name__)
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(port=PORT))
app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=URL)
Session(app)
cache = Cache(app)
limiter = Limiter(get_remote_address, app=app, storage_uri=URL)
calls = []


@app.get("/count")
def count():
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])


@app.get("/cached")
@cache.cached(timeout=60)
def cached():
    calls.append(1)
    return "page"


@app.get("/limited")
@limiter.limit("2/minute")
def limited():
    return "page"


browser = app.test_client()
assert [browser.get("/count").text for _ in range(3)] == ["1", "2", "3"]
assert app.test_client().get("/count").text == "1"
assert [browser.get("/cached").text for _ in range(3)] == ["page"] * 3 and len(calls) == 1
assert [browser.get("/limited").status_code for _ in range(3)] == [200, 200, 429]
