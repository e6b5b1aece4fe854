// Storms: one request under one key, many times at once over both nodes and the balancer. It has one effect, one answer is
// its own, and all others are that answer again, byte for byte. Other contents under the key are refused.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

import { Answer, paid, params, post, replays, surprise, told, token } from './lib/api.js';
import { amount, audit, begin, common, currency, open, settings, two } from './lib/bank.js';
import { alpha, system } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const bases = [system(alpha).base_url, ...system(alpha).nodes];
const places = ['a', 'b', 'c', 'd'];
const each = 6; // requests of a storm
const waiting = new Counter('in_progress'); // told to ask again

export const options = {
  ...settings(
    { storms: { executor: 'constant-vus', vus: pick(12, 40), duration: `${seconds(10, 120)}s`, gracefulStop: '30s' } },
    common([alpha], places, {
      paid: ['count>50'],
      replays: ['count>200'],
      'refused{code:idempotency_key_reused}': ['count>50'],
      http_req_duration: ['p(99)<5000'],
    }),
  ),
  batchPerHost: each,
};

export function setup() {
  const data = begin([alpha]);
  places.forEach((place) => open(data, alpha, place, 10_000_000));
  return data;
}

export default function (data) {
  const [from, to] = two(data.accounts[alpha]);
  const minor = amount();
  const key = crypto.randomUUID();
  const body = { from: from.number, to: to.number, amount: `${minor}`, currency, reference: key };
  const how = params('POST', '/v1/transfers', { key, token: token(data, alpha) });
  const answers = http.batch(Array.from({ length: each }, (_, i) => ['POST', `${bases[i % bases.length]}/v1/transfers`, JSON.stringify(body), how]))
    .map((response) => new Answer(response));
  const last = judge(answers, data, body, key);
  if (!last) {
    return;
  }
  paid.add(1);
  told(from.place, -minor);
  told(to.place, minor);
  post(data, alpha, '/v1/transfers', { ...body, amount: `${minor + 1}` }, { key, base: bases[__ITER % bases.length], refusals: ['idempotency_key_reused'] });
}

// judge holds the answers of a storm against one another, and returns the one that all of them are.
function judge(answers, data, body, key) {
  const good = answers.filter((a) => a.status === 201);
  const later = answers.filter((a) => a.code === 'request_in_progress');
  const firsts = good.filter((a) => a.headers['Idempotency-Replayed'] !== 'true');
  waiting.add(later.length);
  replays.add(good.length - firsts.length);
  const odd = answers.find((a) => a.status !== 201 && a.code !== 'request_in_progress');
  const last = post(data, alpha, '/v1/transfers', body, { key, effects: null });
  if (odd) {
    surprise('in a storm', odd);
  }
  if (firsts.length > 1) {
    surprise(`${firsts.length} first answers in a storm`, firsts[1]);
  }
  const other = good.find((a) => a.text !== last.text);
  if (other) {
    surprise(`another answer than ${last}`, other);
  }
  if (last.headers['Idempotency-Replayed'] !== 'true' && good.length > 0) {
    surprise('a repeat that is none', last);
  }
  return last.ok ? last : null;
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('idempotency');
