// permessage-deflate with npm `ws`: what goes over the wire.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Client, publish, startServer } from './server.mjs';

let server;
before(async () => { server = await startServer('--deflate', '--deflate-min-bytes=64'); });
after(() => server.stop());

let counter = 0;
const freshTopic = () => `deflate.t${++counter}`;
const open = (topic, perMessageDeflate, query = '') =>
  Client.connect(`${server.ws}/topics/${topic}${query}`, { perMessageDeflate });

/** Bytes that have come over a client's socket. */
const received = (client) => client.socket._socket.bytesRead;

/** Text of which deflate makes a third or less, each another. */
const text = (bytes, seed = 0) => Array.from({ length: Math.ceil(bytes / 32) }, (_, n) =>
  `{"seat":${(n * 7919 + seed) % 9973},"name":"somebody"},`).join('').slice(0, bytes);

test('a subscriber that compresses, one that does not, and one with a small window get the same', async () => {
  const topic = freshTopic();
  const clients = await Promise.all([{ threshold: 0 }, false, { serverMaxWindowBits: 9 }]
    .map((offer) => open(topic, offer, '?mode=subscribe')));
  const before = clients.map(received);
  let bytes = 0;
  for (let n = 0; n < 50; n++) {
    const payload = text(4_096, n);
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
  const client = await open(topic, true, '?mode=subscribe');
  const before = received(client);
  await publish(server, topic, 'x'.repeat(60));
  assert.equal((await client.nextText()).length, 60);
  assert.ok(received(client) - before > 60);
  await client.close();
});

test('compressed in fragments, and plain among compressed', async () => {
  const client = await open(freshTopic(), { threshold: 0 });
  const whole = text(50_000);
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
