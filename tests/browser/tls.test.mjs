// Chromium over TLS and with permessage-deflate: the built-in pages use wss then, and their policy allows it.
//
//   node --test browser/tls.test.mjs
//
// Starts servers of its own. CHROMIUM names another browser binary.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { makeCertificate } from '../node/certificate.mjs';
import { Client, startServer } from '../node/server.mjs';

let certificate;
let browser;
let server;
before(async () => {
  certificate = makeCertificate();
  server = await startServer(...certificate.args, '--deflate', '--deflate-min-bytes=64', '--sys-interval-ms', '200');
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      // This certificate and no other.
      `--ignore-certificate-errors-spki-list=${certificate.spki}`,
    ],
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
  certificate?.remove();
});

/** Opens a page of the server; fails the test on script errors, CSP violations and requests that are not encrypted. */
async function open(t, path) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const faults = [];
  const sockets = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => {
    if (/content security policy|trusted ?type|mixed content/i.test(message.text())) faults.push(message.text());
  });
  page.on('request', (request) => {
    if (!/^(https|data|blob):/.test(request.url())) faults.push(request.url());
  });
  page.on('websocket', (socket) => sockets.push(socket.url()));
  await page.goto(`${server.http}${path}`);
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  return { page, sockets };
}

const live = (page) => page.locator('#state[data-state=live]').waitFor();

test('the page to try it is live over wss, and publishes', async (t) => {
  const { page, sockets } = await open(t, '/#tls.lobby');
  await live(page);
  await page.fill('#payload', 'through TLS');
  await page.click('#publish');
  await page.getByTestId('message-body').getByText('through TLS', { exact: true }).waitFor();
  assert.ok(sockets.length > 0 && sockets.every((url) => url.startsWith(server.ws)), `${sockets}`);
});

test('the page for operators is live over wss, and shows connections', async (t) => {
  const client = await Client.connect(`${server.ws}/topics/tls.seen`, { ca: certificate.ca });
  const { page, sockets } = await open(t, '/admin');
  await live(page);
  await page.waitForFunction(() => document.body.innerText.includes('tls.seen'));
  assert.ok(sockets.length > 0 && sockets.every((url) => url.startsWith(server.ws)), `${sockets}`);
  await client.close();
});

/** In the page: what a topic gives back of what is sent to it, and the extensions agreed on. */
const echo = (page, payloads) => page.evaluate(([address, payloads]) => new Promise((resolve, reject) => {
  const socket = new WebSocket(address);
  const heard = [];
  socket.onopen = () => payloads.forEach((payload) => socket.send(payload));
  socket.onmessage = ({ data }) => {
    heard.push(data);
    if (heard.length < payloads.length) return;
    socket.close();
    resolve({ heard, extensions: socket.extensions });
  };
  socket.onclose = ({ code }) => reject(new Error(`closed: ${code}`));
}), [`${server.ws}/topics/tls.echo`, payloads]);

test('Chromium agrees on permessage-deflate, and compressed messages come back as they were', async (t) => {
  const { page } = await open(t, '/');
  const payloads = ['', 'a', 'short '.repeat(20), '{"seat":1},'.repeat(50_000), 'příliš žluťoučký kůň 🐎'.repeat(1000)];
  const { heard, extensions } = await echo(page, payloads);
  assert.deepEqual(heard, payloads);
  assert.match(extensions, /^permessage-deflate/);
  for (const parameter of ['server_no_context_takeover', 'client_no_context_takeover']) assert.ok(extensions.includes(parameter));
});
