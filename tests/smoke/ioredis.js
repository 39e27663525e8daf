// Test of ioredis against a server, whose data are lost: ioredis.js PORT. If the library is missing, the test is
// skipped, or fails if CI is set.
let Redis;
try {
  Redis = require("ioredis");
} catch {
  console.log("SKIPPED: no ioredis");
  process.exit(process.env.CI ? 1 : 0);
}
const assert = require("assert");
const port = Number(process.argv[2]);

async function publishSubscribe(client, listener) {
  const got = [];
  const done = new Promise((resolve) => {
    for (const kind of ["message", "pmessage", "smessage"]) {
      listener.on(kind, (...message) => got.push([kind, ...message]) === 3 && resolve());
    }
  });
  assert.equal(await listener.subscribe("news"), 1);
  assert.equal(await listener.psubscribe("w*"), 2);
  assert.equal(await listener.ssubscribe("shard"), 1);
  await client.publish("news", "1");
  await client.publish("weather", "2");
  await client.spublish("shard", "3");
  await done;
  assert.deepEqual(got, [
    ["message", "news", "1"],
    ["pmessage", "w*", "weather", "2"],
    ["smessage", "shard", "3"],
  ]);
  await listener.sunsubscribe("shard");
  await listener.punsubscribe("w*");
  await listener.unsubscribe("news");
  assert.equal(await listener.set("key", "value"), "OK");
}

async function transactions(client, other) {
  const replies = await client.pipeline().set("x", 1).lpush("x", 1).incr("x").exec();
  assert.equal(replies[2][1], 2);
  assert.match(replies[1][0].message, /^WRONGTYPE/);
  assert.deepEqual(await client.multi().set("x", 5).incr("x").exec(), [[null, "OK"], [null, 6]]);
  await client.watch("x");
  await other.incr("x");
  assert.equal(await client.multi().get("x").exec(), null);
  await assert.rejects(client.multi().set("x").exec(), /EXECABORT/);
}

async function blockingPops(client, other) {
  const [list, move, sorted] = [other.blpop("none", "list", 5), other.blmove("list", "moved", "LEFT", "RIGHT", 5), other.bzmpop(5, 1, "zset", "MAX")];
  await client.rpush("list", "a");
  assert.deepEqual(await list, ["list", "a"]);
  await client.rpush("list", "b");
  assert.equal(await move, "b");
  await client.zadd("zset", 1, "m");
  assert.deepEqual(await sorted, ["zset", [["m", "1"]]]);
  assert.equal(await other.brpop("none", 0.01), null);
}

async function main() {
  const [client, other, listener] = [new Redis(port), new Redis(port), new Redis(port)];
  await client.flushall();
  await publishSubscribe(client, listener);
  await transactions(client, other);
  await blockingPops(client, other);
  [client, other, listener].forEach((connection) => connection.disconnect());
  console.log("ioredis: publish/subscribe, transactions, blocking pops");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
