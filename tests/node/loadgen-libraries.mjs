// What the client libraries of other servers say: `node loadgen-libraries.mjs NAME` lets the real library connect to a server
// that keeps what it hears, subscribe to the topic `loadgen.0`, publish `say "hi"`, stay alive, and prints
// {"path", "said"} as one line of JSON.
//
// `pusher-http` is the other way round: it prints a port, then, for the request that loadgen sends there, what the library of
// Pusher's servers would have sent at the same second.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { WebSocket, WebSocketServer } from 'ws';

const require = createRequire(import.meta.url);
const TOPIC = 'loadgen.0';
const MESSAGE = 'say "hi"';

/** A server that answers each message with what `answer` gives for it, and prints all when it has heard `isLast`. */
async function recorder(answer, isLast, greet = () => {}) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await new Promise((resolve) => server.once('listening', resolve));
  server.on('connection', (socket, request) => {
    const said = [];
    greet(socket);
    socket.on('message', (data) => {
      // Centrifugo's commands may come several in one message.
      for (const text of data.toString().split('\n')) {
        said.push(text);
        for (const message of answer(text)) socket.send(message);
        if (!isLast(text)) continue;
        console.log(JSON.stringify({ path: request.url, said }));
        process.exit();
      }
    });
  });
  return server.address().port;
}

const libraries = {
  async centrifugo() {
    const { Centrifuge } = await import('centrifuge');
    const answer = (text) => {
      const { id, connect, subscribe, publish } = JSON.parse(text);
      if (connect) return [JSON.stringify({ id, connect: { client: 'c', version: '6', ping: 25, pong: true } })];
      if (subscribe) return [JSON.stringify({ id, subscribe: {} })];
      return publish ? [JSON.stringify({ id, publish: {} }), '{}'] : [];
    };
    const port = await recorder(answer, (text) => text === '{}');
    const client = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, { websocket: WebSocket, token: 'secret' });
    client.on('connected', () => {
      const subscription = client.newSubscription(TOPIC);
      subscription.on('subscribed', () => client.publish(TOPIC, MESSAGE));
      subscription.subscribe();
    });
    client.connect();
  },

  async phoenix() {
    const { Socket } = await import('phoenix');
    const answer = (text) => {
      const [joined, ref, topic] = JSON.parse(text);
      return [JSON.stringify([joined, ref, topic, 'phx_reply', { status: 'ok', response: {} }])];
    };
    const port = await recorder(answer, (text) => text.includes('"heartbeat"'));
    const socket = new Socket(`ws://127.0.0.1:${port}/socket`, { transport: WebSocket, heartbeatIntervalMs: 100 });
    socket.connect();
    const channel = socket.channel(TOPIC, {});
    channel.join().receive('ok', () => channel.push('publish', { body: MESSAGE }));
  },

  async pusher() {
    const Pusher = require('pusher-js');
    const answer = (text) => {
      const { event, data } = JSON.parse(text);
      if (event !== 'pusher:subscribe') return [];
      const done = { event: 'pusher_internal:subscription_succeeded', channel: data.channel, data: '{}' };
      return [JSON.stringify(done), '{"event":"pusher:ping","data":{}}'];
    };
    const greet = (socket) => socket.send(JSON.stringify({
      event: 'pusher:connection_established', data: JSON.stringify({ socket_id: '1.1', activity_timeout: 120 }),
    }));
    const port = await recorder(answer, (text) => text.includes('pusher:ping'), greet);
    const client = new Pusher('key', {
      wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], disableStats: true, cluster: '',
      activityTimeout: 300,
    });
    client.subscribe(TOPIC);
  },

  async 'pusher-http'() {
    const Pusher = require('pusher');
    const requests = [];
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (data) => { body += data; });
      request.on('end', () => {
        response.end('{}');
        requests.push({ method: request.method, path: request.url, type: request.headers['content-type'], body });
        if (requests.length === 1) {
          const timestamp = Number(new URL(request.url, 'http://x').searchParams.get('auth_timestamp'));
          Date.now = () => timestamp * 1000;
          const { port } = server.address();
          const pusher = new Pusher({ appId: 'app', key: 'key', secret: 'secret', host: '127.0.0.1', port, useTLS: false });
          pusher.trigger(TOPIC, 'publish', MESSAGE);
        } else {
          console.log(JSON.stringify(requests));
          process.exit();
        }
      });
    });
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));
  },
};

setTimeout(() => {
  console.error('the library did not say what was waited for');
  process.exit(1);
}, 30_000).unref();
await libraries[process.argv[2]]();
