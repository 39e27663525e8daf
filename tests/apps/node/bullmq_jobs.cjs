// BullMQ: jobs with results, priorities, a retry, a job that is due later, a flow, a job that repeats.
'use strict';
const { assert, eventually, port, script } = require('./common.cjs');
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');

script(async () => {
  const connection = { port, maxRetriesPerRequest: null };
  const queue = new Queue('queue', { connection });
  const events = new QueueEvents('queue', { connection });
  await events.waitUntilReady();
  let repeated = 0;
  const work = async (job) => {
    if (job.name === 'second-time' && job.attemptsMade === 0) throw new Error('the first time');
    if (job.name === 'repeat') repeated += 1;
    if (job.name === 'sum') return Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
    await job.updateProgress(50);
    return (job.data.n ?? 0) * 2;
  };
  const workers = [0, 1].map(() => new Worker('queue', work, { connection, concurrency: 2 }));
  const jobs = await queue.addBulk(Array.from({ length: 20 }, (_, n) => ({ name: 'double', data: { n }, opts: { priority: n } })));
  for (const [n, job] of jobs.entries()) assert.equal(await job.waitUntilFinished(events, 45000), n * 2);
  const later = await queue.add('double', { n: 50 }, { delay: 200 });
  assert.equal(await later.waitUntilFinished(events, 45000), 100);
  const retried = await queue.add('second-time', { n: 2 }, { attempts: 3, backoff: 20 });
  assert.equal(await retried.waitUntilFinished(events, 45000), 4);
  const children = [1, 2, 3].map((n) => ({ name: 'double', queueName: 'queue', data: { n } }));
  const flow = await new FlowProducer({ connection }).add({ name: 'sum', queueName: 'queue', children });
  assert.equal(await flow.job.waitUntilFinished(events, 45000), 12);
  await queue.upsertJobScheduler('scheduler', { every: 100 }, { name: 'repeat' });
  await eventually(() => repeated >= 3);
  await queue.removeJobScheduler('scheduler');
  await Promise.all(workers.map((worker) => worker.close()));
  assert((await queue.getJobCounts()).completed >= 27);
  await queue.obliterate({ force: true });
});
