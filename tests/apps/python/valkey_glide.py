"""valkey-glide: commands, a batch, a script."""

import asyncio

from glide import Batch, GlideClient, GlideClientConfiguration, NodeAddress, Script

from common import PORT


async def main():
    client = await GlideClient.create(GlideClientConfiguration([NodeAddress("127.0.0.1", PORT)]))
    assert await client.set("colour", "red") == "OK" and await client.get("colour") == b"red"
    batch = Batch(is_atomic=True)
    batch.incr("n")
    batch.hset("h", {"a": "1"})
    assert await client.exec(batch, raise_on_error=True) == [1, 1]
    script = Script("return {KEYS[1], ARGV[1]}")
    assert await client.invoke_script(script, keys=["k"], args=["v"]) == [b"k", b"v"]
    await client.close()


asyncio.run(main())
