// The built-in page at `GET /`, driven in Chromium against a running server.
//
//   FANFARE_URL=http://127.0.0.1:8080 node --test browser/
//
// CHROMIUM names another browser binary; SCREENSHOT_DIR, if set, receives pictures of the page.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const base = process.env.FANFARE_URL?.replace(/\/+$/, '');
const shots = process.env.SCREENSHOT_DIR;
const skip = base ? false : 'FANFARE_URL is not set';

let browser;

before(async () => {
  if (!base) return;
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

let counter = 0;
/** A topic no other test, and no earlier run, has used. */
const freshTopic = () => `page-test.${Date.now().toString(36)}${Math.random().toString(36).slice(2, 6)}.t${++counter}`;

/** Opens the page on `topic` in a context of its own; fails the test on script errors and CSP violations. */
async function open(t, topic, { prepare, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const faults = [];
  page.on('pageerror', (e) => faults.push(String(e)));
  page.on('console', (m) => {
    if (/content security policy|trusted ?type/i.test(m.text())) faults.push(m.text());
  });
  await prepare?.(page);
  await page.goto(`${base}/${topic ? `#${encodeURIComponent(topic)}` : ''}`);
  await page.locator('#state[data-state=live]').waitFor();
  if (topic) await subscribed(page, topic);
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  return page;
}

const chip = (page, topic) => page.locator(`[data-testid=chip][data-topic="${topic}"]`);
const subscribed = (page, topic) => chip(page, topic).and(page.locator('[data-state=on]')).waitFor();
const rows = (page, topic) => page.locator(`[data-testid=message][data-topic="${topic}"]`);
const body = (page, text) => page.getByTestId('message-body').getByText(text, { exact: true });
const number = async (page, id) => Number((await page.locator(`#${id}`).textContent()).replaceAll(',', ''));

async function until(what, probe, timeout = 10_000) {
  const end = Date.now() + timeout;
  for (;;) {
    if (await probe()) return;
    if (Date.now() > end) assert.fail(`timed out: ${what}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

async function httpPublish(topic, payload) {
  const r = await fetch(`${base}/api/publish?topic=${encodeURIComponent(topic)}`, { method: 'POST', body: payload });
  assert.ok(r.ok, `publish: HTTP ${r.status}`);
  return r.json();
}

async function shoot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

test('goes live, subscribes to the topic of the link and to another one', { skip }, async (t) => {
  const a = freshTopic();
  const b = freshTopic();
  const page = await open(t, a);
  assert.equal(await page.locator('#topic').inputValue(), a);

  await page.locator('#topic').fill(b);
  await page.locator('#subscribe').click();
  await subscribed(page, b);
  assert.equal(await page.getByTestId('chip').count(), 2);
  assert.equal(decodeURIComponent(new URL(page.url()).hash), `#${b}`);

  await httpPublish(a, 'for a');
  await httpPublish(b, 'for b');
  await body(page, 'for a').waitFor();
  await body(page, 'for b').waitFor();

  await page.getByRole('button', { name: `Unsubscribe from ${a}` }).click();
  await chip(page, a).waitFor({ state: 'detached' });
  await httpPublish(b, 'for b again');
  await body(page, 'for b again').waitFor();
});

test('without a link the topic is lobby', { skip }, async (t) => {
  const page = await open(t, '');
  await subscribed(page, 'lobby');
});

test('publishes text and JSON, and measures the round trip', { skip }, async (t) => {
  const topic = freshTopic();
  const page = await open(t, topic);
  const payload = page.locator('#payload');

  await payload.fill('hello, world');
  await payload.press('Enter');
  await body(page, 'hello, world').waitFor();
  assert.equal(await payload.inputValue(), '');

  await payload.fill('{"n": 1,\n "list": [true, null]}');
  await page.locator('#publish').click();
  await body(page, '{"n":1,"list":[true,null]}').waitFor();

  // Shift+Enter does not publish.
  await payload.fill('two');
  await payload.press('Shift+Enter');
  await payload.pressSequentially('lines');
  assert.equal(await payload.inputValue(), 'two\nlines');
  await payload.press('Enter');
  await body(page, 'two\nlines').waitFor();

  // What looks like JSON can be sent as text.
  await page.locator('#as-text').check();
  await payload.fill('{"not": "parsed"}');
  await payload.press('Enter');
  await body(page, '{"not": "parsed"}').waitFor();

  assert.equal(await rows(page, topic).count(), 4);
  await until('each row carries its latency', async () => {
    const all = await page.getByTestId('message-latency').allTextContents();
    return all.length === 4 && all.every((x) => /^[\d.,]+ ms$/.test(x));
  });
  await until('the latency tile', async () => (await number(page, 'latency-p50')) >= 0);
  assert.ok((await number(page, 'latency-p99')) >= (await number(page, 'latency-p50')));
  assert.equal(await number(page, 'gaps'), 0);
});

test('shows what is published over HTTP', { skip }, async (t) => {
  const topic = freshTopic();
  const page = await open(t, topic);
  const sent = await httpPublish(topic, 'from curl');
  await body(page, 'from curl').waitFor();
  assert.equal(Number(await rows(page, topic).first().getAttribute('data-offset')), sent.offset);
  assert.equal(await page.getByTestId('message-latency').first().textContent(), '');
});

test('two pages hear each other', { skip }, async (t) => {
  const topic = freshTopic();
  const one = await open(t, topic);
  const two = await open(t, topic);
  await one.locator('#payload').fill('from one');
  await one.locator('#payload').press('Enter');
  await two.locator('#payload').fill('from two');
  await two.locator('#payload').press('Enter');
  for (const page of [one, two]) {
    await body(page, 'from one').waitFor();
    await body(page, 'from two').waitFor();
  }
});

test('a pattern hears its topics and cannot be published to', { skip }, async (t) => {
  const prefix = freshTopic();
  const page = await open(t, `${prefix}.*`);
  await httpPublish(`${prefix}.eur`, '1.08');
  await httpPublish(`${prefix}.usd`, '0.92');
  await rows(page, `${prefix}.eur`).waitFor();
  await rows(page, `${prefix}.usd`).waitFor();
  await page.locator('#payload').fill('x');
  assert.ok(await page.locator('#publish').isDisabled());
  assert.ok(await page.locator('#burst').isDisabled());
});

test('payloads and topics are shown as text, never as markup', { skip }, async (t) => {
  const topic = freshTopic();
  const page = await open(t, topic);
  const evil = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>';
  await httpPublish(topic, evil);
  await body(page, evil).waitFor();
  await page.locator('#payload').fill(evil);
  await page.locator('#payload').press('Enter');
  await until('both are shown', async () => (await rows(page, topic).count()) === 2);
  assert.equal(await page.locator('#messages :is(img, script)').count(), 0);

  // The topic comes from the link, and from there goes into commands meant to be pasted into a shell.
  await page.locator('#topic').fill("x';<img src=x onerror=window.pwned=3>$(id)`id`");
  const lines = await page.locator('#lines code').allTextContents();
  assert.equal(lines.length, 4);
  for (const line of lines) assert.doesNotMatch(line, /[<>`$;](?!\s)(?<!=>)|\$\(/);
  assert.equal(await page.locator('#lines img').count(), 0);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test('a burst moves the rate tile, and the list stays bounded', { skip }, async (t) => {
  const topic = freshTopic();
  const page = await open(t, topic);
  await page.locator('#burst-rate').fill('300');
  await page.locator('#burst-secs').fill('2');
  await page.locator('#burst').click();
  await until('the rate shows the burst', async () => (await number(page, 'rate')) > 100);
  await until('all have come', async () => (await number(page, 'total')) === 600, 15_000);
  assert.equal(await number(page, 'gaps'), 0);
  await until('the newest is on top', async () => (await page.getByTestId('message-body').first().textContent()).startsWith('{"burst":600,'));
  assert.equal(await page.getByTestId('message').count(), 200);
  assert.equal(await page.locator('#burst').textContent(), 'Start');
});

test('filter, pause and clear', { skip }, async (t) => {
  const topic = freshTopic();
  const page = await open(t, topic);
  for (const x of ['apple', 'pear', 'apple pie']) await httpPublish(topic, x);
  await until('three rows', async () => (await rows(page, topic).count()) === 3);

  await page.locator('#filter').fill('APPLE');
  await until('two rows', async () => (await rows(page, topic).count()) === 2);
  await page.locator('#filter').fill('');
  await until('three rows', async () => (await rows(page, topic).count()) === 3);

  await page.locator('#pause').click();
  await httpPublish(topic, 'while paused');
  await until('it is counted', async () => (await number(page, 'total')) === 4);
  assert.equal(await rows(page, topic).count(), 3);
  await page.locator('#pause').click();
  await body(page, 'while paused').waitFor();

  await page.locator('#clear').click();
  assert.equal(await rows(page, topic).count(), 0);
});

test('reconnects and recovers what it missed', { skip }, async (t) => {
  const topic = freshTopic();
  let down = false;
  let current;
  const page = await open(t, topic, {
    prepare: (p) => p.routeWebSocket(/\/ws$/, (route) => {
      if (down) return void route.close();
      route.connectToServer();
      current = route;
    }),
  });
  await httpPublish(topic, 'before');
  await body(page, 'before').waitFor();

  down = true;
  await current.close();
  await page.locator('#state[data-state=reconnecting]').waitFor();
  for (const x of ['missed 1', 'missed 2', 'missed 3']) await httpPublish(topic, x);
  down = false;
  await page.locator('#state[data-state=live]').waitFor();
  await page.getByTestId('notice').getByText(`${topic}: recovered 3 messages`).waitFor();
  for (const x of ['missed 1', 'missed 2', 'missed 3']) await body(page, x).waitFor();
  await httpPublish(topic, 'after');
  await body(page, 'after').waitFor();
  assert.equal(await rows(page, topic).count(), 5);
  assert.equal(await number(page, 'gaps'), 0);
});

test('tells when what it missed is no longer held', { skip }, async (t) => {
  const topic = freshTopic();
  let current;
  const page = await open(t, topic, {
    prepare: (p) => p.routeWebSocket(/\/ws$/, (route) => {
      current = route;
      const server = route.connectToServer();
      // The epoch asked for is one the server never had, as after a restart.
      route.onMessage((m) => {
        const o = JSON.parse(m);
        if (o.since) o.since.epoch = o.since.epoch.replace(/./g, (c) => (c === '0' ? '1' : '0'));
        server.send(JSON.stringify(o));
      });
    }),
  });
  await httpPublish(topic, 'before');
  await body(page, 'before').waitFor();
  await current.close();
  await page.getByTestId('notice').getByText(`${topic}: gap: history no longer held`).waitFor();
  await httpPublish(topic, 'after');
  await body(page, 'after').waitFor();
});

test('counts a lost message as a gap', { skip }, async (t) => {
  const topic = freshTopic();
  const page = await open(t, topic, {
    prepare: (p) => p.routeWebSocket(/\/ws$/, (route) => {
      const server = route.connectToServer();
      server.onMessage((m) => {
        if (!String(m).includes('to be lost')) route.send(m);
      });
    }),
  });
  for (const x of ['one', 'to be lost', 'three']) await httpPublish(topic, x);
  await body(page, 'three').waitFor();
  await until('the gap is counted', async () => (await number(page, 'gaps')) === 1);
});

test('an error of the server becomes a notice', { skip }, async (t) => {
  const page = await open(t, '', {
    prepare: (p) => p.routeWebSocket(/\/ws$/, (route) => {
      const server = route.connectToServer();
      route.onMessage((m) => {
        const o = JSON.parse(m);
        if (o.type === 'publish') route.send(JSON.stringify({ type: 'error', id: o.id, code: 'refused', message: 'no <b>such</b> luck' }));
        else server.send(m);
      });
    }),
  });
  await page.locator('#payload').fill('x');
  await page.locator('#payload').press('Enter');
  await page.getByTestId('toast').getByText('refused: no <b>such</b> luck').waitFor();
});

for (const [name, viewport] of [['desktop', { width: 1280, height: 900 }], ['phone', { width: 390, height: 844 }]]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${name}, ${colorScheme}: nothing sticks out, everything has a name`, { skip }, async (t) => {
      const topic = freshTopic();
      const page = await open(t, topic, { viewport, colorScheme, deviceScaleFactor: name === 'phone' ? 2 : 1 });
      const dark = await page.evaluate(() => matchMedia('(prefers-color-scheme: dark)').matches);
      assert.equal(dark, colorScheme === 'dark');
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `the page is ${overflow} px too wide`);
      const nameless = await page.evaluate(() => [...document.querySelectorAll('input, textarea, select, button')]
        .filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim() || e.hidden)).map((e) => e.id || e.outerHTML));
      assert.deepEqual(nameless, []);
      const inline = await page.evaluate(() => [...document.querySelectorAll('*')]
        .flatMap((e) => e.getAttributeNames().filter((a) => a.startsWith('on'))));
      assert.deepEqual(inline, []);

      if (!shots) return;
      await page.locator('#topic').fill('prices.>');
      await page.locator('#subscribe').click();
      await subscribed(page, 'prices.>');
      await page.locator('#topic').fill('demo.lobby');
      await page.locator('#subscribe').click();
      await subscribed(page, 'demo.lobby');
      await shoot(page, `page-${name}-${colorScheme}-empty`);
      for (const [rate, secs] of [[40, 2], [160, 3], [90, 2]]) {
        await page.locator('#burst-rate').fill(String(rate));
        await page.locator('#burst-secs').fill(String(secs));
        await page.locator('#burst').click();
        await page.waitForTimeout(secs * 1000 + 400);
      }
      await httpPublish('prices.eur', '{"bid":1.0841,"ask":1.0843}');
      await httpPublish('prices.fx.chf', '{"bid":0.9567,"ask":0.9571}');
      await httpPublish(topic, 'plain text, sent with curl');
      await httpPublish('demo.lobby', '<img src=x onerror=alert(1)> stays text');
      for (const x of ['hello from this page', '{"kind":"score","home":2,"away":1,"by":["Ada","Grace"]}']) {
        await page.locator('#payload').fill(x);
        await page.locator('#payload').press('Enter');
        await body(page, x).waitFor();
      }
      await page.waitForTimeout(1200);
      await shoot(page, `page-${name}-${colorScheme}`);
    });
  }
}
