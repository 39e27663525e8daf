// redlock: a lock that is held, extended and released.
'use strict';
const { assert, port, script, sleep } = require('./common.cjs');
const Redis = require('ioredis');
const Redlock = require('redlock');

script(async () => {
  const locks = new Redlock([new Redis(port)], { retryCount: 0 });
  let lock = await locks.lock(['a', 'b'], 20000);
  await assert.rejects(locks.lock('b', 20000));
  lock = await lock.extend(30000);
  await lock.unlock();
  const patient = new Redlock([new Redis(port)], { retryCount: 1000, retryDelay: 5 });
  let inside = 0;
  await Promise.all(
    Array.from({ length: 5 }, async () => {
      const held = await patient.lock('a', 20000);
      inside += 1;
      assert.equal(inside, 1);
      await sleep(5);
      inside -= 1;
      await held.unlock();
    }),
  );
});
