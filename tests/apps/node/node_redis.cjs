// node-redis: RESP3, a script, a transaction, a pool, a client-side cache, subscriptions.
'use strict';
const { assert, eventually, script, url } = require('./common.cjs');
const { createClient, createClientPool, defineScript } = require('redis');

script(async () => {
  const add = defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
    parseCommand(parser, key, by) {
      parser.pushKey(key);
      parser.push(String(by));
    },
    transformReply: (reply) => reply,
  });
  const client = await createClient({ url, RESP: 3, scripts: { add } }).connect();
  assert.deepEqual([await client.add('n', 3), await client.add('n', 4)], [3, 7]);
  assert.deepEqual(await client.multi().set('a', 'b').get('a').hSet('h', { x: '1' }).exec(), ['OK', 'b', 1]);
  const pool = await createClientPool({ url }).connect();
  assert.equal((await Promise.all(Array.from({ length: 50 }, () => pool.incr('m')))).length, 50);
  assert.equal(await pool.get('m'), '50');
  const cached = await createClient({ url, RESP: 3, clientSideCache: { ttl: 0, maxEntries: 10 } }).connect();
  assert.equal(await cached.get('m'), '50');
  await client.set('m', '51');
  await eventually(async () => (await cached.get('m')) === '51');
  const heard = [];
  const subscriber = await client.duplicate().connect();
  await subscriber.pSubscribe('n*', (message) => heard.push(message));
  await client.publish('news', 'hello');
  await eventually(() => heard.length === 1);
});
