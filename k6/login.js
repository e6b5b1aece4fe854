// People with passwords: they sign in, their session is in two cookies and good at every node, they pay with it, and when
// they have signed out every node refuses it. Nobody pays without the page's origin, nor sees another's account.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

import { call, post, refused, surprise } from './lib/api.js';
import { amount, audit, begin, common, currency, open, settings } from './lib/bank.js';
import { alpha, system } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const home = system(alpha).base_url;
const bases = [home, ...system(alpha).nodes];
const people = pick(6, 30);
const places = Array.from({ length: people }, (_, i) => `person-${i}`);
const password = 'seven wide boats';
const sessions = new Counter('sessions');
const ended = new Counter('sessions_ended');

export const options = settings(
  {
    people: { executor: 'constant-vus', vus: people, duration: `${seconds(18, 120)}s`, gracefulStop: '30s' },
    guesser: { executor: 'per-vu-iterations', vus: 1, iterations: 3, exec: 'guess' }, // more would lock the address out
  },
  common([alpha], places, {
    paid: ['count>10'],
    sessions: ['count>10'],
    sessions_ended: ['count>10'],
    'refused{code:forbidden}': ['count>10'],
    'refused{code:account_not_found}': ['count>10'],
    'refused{code:unauthenticated}': ['count>20'],
    'refused{code:invalid_credentials}': ['count==3'],
    'http_req_duration{name:POST /v1/auth/login}': ['p(95)<10000'],
  }),
);

// browser is a person's, on a page of the address.
const browser = (jar, base, more = {}) => ({ jar, base, token: undefined, headers: { Origin: base }, ...more });

export function setup() {
  const data = begin([alpha]);
  data.names = [];
  places.forEach((place) => {
    const username = `k6${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`;
    const jar = new http.CookieJar();
    const registered = call(alpha, 'POST', '/v1/auth/register', { body: { username, password }, ...browser(jar, home) });
    if (registered.status !== 201) {
      throw new Error(`register: ${registered}`);
    }
    open(data, alpha, place, 100_000, browser(jar, home));
    data.names.push(username);
  });
  return data;
}

export default function (data) {
  const me = (__VU - 1) % people;
  const [mine, theirs] = [data.accounts[alpha][me], data.accounts[alpha][(me + 1) % people]];
  const jar = new http.CookieJar();
  const entered = call(alpha, 'POST', '/v1/auth/login', { body: { username: data.names[me], password }, ...browser(jar, home) });
  if (entered.status !== 200) {
    surprise('sign in', entered);
    return;
  }
  sessions.add(1);
  bases.forEach((base) => {
    const who = call(alpha, 'GET', '/v1/me', browser(jar, base));
    if (who.json.username !== data.names[me]) {
      surprise('who am I', who);
    }
  });
  const minor = amount();
  const payment = { from: mine.number, to: theirs.number, amount: `${minor}`, currency };
  const base = bases[__ITER % bases.length];
  post(data, alpha, '/v1/transfers', payment, { ...browser(jar, base), effects: [[mine.place, -minor], [theirs.place, minor]] });
  expectRefusal('forbidden', call(alpha, 'POST', '/v1/transfers', { body: payment, key: crypto.randomUUID(), ...browser(jar, base, { headers: { Origin: 'https://evil.example' } }) }));
  expectRefusal('account_not_found', call(alpha, 'GET', `/v1/accounts/${theirs.number}`, browser(jar, base, { headers: { 'Cache-Control': 'no-cache' } })));
  leave(jar, base);
}

// leave signs out at one address; the session's cookies, kept by somebody, are good nowhere any more.
function leave(jar, base) {
  const kept = Object.entries(jar.cookiesForURL(home)).map(([name, values]) => `${name}=${values[0]}`).join('; ');
  const left = call(alpha, 'POST', '/v1/auth/logout', browser(jar, base));
  if (left.status !== 204) {
    surprise('sign out', left);
    return;
  }
  ended.add(1);
  bases.forEach((at) => {
    expectRefusal('unauthenticated', call(alpha, 'GET', '/v1/accounts', browser(new http.CookieJar(), at, { headers: { Cookie: kept } })));
  });
}

function expectRefusal(code, answer) {
  if (answer.code === code) {
    refused.add(1, { code });
  } else {
    surprise(`not ${code}`, answer);
  }
}

export function guess(data) {
  const jar = new http.CookieJar();
  expectRefusal('invalid_credentials', call(alpha, 'POST', '/v1/auth/login', { body: { username: data.names[0], password: 'six wide boats' }, ...browser(jar, home) }));
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('login');
