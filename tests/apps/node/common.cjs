// What the scripts share. A script is called with the port of a server, whose data are lost, and ends with 0 if the
// application works.
'use strict';
const assert = require('node:assert/strict');

const port = Number(process.argv[2]);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The first true value of `check()`.
async function eventually(check, seconds = 45) {
  const until = Date.now() + seconds * 1000;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert(Date.now() < until, 'it did not happen in time');
    await sleep(20);
  }
}

// Runs a script, and ends the process with it: libraries keep connections open.
function script(main) {
  process.on('unhandledRejection', (error) => {
    console.error(error);
    process.exit(1);
  });
  main().then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { assert, eventually, port, script, sleep, url: `redis://127.0.0.1:${port}` };
