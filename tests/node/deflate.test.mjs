// permessage-deflate with npm `ws`: negotiation in all its forms, compressed messages both ways.

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

test('every offer that npm ws can make is answered, and messages come back as they were sent', async () => {
  const offers = [
    true,
    { threshold: 0 },
    { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
    { threshold: 0, clientMaxWindowBits: 9 },
    { threshold: 0, serverMaxWindowBits: 9 },
    { threshold: 0, serverMaxWindowBits: 15, clientMaxWindowBits: true },
  ];
  for (const offer of offers) {
    const client = await open(freshTopic(), offer);
    const agreed = client.socket._extensions?.['permessage-deflate'];
    assert.ok(agreed, `${JSON.stringify(offer)} was not taken`);
    assert.ok(agreed.params.server_no_context_takeover && agreed.params.client_no_context_takeover);
    if (offer.serverMaxWindowBits === 9) assert.equal(agreed.params.server_max_window_bits, 9);
    for (const payload of ['', 'a', text(63), text(64), text(5_000), text(300_000), 'x'.repeat(1_000_000)]) {
      client.send(payload);
      assert.equal(await client.nextText(), payload);
    }
    const bytes = Buffer.from(text(100_000));
    client.send(bytes);
    const { data, isBinary } = await client.next();
    assert.ok(isBinary && bytes.equals(data));
    assert.equal((await client.close(1000)).code, 1000);
  }
});

test('an offer of a window that nobody can keep is declined, not the connection', async () => {
  // `ws` itself refuses to offer it, so it is written by hand.
  const client = await Client.connect(`${server.ws}/topics/${freshTopic()}`, {
    perMessageDeflate: false,
    headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=8' },
  });
  assert.equal(client.socket.extensions, '');
  await client.close();
});

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

test('a message that inflates beyond the limit closes with 1009', async () => {
  const small = await startServer('--deflate', '--message-bytes=65536');
  try {
    const client = await Client.connect(`${small.ws}/topics/bomb`, { perMessageDeflate: { threshold: 0 } });
    client.send('x'.repeat(10_000_000));
    assert.equal((await client.closed).code, 1009);
  } finally {
    await small.stop();
  }
});
