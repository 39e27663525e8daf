"""coredis: commands, a pipeline, a script."""

import asyncio

import coredis

from common import PORT


async def main():
    client = coredis.Redis(host="127.0.0.1", port=PORT, decode_responses=True)
    async with client:
        assert await client.set("colour", "red")
        assert await client.get("colour") == "red"
        async with client.pipeline(transaction=True) as pipe:
            first, second = pipe.incr("n"), pipe.lpush("l", ["a", "b"])
        assert (await first, await second) == (1, 2)
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        assert await script(keys=["n"]) == 2


asyncio.run(main())
