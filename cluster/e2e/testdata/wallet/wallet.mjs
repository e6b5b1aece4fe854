// Uses the wallet as a person does, in a real browser, and ends with what it has seen as JSON. What is not as it should be
// is an assertion that fails. Its input, on standard input, is written by wallet_test.go.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const given = JSON.parse(readFileSync(0, 'utf8'));
const desktop = { width: 1280, height: 800 };
const phone = { width: 390, height: 844 };
const patience = 30_000; // ms, of every wait

const began = Date.now();
const say = (text) => console.error(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`);

const browser = await chromium.launch({
  executablePath: given.browser,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
});

// open makes a browser of its own, which notes what it should never do.
const elsewhere = [];
const hard = []; // to use
const complaints = [];
async function open(options = {}) {
  const context = await browser.newContext({ viewport: desktop, locale: 'en-US', timezoneId: 'Asia/Seoul', colorScheme: 'light', reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(patience);
  context.on('request', (request) => {
    const { origin } = new URL(request.url());
    if (![given.alpha, ...given.providers].includes(origin)) elsewhere.push(request.url());
  });
  context.on('console', (message) => {
    const provider = given.providers.some((origin) => message.page()?.url().startsWith(origin));
    const refusal = /Failed to load resource: (the server responded with a status of (400|401|422)|net::ERR_FAILED)/.test(message.text());
    if (!provider && !refusal && ['error', 'warning'].includes(message.type())) complaints.push(`${message.page()?.url()}: ${message.text()}`);
  });
  context.on('weberror', (error) => complaints.push(String(error.error())));
  return context;
}

const control = async (process, act) => {
  const answer = await fetch(`${given.control}/processes/${process}/${act}`, { method: 'POST', headers: { Authorization: `Bearer ${given.controlToken}` } });
  assert.ok(answer.ok, `${act} ${process}: ${answer.status}`);
};

const text = (page, selector = 'main') => page.locator(selector).innerText();
const money = (page) => text(page, '.figure .money').then((said) => said.replace(/\s/g, ''));

// faults are what makes a page hard to use: text too pale for its ground (WCAG 2.2, 1.4.3), and what can be used but has no
// name for those who do not see it (4.1.2).
function faults() {
  const parts = (color) => {
    const numbers = color.match(/[\d.]+/g).map(Number);
    const scale = color.startsWith('color(') ? 255 : 1;
    return { rgb: numbers.slice(0, 3).map((n) => n * scale), alpha: numbers[3] ?? 1 };
  };
  const over = (top, alpha, ground) => top.map((n, i) => n * alpha + ground[i] * (1 - alpha));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const { rgb, alpha } = parts(getComputedStyle(element).backgroundColor);
    return alpha === 1 ? rgb : over(rgb, alpha, ground(element.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((n) => (n / 255 <= 0.04045 ? n / 255 / 12.92 : ((n / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const root = document.querySelector('dialog[open]') ?? document.body;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest('.hidden, .skip, option, template, :disabled')) continue;
    const style = getComputedStyle(element);
    const under = ground(element);
    let opacity = parts(style.color).alpha;
    for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    const [a, b] = [light(over(parts(style.color).rgb, opacity, under)), light(under)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  for (const element of root.querySelectorAll('a[href], button, input, select')) {
    if (!element.checkVisibility() || element.classList.contains('hidden')) continue;
    const name = element.getAttribute('aria-label') || element.innerText?.trim() || [...(element.labels ?? [])].map((label) => label.innerText).join(' ').trim();
    if (!name) found.push(`${element.outerHTML.slice(0, 80)} has no name`);
  }
  return found;
}

async function screen(page, name, { ours = true } = {}) {
  await page.evaluate(() => document.fonts.ready);
  if (!ours) return page.screenshot({ path: join(given.screens, `${name}.png`) });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, `${name} is wider than the window`);
  for (const fault of await page.evaluate(faults)) hard.push(`${name}: ${fault}`);
  return page.screenshot({ path: join(given.screens, `${name}.png`) });
}

// form fills a form and submits it; what happens next is the caller's to see.
async function fill(page, fields) {
  for (const [name, value] of Object.entries(fields)) {
    const field = page.locator(`form[data-change] [name="${name}"]`);
    if ((await field.evaluate((input) => input.tagName)) === 'SELECT') await field.selectOption(value);
    else await field.fill(value);
  }
}
const submit = (page) => page.locator('form[data-change] button[type=submit]').click();
const made = (page) => page.waitForURL(/\/wallet\/transfers\//);
const id = (page) => page.url().split('/').pop();

async function openAccount(page, currency, label) {
  await page.goto(`${given.alpha}/wallet/open`);
  await page.locator(`label.choice:has(input[value="${currency}"])`).click();
  await page.fill('[name=label]', label);
  await submit(page);
  await page.waitForURL(/\/wallet\/accounts\//);
  return page.url().split('/').pop();
}

// review goes as far as the question whether all is right.
async function review(page, from, to, amount, note = '') {
  await page.goto(`${given.alpha}/wallet/send?account=${from}`);
  await fill(page, { to, amount, description: note });
  await page.locator('[data-payee]:not(.looking):not([hidden])').waitFor();
  await submit(page);
  await page.locator('dialog[open]').waitFor();
  return text(page, 'dialog[open]');
}
const confirm = (page) => page.locator('dialog[open] button[type=submit]').click();

async function password(page, who) {
  await page.fill('[name=username]', who.username);
  await page.fill('[name=password]', who.password);
  await page.locator('form[data-auth] button[type=submit]').click();
  await page.locator('[data-person]').waitFor({ state: 'attached' });
}

const tests = {
  // The button leads to the provider, and from there back to the page that was asked for.
  async google(page) {
    await page.goto(`${given.alpha}/wallet/deposit`);
    const [begun] = await Promise.all([
      page.waitForResponse((response) => response.url().includes('/v1/auth/google/login')), page.locator('a.provider').click(),
    ]);
    assert.equal(begun.status(), 302);
    const led = new URL(begun.headers().location);
    const asked = led.searchParams;
    assert.equal(led.origin, given.providers[0]);
    assert.equal(asked.get('response_type'), 'code');
    assert.equal(asked.get('code_challenge_method'), 'S256');
    assert.equal(asked.get('redirect_uri'), `${given.alpha}/v1/auth/google/callback`);
    assert.equal(asked.get('scope'), 'openid email profile');
    for (const name of ['state', 'client_id', 'code_challenge', 'nonce']) assert.ok(asked.get(name), `the first 302 carries ${name}`);
    await page.fill('[name=username]', given.alice.username);
    await page.fill('[name=password]', given.alice.password);
    await screen(page, 'desktop-light-en-provider-sign-in', { ours: false });
    await page.getByRole('button', { name: 'Sign in' }).click();
    const allow = page.getByRole('button', { name: 'Allow' });
    await allow.waitFor();
    await screen(page, 'desktop-light-en-provider-consent', { ours: false });
    await allow.click();
    await page.locator('[data-person]').waitFor({ state: 'attached' });
    assert.match(page.url(), /\/wallet\/deposit\?form=/, 'it comes back to what was asked for');
    const me = await page.evaluate(() => fetch('/v1/me').then((answer) => answer.json()));
    assert.equal(me.name, 'Alice Kim');
    return me.id;
  },

  // By password, after a slip.
  async password() {
    const context = await open();
    const page = await context.newPage();
    const answer = await page.goto(`${given.alpha}/wallet/deposit`);
    assert.equal(answer.status(), 401);
    assert.match(answer.headers()['content-security-policy'], /default-src 'none'; script-src 'self'; style-src 'self'/);
    assert.match(answer.headers()['cache-control'], /no-store/);
    await page.fill('[name=username]', given.alice.username);
    await page.fill('[name=password]', 'not the password');
    await page.keyboard.press('Enter');
    await page.locator('[data-alert]:not([hidden])').waitFor();
    assert.match(await text(page, '[data-alert]'), /not right/);
    await screen(page, 'desktop-light-en-sign-in-refused');
    await password(page, given.alice);
    assert.match(page.url(), /\/wallet\/deposit\?form=/, 'it goes on to what was asked for');
    await context.close();
  },

  async first(page) {
    await page.goto(`${given.alpha}/wallet`);
    await screen(page, 'desktop-light-en-empty');
    const number = await openAccount(page, 'KRW', 'Everyday money');
    await page.goto(`${given.alpha}/wallet/deposit?account=${number}`);
    await fill(page, { amount: '10000', description: 'From the cash box' });
    assert.equal(await page.inputValue('[name=amount]'), '10,000');
    await submit(page);
    await made(page);
    assert.equal(await money(page), '+₩10,000');
    return number;
  },

  async send(page, number) {
    const said = await review(page, number, given.bobs, '3000', 'Lunch');
    assert.match(said, /B\*b M\*+r/, 'the payee is shown, masked, before anything is sent');
    assert.match(said, /₩7,000/, 'and what is left');
    await screen(page, 'desktop-light-en-review');
    await confirm(page);
    await made(page);
    assert.equal(await money(page), '−₩3,000');
    const abroad = await review(page, number, given.payee, '2000', 'Rent');
    assert.match(abroad, /in beta, another payment system/);
    await confirm(page);
    await made(page);
    await page.locator('.state.posted').waitFor();
    await page.locator('[data-finished=true]').waitFor();
    assert.match(await text(page), /Credited to the recipient/);
    const sent = id(page);

    await page.goto(`${given.alpha}/wallet/accounts/${number}`);
    assert.equal(await money(page), '₩5,000');
    const lines = (await page.locator('.activity .sum > .money').allInnerTexts()).map((line) => line.trim());
    assert.deepEqual(lines, ['−₩2,000', '−₩3,000', '+₩10,000']);
    await page.selectOption('#kind', 'deposit');
    await page.locator('.filters button').click();
    await page.waitForURL(/kind=deposit/);
    assert.equal(await page.locator('.activity .entry').count(), 1);
    await page.goto(`${given.alpha}/wallet/accounts/${number}?from=2020-01-01&to=2020-01-31`);
    assert.match(await text(page), /No entries fit/);
    const [download] = await Promise.all([page.waitForEvent('download'), (async () => {
      await page.goto(`${given.alpha}/wallet/accounts/${number}`);
      await page.locator('a[download]').click();
    })()]);
    const csv = readFileSync(await download.path(), 'utf8').trim().split('\r\n');
    assert.equal(csv.length, 4);
    assert.match(csv[2], /,Sent,alpha-\d{14},Lunch,-3000,KRW,7000,/);
    assert.equal(download.suggestedFilename(), `${number}.csv`);
    return sent;
  },

  // In Korean, from the switch on the page.
  async tooMuch(page, number) {
    await page.goto(`${given.alpha}/wallet`);
    await page.locator('.tongue').click();
    await page.waitForURL(/lang=ko/);
    assert.equal(await page.locator('html').getAttribute('lang'), 'ko');
    await review(page, number, given.bobs, '1000000');
    await confirm(page);
    await page.locator('[data-alert]:not([hidden])').waitFor();
    assert.match(await text(page, '[data-alert]'), /잔액부족/);
    await screen(page, 'desktop-light-ko-too-much');
    await fill(page, { amount: '10' });
    await submit(page);
    await page.locator('dialog[open]').waitFor();
    await confirm(page);
    await made(page); // what is corrected is another request, and not the refused one again
    assert.equal(await money(page), '−10원');
    await page.goto(`${given.alpha}/wallet?lang=en`);
  },

  async twice(context, number) {
    const page = await context.newPage();
    await review(page, number, given.bobs, '100', 'Double click');
    await page.locator('dialog[open] button[type=submit]').dblclick();
    await made(page);
    const once = id(page);

    // Without the script's own care the key alone has to do: two pages of one form, and then a third one, gone back to.
    await page.goto(`${given.alpha}/wallet/send?account=${number}`);
    const form = page.url();
    const other = await context.newPage();
    await other.goto(form);
    for (const one of [page, other]) {
      await fill(one, { to: given.bobs, amount: '200', description: 'Two tabs' });
      await one.locator('[data-payee]:not(.looking):not([hidden])').waitFor();
      await submit(one);
      await one.locator('dialog[open]').waitFor();
    }
    await Promise.all([confirm(page), confirm(other), made(page), made(other)]);
    assert.equal(id(page), id(other), 'two pages of one form make one transfer');
    await other.goto(form);
    await fill(other, { to: given.bobs, amount: '200', description: 'Two tabs' });
    await other.locator('[data-payee]:not(.looking):not([hidden])').waitFor();
    await submit(other);
    await confirm(other);
    await made(other);
    assert.equal(id(page), id(other), 'and so does the same form sent later');
    await other.goto(form);
    await fill(other, { to: given.bobs, amount: '201' });
    await other.locator('[data-payee]:not(.looking):not([hidden])').waitFor();
    await submit(other);
    await confirm(other);
    await other.locator('[data-alert]:not([hidden])').waitFor();
    assert.match(await text(other, '[data-alert]'), /sent before, with other contents/);
    const repeated = [once, id(page)];
    await Promise.all([page.close(), other.close()]);
    return repeated;
  },

  // The other system stands still, and goes on.
  async live(page, number) {
    const blind = await page.context().newPage();
    await blind.route('**/events', (route) => route.abort());
    await review(page, number, given.payee, '300', 'While they sleep');
    for (const node of given.betaNodes) await control(node, 'stop');
    try {
      await confirm(page);
      await made(page);
      await page.locator('.state.pending').waitFor();
      await screen(page, 'desktop-light-en-pending');
      await blind.goto(page.url());
      await blind.locator('.state.pending').waitFor();
      for (const one of [page, blind]) await one.evaluate(() => { globalThis.stayed = true; });
    } finally {
      for (const node of given.betaNodes) await control(node, 'cont');
    }
    for (const one of [page, blind]) {
      await one.locator('.state.posted').waitFor();
      assert.ok(await one.evaluate(() => globalThis.stayed), 'the page followed by itself, without being loaded again');
    }
    await blind.close();
    return id(page);
  },

  async keyboard(page, number) {
    await page.goto(`${given.alpha}/wallet/withdraw?account=${number}`);
    const until = async (wanted) => {
      for (let presses = 0; presses < 30; presses++) {
        if (await page.evaluate((selector) => document.activeElement.matches(selector), wanted)) return;
        await page.keyboard.press('Tab');
      }
      assert.fail(`${wanted} is not reached by the keyboard`);
    };
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    await until('[name=amount]');
    await page.keyboard.type('50');
    await until('button[type=submit]');
    await page.keyboard.press('Enter');
    await made(page);
    assert.equal(await money(page), '−₩50');
  },

  // What the pages look like, on a desk and on a phone, by day and by night: each is loaded once in a language, and looked at
  // twice.
  async looks(context, number, transfer) {
    const storageState = await context.storageState();
    const look = async (lang, variants) => {
      const seen = await open({ storageState });
      const page = await seen.newPage();
      const visit = async (name, path) => {
        await page.goto(`${given.alpha}${path}lang=${lang}`);
        if (name === 'send') await page.locator('[data-payee]:not(.looking):not([hidden])').waitFor();
        for (const [width, viewport, colorScheme] of variants) {
          await page.setViewportSize(viewport);
          await page.emulateMedia({ colorScheme });
          await screen(page, `${width}-${colorScheme}-${lang}-${name}`);
        }
      };
      for (const [name, path] of Object.entries({
        home: '/wallet?', account: `/wallet/accounts/${number}?`, send: `/wallet/send?account=${number}&to=${given.bobs}&`,
        transfer: `/wallet/transfers/${transfer}?`, settings: '/wallet/settings?',
      })) await visit(name, path);
      await seen.clearCookies();
      await visit('sign-in', '/wallet/sign-in?');
      await seen.close();
    };
    await Promise.all([
      look('en', [['desktop', desktop, 'light'], ['phone', phone, 'dark']]),
      look('ko', [['desktop', desktop, 'dark'], ['phone', phone, 'light']]),
    ]);
  },

  async signOut(context, page, number) {
    await page.goto(`${given.alpha}/wallet/accounts/${number}`);
    const cookies = await context.cookies();
    const access = cookies.find((cookie) => cookie.name.endsWith('_access'));
    for (const cookie of cookies.filter((one) => /_(access|refresh)$/.test(one.name))) {
      assert.ok(cookie.httpOnly && cookie.path === '/' && cookie.sameSite !== 'None', `the cookie ${cookie.name} is out of reach`);
    }
    await page.locator('[data-sign-out]').first().click();
    await page.waitForURL(/sign-in/);
    await page.goBack();
    await page.locator('form[data-auth]').waitFor();
    assert.doesNotMatch(await page.content(), new RegExp(number.slice(0, 16) + '|₩|Everyday'), 'going back shows nothing');
    for (const node of given.nodes) {
      const answer = await fetch(`${node}/v1/accounts`, { headers: { Cookie: `${access.name}=${access.value}` } });
      assert.equal(answer.status, 401, `the old access token at ${node}`);
      const bearer = await fetch(`${node}/v1/accounts`, { headers: { Authorization: `Bearer ${access.value}` } });
      assert.equal(bearer.status, 401, `the old access token as bearer at ${node}`);
    }
  },
};

mkdirSync(given.screens, { recursive: true });
try {
  const byPassword = tests.password().then(() => say('signed in by password'));
  const context = await open();
  const page = await context.newPage();
  const person = await tests.google(page);
  say('signed in at the provider');
  const number = await tests.first(page);
  await byPassword;
  say('deposited');
  const sent = await tests.send(page, number);
  say('sent inside and outside');
  await tests.tooMuch(page, number);
  say('refused in Korean');
  const done = (what) => (result) => { say(what); return result; };
  const [followed, repeated] = await Promise.all([ // one waits while the others work
    tests.live(page, number).then(done('followed')),
    tests.twice(context, number).then(done('sent twice, moved once')),
    tests.looks(context, number, sent).then(done('looked at')),
  ]);
  await tests.keyboard(page, number);
  say('used by the keyboard');
  await tests.signOut(context, page, number);
  say('signed out');
  await context.clearCookies({ name: /^(?!wallet_)/ }); // at the provider, too
  assert.equal(await tests.google(page), person, 'a second sign-in makes nobody new');
  await page.goto(`${given.alpha}/wallet/accounts/${number}`);
  assert.match(await text(page), /Everyday money/, 'the same person is back');
  say('signed in again');
  assert.deepEqual(elsewhere, [], 'nothing is asked of anybody else');
  assert.deepEqual(hard, [], 'everybody can read and use the pages');
  assert.deepEqual(complaints, [], 'the browser has nothing to complain of');
  console.log(JSON.stringify({ number, repeated, followed }));
} catch (error) {
  for (const [i, page] of browser.contexts().flatMap((context) => context.pages()).entries()) {
    say(`page ${i}, ${page.url()}: ${(await page.innerText('body').catch(() => '')).replace(/\s+/g, ' ').slice(0, 600)}`);
    await page.screenshot({ path: join(given.screens, `failed-${i}.png`) }).catch(() => {});
  }
  throw error;
} finally {
  await browser.close();
}
