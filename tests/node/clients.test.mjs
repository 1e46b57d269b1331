// The server with the clients most people use: npm `ws`, and Node's own fetch.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { Client, publish, startServer, within } from './server.mjs';

let server;
before(async () => { server = await startServer(); });
after(() => server.stop());

let counter = 0;
const freshTopic = () => `node.t${++counter}`;
const open = (topic, query = '', options) => Client.connect(`${server.ws}/topics/${topic}${query}`, options);

test('text stays text and binary stays binary, both ways', async () => {
  const topic = freshTopic();
  const [a, b] = [await open(topic), await open(topic)];
  for (const payload of ['', 'hello', 'příliš žluťoučký kůň 🐎', 'x'.repeat(300_000)]) {
    a.send(payload);
    for (const client of [a, b]) assert.equal(await client.nextText(), payload);
  }
  for (const bytes of [Buffer.alloc(0), Buffer.from([0, 255, 128]), Buffer.alloc(300_000, 7)]) {
    b.send(bytes);
    for (const client of [a, b]) {
      const { data, isBinary } = await client.next();
      assert.ok(isBinary);
      assert.ok(bytes.equals(data));
    }
  }
});

test('what HTTP publishes arrives as it was sent', async () => {
  const topic = freshTopic();
  const client = await open(topic, '?mode=subscribe');
  const answer = await publish(server, topic, '{"from":"fetch"}');
  assert.deepEqual([answer.topic, answer.offset, answer.subscribers], [topic, 1, 1]);
  assert.equal(await client.nextText(), '{"from":"fetch"}');
  await publish(server, topic, Buffer.from([1, 2, 3]), '&binary=1');
  const { data, isBinary } = await client.next();
  assert.ok(isBinary);
  assert.deepEqual([...data], [1, 2, 3]);
});

test('fifty clients that all talk hear one order', async () => {
  const topic = freshTopic();
  const clients = await Promise.all(Array.from({ length: 50 }, () => open(topic)));
  clients.forEach((client, n) => {
    for (let i = 0; i < 10; i++) client.send(`${n}:${i}`);
  });
  const heard = await Promise.all(clients.map(async (client) => {
    const texts = [];
    for (let i = 0; i < 500; i++) texts.push(await client.nextText());
    return texts;
  }));
  assert.equal(new Set(heard[0]).size, 500);
  for (const order of heard) assert.deepEqual(order, heard[0]);
  for (let n = 0; n < 50; n++) {
    const own = heard[0].filter((text) => text.startsWith(`${n}:`));
    assert.deepEqual(own, Array.from({ length: 10 }, (_, i) => `${n}:${i}`));
  }
  for (const client of clients) client.socket.terminate();
});

test('the native protocol: subscribe, publish, unsubscribe, ping, errors', async () => {
  const topic = freshTopic();
  const client = await Client.connect(`${server.ws}/ws`);
  const hello = await client.nextJson();
  assert.equal(hello.type, 'connected');
  assert.equal(typeof hello.connection, 'string');

  client.sendJson({ type: 'subscribe', id: 1, topic });
  const subscribed = await client.nextJson();
  assert.equal(subscribed.type, 'subscribed');
  assert.deepEqual([subscribed.id, subscribed.topic, subscribed.offset, subscribed.recovered], [1, topic, 0, null]);
  assert.equal(typeof subscribed.epoch, 'string');

  client.sendJson({ type: 'publish', id: 'two', topic, data: { n: [1, null, 'x'] } });
  const both = [await client.nextJson(), await client.nextJson()];
  const published = both.find((said) => said.type === 'published');
  const message = both.find((said) => said.type === 'message');
  assert.deepEqual([published.id, published.offset], ['two', 1]);
  assert.deepEqual([message.topic, message.offset, message.data], [topic, 1, { n: [1, null, 'x'] }]);

  client.sendJson({ type: 'unsubscribe', id: 3, topic });
  assert.equal((await client.nextJson()).type, 'unsubscribed');
  assert.equal((await publish(server, topic, '1')).subscribers, 0);

  client.sendJson({ type: 'ping', id: 4 });
  assert.deepEqual(await client.nextJson(), { type: 'pong', id: 4 });

  client.sendJson({ type: 'dance', id: 5 });
  const error = await client.nextJson();
  assert.deepEqual([error.type, error.id], ['error', 5]);
  client.sendJson({ type: 'ping' });
  assert.equal((await client.nextJson()).type, 'pong');
  assert.equal((await client.close(1000, 'bye')).code, 1000);
});

test('a client that comes back gets what it missed', async () => {
  const other = await startServer('--topic', 'kept:history=100');
  try {
    const native = async (request) => {
      const client = await Client.connect(`${other.ws}/ws`);
      await client.nextJson();
      client.sendJson({ type: 'subscribe', topic: 'kept', ...request });
      return { client, answer: await client.nextJson() };
    };
    const first = await native({});
    for (let n = 1; n <= 3; n++) await publish(other, 'kept', String(n));
    for (let n = 1; n <= 3; n++) assert.equal((await first.client.nextJson()).data, n);
    first.client.socket.terminate();
    for (let n = 4; n <= 6; n++) await publish(other, 'kept', String(n));
    const second = await native({ since: { epoch: first.answer.epoch, offset: 3 } });
    assert.equal(second.answer.recovered, true);
    await publish(other, 'kept', '7');
    for (let n = 4; n <= 7; n++) {
      const { data, offset } = await second.client.nextJson();
      assert.deepEqual([data, offset], [n, n]);
    }
    second.client.socket.terminate();
  } finally {
    await other.stop();
  }
});

test('pings are answered with their payload', async () => {
  const client = await open(freshTopic());
  for (const payload of ['', 'hello', 'x'.repeat(125)]) {
    const pong = within(new Promise((resolve) => client.socket.once('pong', resolve)), 'a pong');
    client.socket.ping(payload);
    assert.equal((await pong).toString(), payload);
  }
  await client.close();
});

test('close codes are answered with themselves', async () => {
  for (const [code, reason] of [[1000, 'done'], [1001, 'browser closed'], [3000, ''], [4123, 'application code']]) {
    const client = await open(freshTopic());
    assert.equal((await client.close(code, reason)).code, code);
  }
});

test('twenty abrupt drops in a row disturb nobody', async () => {
  const topic = freshTopic();
  const stays = await open(topic);
  for (let n = 0; n < 20; n++) {
    const dropped = await open(topic, '?mode=subscribe');
    dropped.socket.terminate();
    stays.send(`after drop ${n}`);
    assert.equal(await stays.nextText(), `after drop ${n}`);
  }
});

test('an offered compression is not taken unless the server is told so', async () => {
  const client = await open(freshTopic(), '', { perMessageDeflate: true });
  assert.equal(client.socket.extensions, '');
  client.send('a'.repeat(10_000));
  assert.equal((await client.nextText()).length, 10_000);
  await client.close();
});

test('an offered subprotocol that nobody knows is not taken', async () => {
  // `ws` ends such a connection, as RFC 6455 section 4.1 lets a client do; the server must not pretend to know it.
  await assert.rejects(Client.connect(`${server.ws}/topics/t`, { protocol: 'unheard-of' }), /subprotocol/);
});

test('a page of another origin is refused', async () => {
  await assert.rejects(open(freshTopic(), '', { origin: 'http://evil.example' }), /refused: 403/);
  const client = await open(freshTopic(), '', { origin: server.http });
  await client.close();
});

test('a path that is none is refused with a status', async () => {
  await assert.rejects(Client.connect(`${server.ws}/unheard-of`), /refused: 404/);
  await assert.rejects(open(freshTopic(), '?mode=everything'), /refused: 400/);
});
