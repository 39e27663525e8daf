// socket.io: two servers joined by each adapter, over publish/subscribe, sharded, and over a stream.
'use strict';
const { assert, eventually, script, url: redis } = require('./common.cjs');
const { createServer } = require('node:http');
const { createAdapter, createShardedAdapter } = require('@socket.io/redis-adapter');
const streams = require('@socket.io/redis-streams-adapter');
const { Server } = require('socket.io');
const { io } = require('socket.io-client');
const { createClient } = require('redis');

const client = () => createClient({ url: redis }).connect();
const adapters = {
  adapter: async () => createAdapter(await client(), await client()),
  sharded: async () => createShardedAdapter(await client(), await client()),
  streams: async () => streams.createAdapter(await client()),
};

async function start(adapter) {
  const http = createServer();
  const server = new Server(http, { adapter: await adapter() });
  server.on('connection', (socket) => socket.join('room'));
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  return { server, url: `http://127.0.0.1:${http.address().port}` };
}

script(async () => {
  for (const [name, adapter] of Object.entries(adapters)) {
    const servers = [await start(adapter), await start(adapter)];
    const heard = [];
    const sockets = servers.map(({ url }, index) => {
      const socket = io(url, { transports: ['websocket'] });
      socket.on('news', (text) => heard.push(`${index} ${text}`));
      return socket;
    });
    await eventually(() => sockets.every((socket) => socket.connected));
    await eventually(async () => (await servers[0].server.in('room').fetchSockets().catch(() => [])).length === 2);
    servers[0].server.to('room').emit('news', name);
    await eventually(() => heard.length >= 2);
    assert.deepEqual(heard.sort(), [`0 ${name}`, `1 ${name}`]);
    sockets.forEach((socket) => socket.close());
  }
});
