// A browser, which cannot send headers with a WebSocket, shows its token as a subprotocol or as its first message.
//
//   node --test browser/auth.test.mjs
//
// Starts a server of its own, on which the page itself lies. CHROMIUM names another browser binary.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import jwt from 'jsonwebtoken';
import { chromium } from 'playwright-core';
import { startServer } from '../node/server.mjs';

const secret = 'a secret that only this test has, long enough';
const directory = mkdtempSync(join(tmpdir(), 'fanfare-browser-auth-'));

let server;
let browser;
before(async () => {
  const file = join(directory, 'secret');
  writeFileSync(file, secret, { mode: 0o600 });
  server = await startServer(`--jwt-keys=HS256=${file}`);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
  rmSync(directory, { recursive: true });
});

/** What a socket that the page opens is told: protocol, messages until `count`, or how it closed. */
const listen = (page, protocols, first, count) => page.evaluate(([address, protocols, first, count]) =>
  new Promise((resolve) => {
    const socket = new WebSocket(address, protocols);
    const messages = [];
    socket.onopen = () => first && socket.send(first);
    socket.onmessage = ({ data }) => {
      messages.push(JSON.parse(data));
      if (messages.length < count) return;
      resolve({ protocol: socket.protocol, messages });
      socket.close();
    };
    socket.onclose = ({ code, reason }) => resolve({ code, reason, messages });
  }), [`${server.ws}/ws`, protocols, first, count]);

test('the page to try it asks for a token, and works with it', async () => {
  const page = await browser.newPage();
  const state = (name) => page.waitForFunction((name) => document.querySelector('#state').textContent.includes(name), name);
  await page.goto(`${server.http}/#lobby`);
  await state('needs a token');
  assert.ok(await page.evaluate(() => document.querySelector('#access').open), 'the field for it is shown');
  const permissions = { subscribe: ['lobby'], publish: ['lobby'] };
  const use = async (token) => {
    await page.fill('#token', token);
    await page.click('#token-use');
  };
  await use('a.b.c');
  await state('needs a token');
  await use(jwt.sign({ sub: 'ada', permissions }, secret, { expiresIn: 60 }));
  await state('live');
  await page.fill('#payload', 'with a token');
  await page.click('#publish');
  await page.waitForFunction(() => document.body.innerText.includes('with a token'));
  await page.reload();
  await state('live');
  await page.close();
});

test('a browser shows its token as a subprotocol or in its first message', async () => {
  const page = await browser.newPage();
  await page.goto(`${server.http}/`);
  const token = jwt.sign({ sub: 'ada' }, secret, { expiresIn: 60 });
  const shown = await listen(page, ['fanfare.v1', `bearer.${token}`], null, 1);
  assert.deepEqual([shown.protocol, shown.messages[0].subject], ['fanfare.v1', 'ada']);
  const later = await listen(page, [], JSON.stringify({ type: 'auth', token }), 2);
  assert.deepEqual(later.messages.map((said) => said.type), ['connected', 'authenticated']);
  const refused = await listen(page, ['fanfare.v1', 'bearer.a.b.c'], null, 1);
  assert.deepEqual([refused.code, refused.messages], [1006, []]);
  const wrong = await listen(page, [], JSON.stringify({ type: 'auth', token: 'a.b.c' }), 2);
  assert.equal(wrong.code, 4002);
});
