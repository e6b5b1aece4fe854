import encoding from 'k6/encoding';
import http from 'k6/http';
import { sleep } from 'k6';
import { Counter } from 'k6/metrics';

import { system } from './cluster.js';

// What clients were told, in all scripts alike.
export const paid = new Counter('paid'); // changes that were acknowledged
export const refused = new Counter('refused'); // refusals that the script provokes, by code
export const unexpected = new Counter('unexpected'); // answers that must not be
export const broken = new Counter('broken'); // no answer, or a 5xx
export const repeats = new Counter('repeats'); // the same request once more, under the same key
export const unresolved = new Counter('unresolved'); // changes of which nobody could say in time whether they happened
export const replays = new Counter('replays'); // changes that were acknowledged before, asked for again

const answerMax = '20s'; // longer than a node takes to say that it does not know, on a busy machine too

// An answer, with the body read as JSON; the status is 0 when none came.
export class Answer {
  constructor(response) {
    this.status = response.status;
    this.text = response.body || '';
    this.headers = response.headers || {};
    this.took = response.timings.duration;
    this.error = response.error;
    this.response = response;
    try {
      this.json = JSON.parse(this.text);
    } catch (_) {
      this.json = {};
    }
    this.code = this.json.code || '';
  }

  get ok() {
    return this.status === 200 || this.status === 201;
  }

  // A change is settled when its answer was decided under its key; anything else is asked again with the same key.
  get settled() {
    return this.ok || ['never', 'new-key'].includes(this.json.retry);
  }

  toString() {
    return `${this.status} ${this.code} ${this.error} ${this.text.slice(0, 300)}`;
  }
}

// params are k6's for one request; the tag `name` keeps addresses with numbers in them from becoming metrics of their own.
export function params(method, path, { token, key, headers = {}, wait, timeout, jar } = {}) {
  const all = { 'Content-Type': 'application/json', ...headers };
  if (token) {
    all.Authorization = `Bearer ${token}`;
  }
  if (key) {
    all['Idempotency-Key'] = key;
  }
  if (wait) {
    all.Prefer = `wait=${wait}`;
  }
  const route = path.replace(/\?.*/, '').replace(/[^/]*\d{8,}[^/]*/g, '{}');
  return { headers: all, timeout: timeout || answerMax, tags: { name: `${method} ${route}` }, redirects: 0, jar, responseType: 'text' };
}

// call asks once. `base` is an address other than the balancer's; `patient` says that the caller asks again when there is no
// good answer, and nothing is amiss then.
export function call(id, method, path, { body, base, patient, ...how } = {}) {
  const text = body === undefined ? null : JSON.stringify(body);
  const answer = new Answer(http.request(method, (base || system(id).base_url) + path, text, params(method, path, how)));
  if (!patient && (answer.status === 0 || answer.status >= 500)) {
    broken.add(1, { code: answer.code || 'none' });
  }
  return answer;
}

export function get(data, id, path, how = {}) {
  return call(id, 'GET', path, { token: token(data, id), ...how });
}

// surprise counts an answer that must not be, and says which.
export function surprise(what, answer) {
  unexpected.add(1);
  console.error(`${what}: ${answer}`);
}

// post makes a change that counts: it is repeated under its key until its answer is settled, for `patience` seconds. The
// effects, pairs of a place and minor units, are told to the books when it was acknowledged; null says that this was told
// before. Refusals with other codes than the given ones are unexpected. `tried` hears of each try when it began and how it was
// answered.
export function post(data, id, path, body, { effects = [], refusals = [], key = crypto.randomUUID(), patience = 30, tags = {}, tried, ...how } = {}) {
  const until = Date.now() + patience * 1000;
  for (let tries = 1; ; tries++) {
    const began = Date.now();
    const answer = call(id, 'POST', path, { body, key, token: token(data, id), ...how });
    if (tried) {
      tried(began, answer);
    }
    if (answer.settled) {
      judge(answer, path, effects, refusals, tags);
      return answer;
    }
    if (Date.now() > until) {
      unresolved.add(1);
      console.error(`POST ${path} is not settled after ${tries} tries: ${answer}`);
      return answer;
    }
    repeats.add(1);
    sleep(0.1 + Math.random() * 0.2);
  }
}

function judge(answer, path, effects, refusals, tags) {
  if (answer.ok && effects) {
    paid.add(1, tags);
    effects.forEach(([place, minor]) => told(place, minor));
  } else if (answer.ok) {
    replays.add(1);
  } else if (refusals.includes(answer.code)) {
    refused.add(1, { code: answer.code });
  } else {
    surprise(`POST ${path}`, answer);
  }
}

// The books of what clients were told. Virtual users share no memory, but a counter adds up what all of them put in: each
// acknowledged effect is taken off, and teardown adds what is found. What remains is money lost or made.
const gap = new Counter('money_gap');

export function told(place, minor) {
  gap.add(-minor, { place });
}

export function found(place, minor) {
  gap.add(minor, { place });
}

const renewAfter = 10 * 60 * 1000; // of the 15 minutes that a token lives
const own = {};

// token is the one that setup got, as long as it is good for, and then one of the virtual user's own.
export function token(data, id) {
  const now = Date.now();
  const good = [data.tokens[id], own[id]].find((t) => t && t.until > now);
  if (good) {
    return good.value;
  }
  own[id] = signIn(id, system(id).client);
  return own[id].value;
}

// signIn gets a client's token.
export function signIn(id, who) {
  const basic = encoding.b64encode(`${encodeURIComponent(who.client_id)}:${encodeURIComponent(who.client_secret)}`);
  const response = http.post(`${system(id).base_url}/v1/oauth/token`, { grant_type: 'client_credentials' }, {
    headers: { Authorization: `Basic ${basic}` }, tags: { name: 'POST /v1/oauth/token' }, responseType: 'text', timeout: answerMax,
  });
  const answer = new Answer(response);
  if (!answer.ok) {
    throw new Error(`sign ${who.client_id} in: ${answer}`);
  }
  return { value: answer.json.access_token, until: Date.now() + renewAfter };
}
