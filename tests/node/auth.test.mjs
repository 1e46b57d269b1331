// Authentication through the binary and its settings, with tokens from npm `jsonwebtoken` and `jose`, keys from Node's own
// crypto, certificates from openssl, and clients of npm `ws`. A browser does the same in `browser/auth.test.mjs`.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT, exportJWK } from 'jose';
import jwt from 'jsonwebtoken';
import WebSocket from 'ws';
import { Client, binary, startServer, within } from './server.mjs';

const directory = mkdtempSync(join(tmpdir(), 'fanfare-auth-'));
const file = (name, content, mode = 0o600) => {
  const path = join(directory, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
};

const secret = randomBytes(48).toString('base64');
const pairs = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};
const pem = (key) => key.export({ type: 'spki', format: 'pem' });
const everything = { subscribe: ['>'], publish: ['>'], history: ['>'] };
const claims = { sub: 'ada', permissions: everything };
const hs = (more = {}, options = {}) =>
  jwt.sign({ ...claims, ...more }, secret, { algorithm: 'HS256', expiresIn: 600, ...options });

let server;
const tokens = [];
before(async () => {
  const keys = [`--jwt-keys=HS256=${file('secret', `${secret}\n`)}`];
  for (const [algorithm, { publicKey }] of Object.entries(pairs)) {
    keys.push(`--jwt-keys=${algorithm}:${algorithm}=${file(`${algorithm}.pem`, pem(publicKey), 0o644)}`);
  }
  const second = generateKeyPairSync('rsa', { modulusLength: 3072 });
  const jwk = { ...(await exportJWK(second.publicKey)), kid: 'set', use: 'sig', alg: 'RS256' };
  const other = { kty: 'EC', crv: 'P-521', kid: 'unknown', x: 'AA', y: 'AA' };
  pairs.set = second;
  server = await startServer(...keys, `--jwks-file=${file('jwks.json', JSON.stringify({ keys: [other, jwk] }), 0o644)}`,
    '--token-cookie=session', '--log=debug', '--api-token=the-operators-token', '--auth-timeout-s=1',
    '--role=default:subscribe=news|user.{sub}.>');
});
after(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

const remember = (token) => { tokens.push(token); return token; };
const open = (token) => Client.connect(`${server.ws}/ws`, { headers: { authorization: `Bearer ${remember(token)}` } });
const refused = (promise, status) => assert.rejects(promise, { message: `refused: ${status}` });

test('tokens of other libraries are taken, whatever the algorithm', async () => {
  const until = Math.floor(Date.now() / 1000) + 60;
  const made = [hs()];
  for (const [name, { privateKey }] of Object.entries(pairs)) {
    const alg = name === 'set' ? 'RS256' : name;
    const token = new SignJWT(claims).setProtectedHeader({ alg, kid: name }).setExpirationTime(until).setIssuedAt();
    made.push(await token.sign(privateKey));
    if (alg !== 'EdDSA') made.push(jwt.sign(claims, privateKey, { algorithm: alg, keyid: name, expiresIn: 60 }));
  }
  assert.equal(made.length, 8);
  for (const token of made) {
    for (let again = 0; again < 2; again++) {
      const client = await open(token);
      const hello = await client.nextJson();
      assert.deepEqual([hello.type, hello.authenticated, hello.subject], ['connected', true, 'ada']);
      client.socket.terminate();
    }
  }
});

test('hostile tokens are refused', async () => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + 60;
  const payload = part({ ...claims, exp });
  const hostile = [
    `${part({ alg: 'none' })}.${payload}.`,
    jwt.sign({ ...claims, exp }, null, { algorithm: 'none' }),
    hs({}, { expiresIn: -60 }),
    hs({}, { notBefore: 120 }),
    hs({ iat: exp + 120 }),
    jwt.sign(claims, secret),
    jwt.sign({ ...claims, exp }, secret, { algorithm: 'HS512' }),
    jwt.sign({ ...claims, exp }, `${secret}x`),
    jwt.sign({ ...claims, exp }, secret, { keyid: 'RS256' }),
    jwt.sign({ ...claims, exp }, pairs.set.privateKey, { algorithm: 'RS256', keyid: 'RS256' }),
    jwt.sign({ ...claims, exp }, pairs.RS256.privateKey, { algorithm: 'PS256', keyid: 'RS256' }),
    hs().slice(0, -2),
    `${hs()}.x`,
    'the-operators-toke',
  ];
  // The public key as the secret: `jsonwebtoken` refuses to sign that, an attacker does not.
  for (const kid of ['RS256', undefined]) {
    const key = new TextEncoder().encode(pem(pairs.RS256.publicKey));
    hostile.push(await new SignJWT({ ...claims, exp }).setProtectedHeader({ alg: 'HS256', kid }).sign(key));
  }
  for (const token of hostile) await refused(open(token), 401);
  await refused(open('x'.repeat(6_000)), 401);
  await refused(open('x'.repeat(12_000)), 431);
  const client = await Client.connect(`${server.ws}/ws`);
  client.sendJson({ type: 'auth', token: 'x'.repeat(1 << 20) });
  const { code } = await within(client.closed, 'a close');
  assert.ok([1009, 4002].includes(code), `${code}`);
});

test('a token comes as a subprotocol where no headers can be sent, and is not sent back', async () => {
  for (const token of [remember(hs()), 'the-operators-token']) {
    const client = new Client(new WebSocket(`${server.ws}/ws`, ['fanfare.v1', `bearer.${token}`]));
    assert.equal((await client.nextJson()).authenticated, true);
    assert.equal(client.socket.protocol, 'fanfare.v1');
    client.socket.terminate();
  }
  const bad = new WebSocket(`${server.ws}/ws`, ['fanfare.v1', 'bearer.a.b.c']);
  await within(once(bad, 'error'), 'a refusal');
});

test('query, cookie and first message do as well; raw connections never publish a token', async () => {
  const token = remember(hs());
  const cookie = await Client.connect(`${server.ws}/ws`, { headers: { cookie: `x=1; session=${token}` } });
  assert.equal((await cookie.nextJson()).subject, 'ada');
  const listener = await Client.connect(`${server.ws}/topics/raw?mode=subscribe&token=${token}`);
  const raw = await Client.connect(`${server.ws}/topics/raw?echo=false`);
  raw.sendJson({ type: 'auth', token });
  raw.send('hello');
  raw.sendJson({ token, type: 'auth' });
  raw.send('world');
  assert.deepEqual([await listener.nextText(), await listener.nextText()], ['hello', 'world']);
  const first = await Client.connect(`${server.ws}/ws`);
  assert.equal((await first.nextJson()).authenticated, false);
  first.sendJson({ type: 'auth', id: 'a', token });
  const answer = await first.nextJson();
  assert.deepEqual([answer.type, answer.id, answer.subject], ['authenticated', 'a', 'ada']);
  for (const client of [cookie, listener, raw, first]) client.socket.terminate();
});

test('who stays silent is closed with 4001', async () => {
  const silent = await Client.connect(`${server.ws}/ws`);
  assert.deepEqual(await within(silent.closed, 'a close'), { code: 4001, reason: 'authentication timeout' });
});

test('roles of the settings are of the subject that the token names', async () => {
  const client = await open(jwt.sign({ sub: 'eve.*' }, secret, { expiresIn: 60 }));
  await client.nextJson();
  const expected = { 'news': 'subscribed', 'user.eve%2E%2A.x': 'subscribed', 'user.eve.x': 'error', 'user.*.x': 'error', '$sys.stats': 'error' };
  for (const [topic, type] of Object.entries(expected)) {
    client.sendJson({ type: 'subscribe', topic });
    assert.equal((await client.nextJson()).type, type, topic);
  }
  client.socket.terminate();
});

test('the API takes tokens, and believes no proxy to be this machine', async () => {
  const ask = (headers) => new Promise((resolve, reject) => {
    http.get(`${server.http}/api/info`, { headers }, (answer) => { answer.resume(); resolve(answer.statusCode); }).on('error', reject);
  });
  const forwarded = { 'x-forwarded-for': '127.0.0.1' };
  assert.equal(await ask({}), 200);
  assert.equal(await ask(forwarded), 401);
  assert.equal(await ask({ host: 'rebound.example' }), 401);
  assert.equal(await ask({ ...forwarded, authorization: 'Bearer the-operators-token' }), 200);
  assert.equal(await ask({ ...forwarded, authorization: `Bearer ${remember(hs())}` }), 403);
});

test('no token, and no query that has one, is ever logged', async () => {
  // By now all the tests before have logged at level debug, refusals included.
  const expired = remember(hs({}, { expiresIn: -60 }));
  await refused(Client.connect(`${server.ws}/topics/logged?mode=subscribe&token=${expired}`), 401);
  await within((async () => {
    while (!server.log().includes('/topics/logged')) await new Promise((resolve) => setImmediate(resolve));
  })(), 'a line of the refusal');
  assert.match(server.log(), /outcome="expired"/);
  for (const token of [...tokens, 'the-operators-token', secret]) {
    assert.ok(!server.log().includes(token.slice(-20)), 'a token is in the log');
  }
  assert.ok(!server.log().includes('token='), 'a query is in the log');
});

test('a secret that everybody can read, or a broken JWKS, is refused at the start with what to do', () => {
  const refusal = (...args) => {
    const { status, stderr } = spawnSync(binary(), ['--listen=127.0.0.1:0', ...args], { encoding: 'utf8' });
    assert.notEqual(status, 0);
    return stderr;
  };
  assert.match(refusal(`--jwt-keys=HS256=${file('open', secret, 0o644)}`), /chmod/);
  assert.match(refusal(`--jwt-keys=HS256=${file('short', 'short')}`), /at least 32/);
  assert.match(refusal(`--jwt-keys=RS256=${file('private.pem', pairs.RS256.privateKey.export({ type: 'pkcs8', format: 'pem' }))}`), /private key/);
  for (const [content, said] of [['{', /no JSON/], ['{"keys":[]}', /no key in it/], ['{"keys":[{"kty":"oct","k":"AA"}]}', /at least 32/]]) {
    assert.match(refusal(`--jwks-file=${file('broken.json', content)}`), said);
  }
});

test('a program is asked over https whose certificate this machine believes', async () => {
  const [key, certificate] = [join(directory, 'tls.key'), join(directory, 'tls.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-addext', 'basicConstraints=critical,CA:FALSE',
    '-keyout', key, '-out', certificate], { stdio: 'ignore' });
  const asked = [];
  const program = https.createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text) => { body += text; }).on('end', () => {
      asked.push(JSON.parse(body));
      response.end(JSON.stringify({ sub: 'ada', permissions: everything }));
    });
  });
  program.listen(0, '127.0.0.1');
  await once(program, 'listening');
  const url = `--auth-url=https://localhost:${program.address().port}/who`;
  try {
    const trusting = await startServer({ env: { SSL_CERT_FILE: certificate } }, url);
    const client = await Client.connect(`${trusting.ws}/ws?token=opaque`);
    assert.equal((await client.nextJson()).subject, 'ada');
    assert.equal(asked[0].token, 'opaque');
    await trusting.stop();
    const other = file('other.pem', '');
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ed25519', '-nodes', '-subj', '/CN=x', '-keyout', '/dev/null', '-out', other], { stdio: 'ignore' });
    const doubting = await startServer({ env: { SSL_CERT_FILE: other } }, url);
    await refused(Client.connect(`${doubting.ws}/ws?token=opaque`), 503);
    await doubting.stop();
    assert.equal(asked.length, 1);
  } finally {
    program.close();
  }
});
