// permessage-deflate with a browser, which offers it by itself and can offer nothing else.
//
//   FANFARE_BIN=target/release/fanfare node --test browser/
//
// CHROMIUM names another browser binary.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { Client, startServer } from '../node/server.mjs';

// The plain client does not answer: it may fall behind by all that there is.
const ARGUMENTS = ['--deflate', '--message-bytes=4000000', '--topic-pending-bytes=16000000', '--pending-bytes=16000000'];
let browser;
let server;

before(async () => {
  server = await startServer(...ARGUMENTS);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function page(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`${server.http}/healthz`);
  return page;
}

const metric = async (name) => {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`fanfare_${name}`));
  return lines.map((line) => Number(line.split(' ').at(-1))).reduce((sum, n) => sum + n, 0);
};

test('messages of all kinds go both ways, compressed, beside a plain client', async (t) => {
  const tab = await page(t);
  const plain = await Client.connect(`${server.ws}/topics/browser.kinds`, { perMessageDeflate: false });
  const outcome = tab.evaluate(async (url) => {
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    const received = [];
    let news = () => {};
    socket.onmessage = ({ data }) => { received.push(data); news(); };
    const next = async () => {
      while (received.length === 0) await new Promise((resolve) => { news = resolve; });
      return received.shift();
    };
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    const ticks = (bytes) => JSON.stringify(Array.from({ length: bytes / 32 }, (_, n) => ({ id: n, text: `words ${n % 7}` })));
    const noise = new Uint8Array(50_000);
    crypto.getRandomValues(noise);
    const messages = ['', 'short', ticks(4096), ticks(1 << 20), 'příliš 🐎 '.repeat(900), new Uint8Array(0), noise, new Uint8Array(1 << 20)];
    const wrong = [];
    for (const [n, message] of messages.entries()) {
      socket.send(message);
      const back = await next();
      const same = typeof message === 'string'
        ? back === message
        : back.byteLength === message.length && new Uint8Array(back).every((byte, at) => byte === message[at]);
      if (!same) wrong.push(n);
    }
    socket.send('last');
    return { extensions: socket.extensions, wrong, echoed: await next(), count: messages.length };
  }, `${server.ws}/topics/browser.kinds`);
  const { extensions, wrong, echoed, count } = await outcome;
  assert.match(extensions, /^permessage-deflate/);
  assert.match(extensions, /server_no_context_takeover/);
  assert.match(extensions, /client_no_context_takeover/);
  assert.deepEqual([wrong, echoed], [[], 'last']);
  for (let n = 0; n < count; n++) await plain.next();
  assert.equal(await plain.nextText(), 'last');
  assert.ok(await metric('inflated_messages_total') >= count, 'Chromium has compressed what it sent');
  assert.ok(await metric('deflated_messages_total') >= 3);
  plain.socket.terminate();
});

test('a bomb is answered with 1009', async (t) => {
  const tab = await page(t);
  const code = await tab.evaluate((url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send(new Uint8Array(64 << 20));
    socket.onclose = (event) => resolve(event.code);
  }), `${server.ws}/topics/browser.bomb`);
  assert.equal(code, 1009);
});
