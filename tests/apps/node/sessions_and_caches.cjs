// connect-redis with express-session, Keyv and cache-manager, subscriptions of GraphQL.
'use strict';
const { assert, eventually, port, script, url } = require('./common.cjs');
const { createClient } = require('redis');
const express = require('express');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const { default: KeyvRedis } = require('@keyv/redis');
const { Keyv } = require('keyv');
const { createCache } = require('cache-manager');
const { RedisPubSub } = require('graphql-redis-subscriptions');

script(async () => {
  const client = await createClient({ url }).connect();
  const app = express();
  app.use(session({ store: new RedisStore({ client }), secret: 's', resave: false, saveUninitialized: false }));
  app.get('/', (request, reply) => {
    request.session.n = (request.session.n ?? 0) + 1;
    reply.send(String(request.session.n));
  });
  const server = await new Promise((resolve) => {
    const listening = app.listen(0, '127.0.0.1', () => resolve(listening));
  });
  const page = `http://127.0.0.1:${server.address().port}/`;
  const first = await fetch(page);
  const headers = { cookie: first.headers.getSetCookie()[0].split(';')[0] };
  assert.equal(await (await fetch(page, { headers })).text(), '2');

  const keyv = new Keyv(new KeyvRedis(url), { namespace: 'app' });
  await keyv.set('a', { b: 1 }, 60000);
  assert.deepEqual(await keyv.get('a'), { b: 1 });
  assert.equal(await keyv.delete('a'), true);
  const cache = createCache({ stores: [keyv] });
  let calls = 0;
  for (let i = 0; i < 3; i += 1) assert.equal(await cache.wrap('k', async () => (calls += 1), 60000), 1);
  await cache.clear();

  const bus = new RedisPubSub({ connection: { port } });
  const heard = [];
  await bus.subscribe('NEWS', (payload) => heard.push(payload));
  await bus.publish('NEWS', { text: 'hello' });
  await eventually(() => heard.length === 1);
  assert.deepEqual(heard, [{ text: 'hello' }]);
});
