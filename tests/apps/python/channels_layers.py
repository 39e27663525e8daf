"""channels_redis: both layers, with groups, and a channel that is full."""

import asyncio

from channels.exceptions import ChannelFull
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from common import URL


async def receive(layer, channel):
    return (await asyncio.wait_for(layer.receive(channel), 30))["text"]


async def main():
    for layer in (RedisChannelLayer(hosts=[URL], capacity=3), RedisPubSubChannelLayer(hosts=[URL])):
        one, two = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("group", one)
        await layer.group_add("group", two)
        await layer.send(one, {"type": "message", "text": "alone"})
        assert await receive(layer, one) == "alone"
        await layer.group_send("group", {"type": "message", "text": "all"})
        assert await receive(layer, one) == "all" and await receive(layer, two) == "all"
        await layer.group_discard("group", two)
        if isinstance(layer, RedisChannelLayer):
            try:
                for n in range(4):
                    await layer.send("full", {"type": "message", "text": str(n)})
            except ChannelFull:
                pass
            else:
                raise AssertionError("a full channel takes messages")
        await layer.flush()
        if isinstance(layer, RedisChannelLayer):
            await layer.close_pools()


asyncio.run(main())
