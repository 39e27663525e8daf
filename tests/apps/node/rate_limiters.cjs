// rate-limiter-flexible, express-rate-limit and @fastify/rate-limit.
'use strict';
const { assert, port, script } = require('./common.cjs');
const Redis = require('ioredis');
const { RateLimiterRedis } = require('rate-limiter-flexible');
const express = require('express');
const { rateLimit } = require('express-rate-limit');
const { RedisStore } = require('rate-limit-redis');
const fastify = require('fastify');

async function codes(base) {
  const seen = [];
  for (let i = 0; i < 3; i += 1) seen.push((await fetch(base)).status);
  return seen;
}

script(async () => {
  const client = new Redis(port);
  const limiter = new RateLimiterRedis({ storeClient: client, points: 2, duration: 60, blockDuration: 60 });
  await limiter.consume('user');
  assert.equal((await limiter.consume('user')).remainingPoints, 0);
  await assert.rejects(limiter.consume('user'), (refused) => refused.msBeforeNext > 0);
  await limiter.reward('other', 1);
  assert.equal(await limiter.delete('user'), true);

  const store = new RedisStore({ sendCommand: (...words) => client.call(...words) });
  const app = express().use(rateLimit({ windowMs: 60000, limit: 2, store })).get('/', (_, reply) => reply.send('page'));
  const server = await new Promise((resolve) => {
    const listening = app.listen(0, '127.0.0.1', () => resolve(listening));
  });
  assert.deepEqual(await codes(`http://127.0.0.1:${server.address().port}/`), [200, 200, 429]);

  const other = fastify();
  await other.register(require('@fastify/redis'), { host: '127.0.0.1', port });
  await other.register(require('@fastify/rate-limit'), { max: 2, timeWindow: 60000, redis: other.redis });
  other.get('/', async () => 'page');
  assert.deepEqual(await codes(await other.listen({ port: 0, host: '127.0.0.1' })), [200, 200, 429]);
});
