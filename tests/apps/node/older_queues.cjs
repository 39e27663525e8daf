// bull, bee-queue, rsmq and node-resque: jobs with results, and messages.
'use strict';
const { assert, eventually, port, script } = require('./common.cjs');
const Bull = require('bull');
const Bee = require('bee-queue');
const Rsmq = require('rsmq');
const { Queue, Scheduler, Worker } = require('node-resque');

async function bull() {
  const queue = new Bull('bull', { redis: { port } });
  queue.process(2, async (job) => {
    if (job.data.fail && job.attemptsMade === 0) throw new Error('the first time');
    return job.data.n * 2;
  });
  const jobs = await Promise.all([1, 2, 3].map((n) => queue.add({ n })));
  for (const [index, job] of jobs.entries()) assert.equal(await job.finished(), (index + 1) * 2);
  assert.equal(await (await queue.add({ n: 5, fail: true }, { attempts: 2, delay: 100 })).finished(), 10);
}

async function bee() {
  const queue = new Bee('bee', { redis: { port }, activateDelayedJobs: true });
  queue.process(2, async (job) => job.data.n * 2);
  const result = async (job) => {
    const done = new Promise((resolve) => job.once('succeeded', resolve));
    await job.save();
    return done;
  };
  assert.equal(await result(queue.createJob({ n: 1 })), 2);
  assert.equal(await result(queue.createJob({ n: 4 }).delayUntil(Date.now() + 200)), 8);
}

async function rsmq() {
  const queue = new Rsmq({ host: '127.0.0.1', port });
  await queue.createQueueAsync({ qname: 'q' });
  await queue.sendMessageAsync({ qname: 'q', message: 'hello' });
  const message = await queue.receiveMessageAsync({ qname: 'q', vt: 60 });
  assert.equal(message.message, 'hello');
  assert.equal((await queue.receiveMessageAsync({ qname: 'q' })).id, undefined);
  await queue.changeMessageVisibilityAsync({ qname: 'q', id: message.id, vt: 0 });
  assert.equal((await queue.popMessageAsync({ qname: 'q' })).rc, 2);
}

async function resque() {
  const connection = { pkg: 'ioredis', host: '127.0.0.1', port, options: {} };
  const seen = [];
  const jobs = { note: { perform: async (n) => seen.push(n) } };
  const worker = new Worker({ connection, queues: ['q'], timeout: 20 }, jobs);
  await worker.connect();
  worker.start();
  const scheduler = new Scheduler({ connection, timeout: 20 });
  await scheduler.connect();
  scheduler.start();
  const queue = new Queue({ connection }, jobs);
  await queue.connect();
  await queue.enqueue('q', 'note', [1]);
  await queue.enqueueIn(500, 'q', 'note', [2]);
  await eventually(() => seen.length === 2);
  await worker.end();
  await scheduler.end();
}

script(async () => {
  for (const library of [bull, bee, rsmq, resque]) {
    await library().catch((error) => {
      throw new Error(library.name, { cause: error });
    });
  }
});
