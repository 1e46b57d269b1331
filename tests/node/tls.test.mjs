// The server over TLS with clients that are not ours: npm `ws`, Node's fetch, curl, openssl s_client.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { makeCertificate } from './certificate.mjs';
import { Client, startServer, within } from './server.mjs';

const run = promisify(execFile);
let certificate;
let server;
before(async () => {
  certificate = makeCertificate();
  server = await startServer(...certificate.args, '--deflate');
});
after(async () => {
  await server?.stop();
  certificate?.remove();
});

let counter = 0;
const freshTopic = () => `tls.t${++counter}`;
const open = (topic, query = '', options) =>
  Client.connect(`${server.ws}/topics/${topic}${query}`, { ca: certificate.ca, ...options });

/** curl that trusts the server, quietly. */
const curl = async (...args) => (await run('curl', ['--silent', '--show-error', '--cacert', certificate.cert, ...args])).stdout;

/** What openssl s_client says of a connection that asks for nothing. */
const client = (...args) => within(new Promise((resolve, reject) => {
  const child = spawn('openssl', ['s_client', '-connect', server.host, '-servername', 'localhost', '-CAfile', certificate.cert, ...args]);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { said += text; });
  child.once('error', reject);
  child.once('close', () => resolve(said));
  child.stdin.end('GET /api/server HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
}), 'the end of openssl s_client');

test('npm ws over TLS: short and long messages, text and binary, to many', async () => {
  assert.match(server.ws, /^wss:/);
  const topic = freshTopic();
  const clients = await Promise.all(Array.from({ length: 20 }, () => open(topic)));
  for (const payload of ['', 'hello', 'příliš žluťoučký kůň 🐎', 'x'.repeat(16_384), 'y'.repeat(1_000_000)]) {
    clients[0].send(payload);
    for (const other of clients) assert.equal(await other.nextText(), payload);
  }
  const bytes = Buffer.alloc(300_000, 7);
  clients[1].send(bytes);
  for (const other of clients) assert.ok(bytes.equals((await other.next()).data));
  for (const other of clients) assert.equal((await other.close(1000)).code, 1000);
});

test('a thousand messages at once arrive in order', async () => {
  const topic = freshTopic();
  const [from, to] = [await open(topic, '?mode=publish'), await open(topic, '?mode=subscribe')];
  for (let n = 0; n < 1000; n++) from.send(`${n} ${'z'.repeat(n)}`);
  for (let n = 0; n < 1000; n++) assert.equal(await to.nextText(), `${n} ${'z'.repeat(n)}`);
  for (const socket of [from, to]) await socket.close();
});

test('TLS 1.2 and 1.3, each with compression and without', async () => {
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    for (const perMessageDeflate of [false, { threshold: 0 }]) {
      const socket = await open(freshTopic(), '', { minVersion: version, maxVersion: version, perMessageDeflate });
      assert.equal(socket.socket._socket.getProtocol(), version);
      assert.equal(socket.socket.extensions.includes('permessage-deflate'), Boolean(perMessageDeflate));
      for (const payload of ['a', '{"n":1},'.repeat(20_000)]) {
        socket.send(payload);
        assert.equal(await socket.nextText(), payload);
      }
      await socket.close();
    }
  }
});

test('who does not trust the certificate, or asks for another name, does not connect', async () => {
  const address = `${server.ws}/topics/${freshTopic()}`;
  await assert.rejects(Client.connect(address), /self-signed certificate/);
  await assert.rejects(Client.connect(address, { ca: certificate.ca, checkServerIdentity: () => new Error('another name') }), /another name/);
  // And nobody else has noticed.
  await (await open(freshTopic())).close();
});

test('curl publishes over https, asks the API, and reads the pages; and it is HTTP/1.1', async () => {
  const topic = freshTopic();
  const socket = await open(topic, '?mode=subscribe');
  const answer = JSON.parse(await curl('--data-binary', 'by curl', `${server.http}/api/publish?topic=${topic}`));
  assert.deepEqual([answer.topic, answer.offset, answer.subscribers], [topic, 1, 1]);
  assert.equal(await socket.nextText(), 'by curl');
  for (const tls of ['--tlsv1.3', '--tls-max=1.2']) {
    const head = await curl(...tls.split('='), '--http2', '--head', `${server.http}/`);
    assert.match(head, /^HTTP\/1\.1 200/);
    assert.match(head, /content-security-policy:/i);
  }
  for (const page of ['/', '/admin']) assert.match(await curl(`${server.http}${page}`), /^<!doctype html>/i);
  // A body of several records, and one that goes back.
  const long = 'l'.repeat(200_000);
  await new Promise((resolve, reject) => {
    const asked = request(`${server.http}/api/publish?topic=${topic}`, { method: 'POST', ca: certificate.ca }, (answered) => {
      answered.resume().once('end', resolve);
    });
    asked.once('error', reject);
    asked.end(long);
  });
  assert.equal(await socket.nextText(), long);
  await socket.close();
});

test('openssl s_client: both versions, ALPN, a session that is resumed, an answer and its end', async () => {
  const directory = join(certificate.cert, '..');
  for (const [flag, version] of [['-tls1_2', 'TLSv1.2'], ['-tls1_3', 'TLSv1.3']]) {
    const session = join(directory, `session-${version}`);
    const first = await client(flag, '-alpn', 'http/1.1', '-ign_eof', '-sess_out', session);
    assert.match(first, new RegExp(`New, ${version}`));
    assert.match(first, /ALPN protocol: http\/1\.1/);
    assert.match(first, /Verification: OK/);
    assert.match(first, /HTTP\/1\.1 \d+/);
    assert.ok(existsSync(session), 'the server gave no session');
    assert.match(await client(flag, '-ign_eof', '-sess_in', session), new RegExp(`Reused, ${version}`));
  }
  const old = await client('-tls1_1', '-cipher', 'ALL:@SECLEVEL=0');
  assert.doesNotMatch(old, /HTTP\/1\.1/);
});

test('renegotiation is not done', async () => {
  const child = spawn('openssl', ['s_client', '-connect', server.host, '-tls1_2', '-CAfile', certificate.cert]);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => {
    // It reads commands as soon as it is connected.
    if (!said.includes('Verify return code') && (said + text).includes('Verify return code')) child.stdin.write('R\n');
    said += text;
  });
  await within(new Promise((resolve) => child.once('close', resolve)), 'the end of a connection that renegotiates');
  assert.match(said, /RENEGOTIATING/);
  assert.doesNotMatch(said, /HTTP\/1\.1 200/);
  await (await open(freshTopic())).close();
});

test('plain HTTP on the TLS port is told what to do', async () => {
  const said = await within(new Promise((resolve, reject) => {
    const socket = connect(Number(server.host.split(':')[1]), '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', (piece) => { text += piece; });
    socket.once('error', reject);
    socket.once('end', () => resolve(text));
    socket.write(`GET / HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
  }), 'the answer to plain HTTP');
  assert.match(said, /^HTTP\/1\.1 400 /);
  assert.match(said, /https:\/\//);
});

test('TLS on a plain port ends with an alert, not in silence', async () => {
  const plain = await startServer();
  try {
    const failed = await within(new Promise((resolve) => {
      const socket = tls.connect(Number(plain.host.split(':')[1]), '127.0.0.1', { ca: certificate.ca });
      socket.once('error', resolve);
      socket.once('secureConnect', () => resolve(null));
    }), 'the end of TLS on a plain port');
    assert.match(failed?.code ?? '', /^ERR_SSL_.*ALERT/);
  } finally {
    await plain.stop();
  }
});

test('a development certificate is named as such, and nobody trusts it by itself', async () => {
  const dev = await startServer('--tls-dev');
  try {
    await assert.rejects(Client.connect(`${dev.ws}/ws`), /certificate/);
    const socket = await Client.connect(`${dev.ws}/ws`, { rejectUnauthorized: false });
    assert.match(socket.socket._socket.getPeerCertificate().subject.CN, /development.*not for production/);
    assert.equal((await socket.nextJson()).type, 'connected');
    await socket.close();
  } finally {
    await dev.stop();
  }
});
