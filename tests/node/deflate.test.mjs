// permessage-deflate with the clients of others: npm `ws` with all its options, and Python's `websockets`.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { Client, publish, startServer } from './server.mjs';

let server;
before(async () => { server = await startServer('--deflate', '--history-messages=100', '--message-bytes=4000000'); });
after(() => server.stop());

let counter = 0;
const freshTopic = () => `deflate.t${++counter}`;
const metric = async (name) => {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`fanfare_${name}`));
  assert.notEqual(lines.length, 0, name);
  return lines.map((line) => Number(line.split(' ').at(-1))).reduce((sum, n) => sum + n, 0);
};

const OFFERS = {
  'all defaults': {},
  'no context takeover': { serverNoContextTakeover: true, clientNoContextTakeover: true },
  'a small window of ours': { serverMaxWindowBits: 10 },
  'the smallest window of ours': { serverMaxWindowBits: 9 },
  'a small window of theirs': { clientMaxWindowBits: 9 },
  'small windows': { serverMaxWindowBits: 11, clientMaxWindowBits: 11, serverNoContextTakeover: true },
  'everything compressed': { threshold: 0 },
};
const open = (topic, perMessageDeflate, query = '') =>
  Client.connect(`${server.ws}/topics/${topic}${query}`, { perMessageDeflate });

const json = (bytes) => JSON.stringify(Array.from({ length: bytes / 32 }, (_, n) => ({ id: n, text: `words ${n % 7}` })));
const payloads = () => [
  ['empty', ''], ['short', 'hello'], ['4 KiB', json(4096)], ['1 MiB', json(1 << 20)], ['unicode', 'příliš 🐎 '.repeat(500)],
  ['incompressible', randomBytes(50_000)], ['nothing', Buffer.alloc(0)], ['zeros', Buffer.alloc(1 << 20)],
];

for (const [name, options] of Object.entries(OFFERS)) {
  test(`npm ws, ${name}: messages of all kinds, both ways, beside a plain client`, async () => {
    const topic = freshTopic();
    const [member, plain] = [await open(topic, { threshold: 100, ...options }), await open(topic, false)];
    assert.match(member.socket.extensions, /^permessage-deflate/);
    assert.equal(plain.socket.extensions, '');
    const inflated = await metric('inflated_messages_total');
    let from = member;
    for (let round = 0; round < 2; round++) {
      for (const [what, payload] of payloads()) {
        from.send(payload);
        for (const client of [member, plain]) {
          const { data, isBinary } = await client.next();
          assert.equal(isBinary, typeof payload !== 'string', what);
          assert.ok(Buffer.from(payload).equals(data), `${what}: ${data.length} bytes`);
        }
      }
      from = plain;
    }
    assert.ok(await metric('inflated_messages_total') > inflated + 3, 'the client has compressed');
    for (const client of [member, plain]) await client.close(1000);
  });
}

test('npm ws: a window that nobody makes is declined, and the connection is a plain one', async () => {
  const topic = freshTopic();
  const client = await open(topic, { serverMaxWindowBits: 8 });
  assert.equal(client.socket.extensions, '');
  client.send('x'.repeat(5000));
  assert.equal(await client.nextText(), 'x'.repeat(5000));
});

test('npm ws: what was missed comes over a compressed connection', async () => {
  const topic = freshTopic();
  const first = await publish(server, topic, 'first');
  for (let n = 0; n < 20; n++) await publish(server, topic, json(2048 + 64 * n));
  const client = await Client.connect(`${server.ws}/ws`, { perMessageDeflate: {} });
  assert.match(client.socket.extensions, /^permessage-deflate/);
  assert.equal((await client.nextJson()).type, 'connected');
  client.sendJson({ type: 'subscribe', topic, since: { epoch: first.epoch, offset: first.offset } });
  assert.equal((await client.nextJson()).recovered, true);
  for (let n = 0; n < 20; n++) {
    const message = await client.nextJson();
    assert.deepEqual([message.offset, message.data], [n + 2, JSON.parse(json(2048 + 64 * n))]);
  }
});

/** Bytes that have come over a client's socket. */
const received = (client) => client.socket._socket.bytesRead;

test('a subscriber that compresses, one that does not, and one with a small window get the same', async () => {
  const topic = freshTopic();
  const clients = await Promise.all([{ threshold: 0 }, false, { serverMaxWindowBits: 9 }]
    .map((offer) => open(topic, offer, '?mode=subscribe')));
  const before = clients.map(received);
  let bytes = 0;
  for (let n = 0; n < 50; n++) {
    const payload = json(4096).replaceAll('words', `words ${n}`);
    bytes += payload.length;
    await publish(server, topic, payload);
    for (const client of clients) assert.equal(await client.nextText(), payload);
  }
  const [compressed, plain] = clients.map((client, n) => received(client) - before[n]);
  assert.ok(plain > bytes, `${plain}`);
  assert.ok(compressed < bytes / 2, `${compressed} of ${bytes}`);
  for (const client of clients) await client.close();
});

test('short messages are left as they are', async () => {
  const topic = freshTopic();
  const client = await open(topic, {}, '?mode=subscribe');
  const before = received(client);
  await publish(server, topic, 'x'.repeat(60));
  assert.equal((await client.nextText()).length, 60);
  assert.ok(received(client) - before > 60);
  await client.close();
});

test('compressed in fragments, and plain among compressed', async () => {
  const client = await open(freshTopic(), { threshold: 0 });
  const whole = json(50_000);
  for (let at = 0; at < whole.length; at += 10_000) {
    client.socket.send(whole.slice(at, at + 10_000), { fin: at + 10_000 >= whole.length, compress: true });
  }
  assert.equal(await client.nextText(), whole);
  for (const compress of [false, true, false]) {
    client.socket.send(whole, { compress });
    assert.equal(await client.nextText(), whole);
  }
  await client.close();
});

test('npm ws: a bomb is answered with 1009', async () => {
  const client = await open(freshTopic(), { threshold: 0 });
  client.send(Buffer.alloc(64 << 20));
  assert.equal((await client.closed).code, 1009);
});

const script = fileURLToPath(new URL('deflate_websockets.py', import.meta.url));
const installed = fileURLToPath(new URL('../../target/python/bin/python', import.meta.url));
const python = [process.env.WEBSOCKETS_PYTHON, installed].find((path) => path && existsSync(path));
const skip = python ? false : 'there is no Python with websockets: tests/run setup installs it';

test('Python websockets: messages of all kinds, both ways, with and without offers of small windows', { skip }, async () => {
  const { stdout } = await promisify(execFile)(python, [script, server.ws], { timeout: 60_000 });
  assert.match(stdout, /^7 connections, all as they should be$/m);
});
