"""FastAPI: pages cached by fastapi-cache2, limits of slowapi."""

import asyncio

import redis.asyncio
from fastapi import FastAPI, Request
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from httpx import ASGITransport, AsyncClient
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

from common import PORT, URL

app = FastAPI()
app.state.limiter = limiter = Limiter(key_func=get_remote_address, storage_uri=URL)
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
calls = []


@app.get("/cached")
@cache(expire=60)
async def cached():
    calls.append(1)
    return {"n": len(calls)}


@app.get("/limited")
@limiter.limit("2/minute")
async def limited(request: Request):
    return {}


async def main():
    FastAPICache.init(RedisBackend(redis.asyncio.Redis(port=PORT)), prefix="app")
    async with AsyncClient(transport=ASGITransport(app=app), base_url="http://test") as browser:
        assert [(await browser.get("/cached")).json()["n"] for _ in range(3)] == [1, 1, 1]
        assert [(await browser.get("/limited")).status_code for _ in range(3)] == [200, 200, 429]
    await FastAPICache.clear()


asyncio.run(main())
