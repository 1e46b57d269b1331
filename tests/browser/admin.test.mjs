// The page at `GET /admin`, driven in Chromium against servers of its own.
//
//   FANFARE_BIN=target/release/fanfare node --test browser/
//
// CHROMIUM names another browser binary; SCREENSHOT_DIR, if set, receives pictures of the page.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:net';
import { chromium } from 'playwright-core';
import { Client, startServer } from '../node/server.mjs';

const shots = process.env.SCREENSHOT_DIR;
let browser;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});

after(async () => {
  await browser?.close();
});

/** A server that reports often, ended with the test. */
async function serve(t, ...args) {
  const server = await startServer('--sys-interval-ms', '200', ...args);
  t.after(() => server.stop());
  return server;
}

/** Opens the page; fails the test on script errors and CSP violations. */
async function open(t, server, { prepare, live = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const faults = [];
  page.on('pageerror', (e) => faults.push(String(e)));
  page.on('console', (m) => {
    if (/content security policy|trusted ?type/i.test(m.text())) faults.push(m.text());
  });
  await prepare?.(page);
  await page.goto(`${server.http}/admin`);
  if (live) await page.locator('#state[data-state=live]').waitFor();
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  return page;
}

async function until(what, probe, timeout = 15_000) {
  const end = Date.now() + timeout;
  for (;;) {
    if (await probe()) return;
    if (Date.now() > end) assert.fail(`timed out: ${what}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

async function publish(server, topic, payload) {
  const r = await fetch(`${server.http}/api/publish?topic=${encodeURIComponent(topic)}`, { method: 'POST', body: payload });
  assert.ok(r.ok, `publish: HTTP ${r.status}`);
}

/** Publishes again and again until the test is over. */
function keepPublishing(t, server, topic, payload, everyMs) {
  let stopped = false;
  const run = (async () => {
    while (!stopped) {
      // The server may have ended with the test; if it has before, the test waits in vain for what is published.
      try { await publish(server, topic, payload); } catch { if (stopped) return; }
      await new Promise((r) => setTimeout(r, everyMs));
    }
  })();
  t.after(async () => { stopped = true; await run; });
}

async function shoot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** A WebSocket that subscribes and then never reads. */
async function stalled(t, server, topic) {
  const { hostname, port } = new URL(server.http);
  const socket = connect(Number(port), hostname);
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  await new Promise((resolve) => {
    socket.once('data', () => { socket.pause(); resolve(); });
    socket.write(`GET /topics/${topic}?mode=subscribe HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\n`
      + 'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n');
  });
}

const tile = (page, id) => page.locator(`#tile-${id} .value`).textContent();
const lines = (page, id) => page.locator(`#chart-${id} path.line`).evaluateAll((all) => all.map((p) => p.getAttribute('d') || ''));

test('shows what happens, and what has happened before it was opened', async (t) => {
  const server = await serve(t);
  const listeners = await Promise.all(Array.from({ length: 5 }, () => Client.connect(`${server.ws}/topics/prices.eur`)));
  t.after(() => listeners.forEach((l) => l.socket.terminate()));
  keepPublishing(t, server, 'prices.eur', 'x'.repeat(200), 10);
  await until('some reports are kept', async () => {
    const r = await fetch(`${server.http}/api/topics/${encodeURIComponent('$sys.stats')}`);
    return r.ok && (await r.json()).history.messages > 5;
  });
  const page = await open(t, server);
  await until('connections', async () => (await tile(page, 'connections')).trim() === '6');
  await until('deliveries', async () => parseFloat((await tile(page, 'deliveries')).replaceAll(',', '')) > 20);
  await until('the latency', async () => /\d (µs|ms|s)$/.test((await tile(page, 'latency')).trim()));
  assert.ok(Number(/(\d+) of them/.exec(await page.locator('#span-note').textContent())[1]) > 5, 'the past is there, too');
  await page.locator('#spans button').first().click();
  const [delivered] = await lines(page, 'deliveries');
  assert.ok(delivered.split('L').length > 3, delivered);
  assert.equal((await lines(page, 'latency')).length, 4);
  assert.equal((await lines(page, 'connections')).length, 2, 'one line a shard');
  const row = page.locator('#topics tbody tr').first();
  await until('the topic', async () => (await row.textContent())?.includes('prices.eur'));
  assert.ok(!(await page.locator('#topics').textContent()).includes('$sys'));
  await until('what the charts say is said to readers of the screen, too', async () =>
    /^Deliveries: delivered [\d.,k]+\/s$/.test(await page.locator('#chart-deliveries svg').getAttribute('aria-label')));
  await shoot(page, 'admin-light');
});

test('the pointer and the keys read any moment off all charts', async (t) => {
  const server = await serve(t);
  keepPublishing(t, server, 'a', 'x', 20);
  const page = await open(t, server);
  await page.locator('#spans button').first().click();
  await until('some points', async () => (await lines(page, 'publications'))[0]?.split('L').length > 4);
  const chart = page.locator('#chart-publications svg');
  const box = await chart.boundingBox();
  await page.mouse.move(box.x + box.width - 3, box.y + 60);
  await until('the time is shown on every chart', async () =>
    (await page.locator('.chart .when').allTextContents()).every((x) => /\d\d:\d\d:\d\d/.test(x)));
  await page.mouse.move(5, 5);
  await until('and gone again', async () => (await page.locator('.chart .when').allTextContents()).every((x) => x === ''));
  await chart.focus();
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  await until('the keys move it', async () => /\d\d:\d\d/.test(await page.locator('#chart-publications .when').textContent()));
  assert.equal(await page.locator('#chart-turns .cursor').count(), 1);
});

test('a slow consumer is shown, and disconnected after asking twice', async (t) => {
  const server = await serve(t, '--topic', 'flood:policy=drop-oldest,pending_bytes=200000');
  await stalled(t, server, 'flood');
  keepPublishing(t, server, 'flood', 'x'.repeat(60_000), 5);
  const page = await open(t, server);
  const button = page.locator('#slow button[data-connection]').first();
  await button.waitFor();
  await until('it is behind', async () => (await tile(page, 'behind')).trim() === '1');
  await until('what is dropped has a name', async () => (await page.locator('#chart-dropped .legend').textContent()).includes('oldest'));
  await shoot(page, 'admin-slow');
  await button.click();
  assert.equal(await button.textContent(), 'Sure?');
  // The table is drawn anew several times a second: the question stays.
  await page.locator('#slow button.sure').click();
  await until('it is gone', async () => (await page.locator('#slow').textContent()).includes('Nobody'));
  const metrics = await (await fetch(`${server.http}/metrics`)).text();
  assert.match(metrics, /fanfare_closed_total\{cause="administrative"\} 1/);
});

test('connections are found by topic and named, whatever stands in their names', async (t) => {
  const server = await serve(t);
  const topic = '<img src=x onerror=alert(1)>';
  const client = await Client.connect(`${server.ws}/topics/${encodeURIComponent(topic)}`);
  t.after(() => client.socket.terminate());
  keepPublishing(t, server, topic, 'x', 50);
  const page = await open(t, server);
  await until('the topic is text', async () => (await page.locator('#topics').textContent()).includes(topic));
  assert.equal(await page.locator('#topics img').count(), 0);
  await page.locator('#by').selectOption('topic');
  await page.locator('#what').fill(topic);
  await page.locator('#look').click();
  await page.locator('#found tbody tr').waitFor();
  assert.equal(await page.locator('#found tbody tr').count(), 1);
  const id = await page.locator('#found tbody td').first().textContent();
  await page.locator('#by').selectOption('id');
  await page.locator('#what').fill(id);
  await page.locator('#what').press('Enter');
  await until('its topics', async () => (await page.locator('#found').textContent()).includes(`Subscribed to ${topic}`));
  await page.locator('#by').selectOption('peer');
  await page.locator('#what').fill('nonsense');
  await page.locator('#look').click();
  await until('the mistake is said', async () => (await page.locator('#found').textContent()).includes("peer is 'nonsense'"));
});

test('it comes back by itself when the server does', async (t) => {
  const first = await serve(t);
  const port = new URL(first.http).port;
  const page = await open(t, first);
  await first.stop();
  await page.locator('#state[data-state=lost]').waitFor();
  assert.equal(await page.locator('#main').getAttribute('data-stale'), 'true');
  const second = await startServer('--sys-interval-ms', '200', '--listen', `127.0.0.1:${port}`);
  t.after(() => second.stop());
  await page.locator('#state[data-state=live]').waitFor();
  await until('figures come again', async () => (await tile(page, 'connections')).trim() === '1');
});

test('it asks for a token where one is wanted, keeps it for the tab, and forgets it', async (t) => {
  const server = await serve(t);
  const seen = [];
  const page = await open(t, server, {
    live: false,
    prepare: (page) => page.route('**/api/info', async (route) => {
      const token = route.request().headers().authorization;
      seen.push(token);
      if (token === 'Bearer good one') return route.continue();
      return route.fulfill({ status: 401, json: { code: 'unauthorized', message: token ? 'the token is not valid' : 'a token is needed' } });
    }),
  });
  await page.locator('#ask').waitFor();
  assert.equal(await page.locator('#ask-why').textContent(), 'a token is needed');
  await page.locator('#token').fill('bad');
  await page.locator('#ask-ok').click();
  await until('it is asked again', async () => (await page.locator('#ask-why').textContent()) === 'the token is not valid');
  // Not allowed in the head of a WebSocket, so it goes as the first message.
  await page.locator('#token').fill('good one');
  await page.locator('#ask-ok').click();
  await page.locator('#state[data-state=live]').waitFor();
  assert.deepEqual(seen, [undefined, 'Bearer bad', 'Bearer good one']);
  await page.reload();
  await page.locator('#state[data-state=live]').waitFor();
  assert.equal(seen.at(-1), 'Bearer good one');
  await page.locator('#out').click();
  await page.locator('#ask').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test('with the token of the server it sees everything, without it nothing', async (t) => {
  const server = await serve(t, '--api-token', 'a-token-of-this-test', '--api-on-loopback=false');
  const page = await open(t, server, { live: false });
  await page.locator('#ask').waitFor();
  await page.locator('#token').fill('not-that-one');
  await page.locator('#ask-ok').click();
  await until('it is asked again', async () => (await page.locator('#ask').isVisible()) && (await page.locator('#token').inputValue()) === '');
  assert.equal((await tile(page, 'connections')).trim(), '–');
  await page.locator('#token').fill('a-token-of-this-test');
  await page.locator('#ask-ok').click();
  await page.locator('#state[data-state=live]').waitFor();
  await until('its own connection', async () => (await tile(page, 'connections')).trim() === '1');
  await page.locator('#by').selectOption('');
  await page.locator('#look').click();
  await page.locator('#found tbody tr').waitFor();
  assert.ok(!page.url().includes('token'), 'a token stands in no address');
});

test('it can be read on a telephone, and in the dark', async (t) => {
  const server = await serve(t);
  keepPublishing(t, server, 'a', 'x', 20);
  const page = await open(t, server, { viewport: { width: 360, height: 740 }, colorScheme: 'dark' });
  await until('figures', async () => (await lines(page, 'publications'))[0]?.length > 20);
  const overhang = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overhang, 0, 'nothing stands out to the side');
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(dark, 'rgb(15, 18, 25)');
  await shoot(page, 'admin-phone-dark');
});

test('without reports it says why there are none', async (t) => {
  const server = await startServer('--sys-interval-ms', '0');
  t.after(() => server.stop());
  const page = await open(t, server);
  await page.locator('#note:not([hidden])').waitFor();
  assert.match(await page.locator('#note').textContent(), /sys_interval_ms/);
});
