// Starts a `fanfare` process for a test file and connects npm `ws` clients to it.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';

const DEADLINE = 30_000;

/** The server's program. */
export function binary() {
  if (process.env.FANFARE_BIN) return process.env.FANFARE_BIN;
  const built = ['release', 'debug'].map((profile) =>
    fileURLToPath(new URL(`../../target/${profile}/fanfare`, import.meta.url)));
  const found = built.find(existsSync);
  if (!found) throw new Error('there is no fanfare binary: build it with `cargo build --release`, or set FANFARE_BIN');
  return found;
}

/** Starts a server on a free port; `stop()` ends it and throws if it has panicked. A first argument that is an object may
 * have `env`, more of the environment. Told of certificates, it is spoken to by https and wss. */
export async function startServer(...args) {
  const { env } = typeof args[0] === 'object' ? args.shift() : {};
  const child = spawn(binary(), ['--listen', '127.0.0.1:0', '--shards', '2', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { stderr += text; });
  const [s, host] = await new Promise((resolve, reject) => {
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      const found = /http(s?):\/\/(127\.0\.0\.1:\d+)[/\s]/.exec(stdout);
      if (found) resolve(found.slice(1));
    });
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the server ended at once (${code}): ${stderr}`)));
  });
  return {
    http: `http${s}://${host}`,
    ws: `ws${s}://${host}`,
    host,
    /** What it has logged so far. */
    log: () => stderr,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      }
      if (stderr.includes('panicked')) throw new Error(`the server panicked:\n${stderr}`);
    },
  };
}

/** Fails instead of waiting for ever. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${DEADLINE} ms in vain: ${what}`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A client that keeps what it receives until it is asked for. */
export class Client {
  #received = [];
  #waiting = [];

  /** Connects; rejects with the HTTP status if the upgrade is refused. */
  static async connect(url, { protocol, ...options } = {}) {
    const socket = new WebSocket(url, protocol ? [protocol] : [], options);
    const client = new Client(socket);
    await within(new Promise((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('unexpected-response', (_, response) => reject(new Error(`refused: ${response.statusCode}`)));
      socket.once('error', reject);
    }), `a connection to ${url}`);
    socket.on('error', () => {});
    return client;
  }

  constructor(socket) {
    this.socket = socket;
    socket.on('message', (data, isBinary) => this.#take({ data, isBinary, text: isBinary ? null : data.toString() }));
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
  }

  #take(message) {
    const next = this.#waiting.shift();
    if (next) next(message);
    else this.#received.push(message);
  }

  /** The next message: `{ data, isBinary, text }`. */
  next() {
    if (this.#received.length > 0) return Promise.resolve(this.#received.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), 'a message');
  }

  async nextText() {
    const { isBinary, text } = await this.next();
    if (isBinary) throw new Error('text was expected, binary came');
    return text;
  }

  async nextJson() {
    return JSON.parse(await this.nextText());
  }

  send(data) {
    this.socket.send(data);
  }

  sendJson(value) {
    this.send(JSON.stringify(value));
  }

  /** Closes in order and resolves with the answer's code and reason. */
  close(code, reason) {
    this.socket.close(code, reason);
    return within(this.closed, 'the answer to a Close frame');
  }
}

/** Publishes over HTTP. */
export async function publish(server, topic, payload, more = '') {
  const answer = await fetch(`${server.http}/api/publish?topic=${encodeURIComponent(topic)}${more}`, {
    method: 'POST',
    body: payload,
  });
  if (!answer.ok) throw new Error(`publishing failed: ${answer.status} ${await answer.text()}`);
  return answer.json();
}
