// ioredis and iovalkey: a script as a command, a pipeline, a transaction, subscriptions, a stream.
'use strict';
const { assert, eventually, port, script } = require('./common.cjs');
const Redis = require('ioredis');
const Valkey = require('iovalkey');

script(async () => {
  for (const Library of [Redis, Valkey.Redis ?? Valkey.default ?? Valkey]) {
    const client = new Library(port);
    await client.flushall();
    client.defineCommand('add', { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    assert.deepEqual([await client.add('n', 3), await client.add('n', 4)], [3, 7]);
    assert.deepEqual(await client.pipeline().incr('n').get('n').add('n', 1).exec(), [[null, 8], [null, '8'], [null, 9]]);
    assert.deepEqual(await client.multi().set('a', 1).get('a').exec(), [[null, 'OK'], [null, '1']]);
    const subscriber = new Library(port);
    const heard = [];
    subscriber.on('message', (channel, message) => heard.push(message));
    await subscriber.subscribe('news');
    await client.publish('news', 'hello');
    await eventually(() => heard.length === 1);
    const id = await client.xadd('stream', '*', 'a', 'b');
    assert.deepEqual(await client.xread('STREAMS', 'stream', '0'), [['stream', [[id, ['a', 'b']]]]]);
    for await (const keys of client.scanStream({ match: 'n*' })) assert.deepEqual(keys.filter((key) => key !== 'n'), []);
  }
});
