// Each kind of request once, as a newcomer would make it, at every address: the balancer's and each node's.
import { Counter } from 'k6/metrics';

import { call, get, post, surprise, told } from './lib/api.js';
import { audit, begin, common, currency, deposit, nobody, open, read, settings, transfer, withdraw } from './lib/bank.js';
import { alpha, system } from './lib/cluster.js';
import { summary } from './lib/report.js';

const bases = [system(alpha).base_url, ...system(alpha).nodes];
const places = ['payer', 'payee'];
const steps = new Counter('steps');
const stepsEach = 18;

export const options = settings(
  { smoke: { executor: 'per-vu-iterations', vus: 1, iterations: bases.length, maxDuration: '60s' } },
  common([alpha], places, {
    steps: [`count==${bases.length * stepsEach}`],
    'refused{code:insufficient_funds}': [`count==${bases.length}`],
    'refused{code:account_not_found}': [`count==${bases.length}`],
    http_req_duration: ['p(95)<5000'],
  }),
);

export function setup() {
  const data = begin([alpha]);
  open(data, alpha, 'payer', 10_000);
  open(data, alpha, 'payee', 0);
  return data;
}

// step is one thing that has to be so.
function step(what, holds, answer) {
  steps.add(1);
  if (!holds) {
    surprise(what, answer);
  }
}

export default function (data) {
  const base = bases[__ITER];
  const [payer, payee] = data.accounts[alpha];
  const how = { base };
  for (const path of ['/livez', '/readyz', '/openapi.yaml', '/.well-known/lockstep']) {
    const answer = call(alpha, 'GET', path, how);
    step(path, answer.status === 200, answer);
  }
  const stranger = call(alpha, 'GET', '/v1/accounts', how);
  step('without a token', stranger.status === 401, stranger);

  const put = deposit(data, alpha, payer, 500, how);
  step('deposit', put.json.state === 'posted', put);
  const key = crypto.randomUUID();
  const sent = transfer(data, alpha, payer, payee, 1_500, { ...how, key });
  step('transfer', sent.status === 201 && sent.json.amount === '1500', sent);
  const again = transfer(data, alpha, payer, payee, 1_500, { ...how, key, effects: null });
  step('the same once more', again.headers['Idempotency-Replayed'] === 'true' && again.text === sent.text, again);
  const other = post(data, alpha, '/v1/transfers', { from: payer.number, to: payee.number, amount: '1', currency }, {
    ...how, key, refusals: ['idempotency_key_reused'],
  });
  step('other contents under the key', other.status === 422, other);
  const poor = transfer(data, alpha, payer, payee, 1_000_000, { ...how, refusals: ['insufficient_funds'] });
  step('more than there is', poor.status === 422 && poor.json.outcome === 'not_applied', poor);
  const explained = call(alpha, 'GET', poor.json.type || '/problems/', how);
  step('an explanation in Korean', (explained.json.ko || {}).title === '잔액부족', explained);
  const nowhere = transfer(data, alpha, { ...payer, number: nobody(alpha) }, payee, 1, { ...how, refusals: ['account_not_found'] });
  step('an account that is not there', nowhere.status === 404, nowhere);

  const hold = post(data, alpha, '/v1/holds', { account: payer.number, amount: '700', currency, to: payee.number }, how);
  step('hold', hold.json.state === 'pending', hold);
  const captured = post(data, alpha, `/v1/holds/${hold.json.id}/capture`, { amount: '300' }, how);
  step('capture', captured.json.state === 'posted' && captured.json.captured === '300', captured);
  if (captured.ok) {
    told('payer', -300);
    told('payee', 300);
  }
  const taken = withdraw(data, alpha, payee, 200, how);
  step('withdraw', taken.ok, taken);
  const seen = get(data, alpha, `/v1/accounts/${payee.number}`, { ...how, headers: { 'Consistency-Token': taken.headers['Consistency-Token'] } });
  step('what was written is read', seen.json.balance.posted === `${1_600 * (__ITER + 1)}`, seen);
  const entries = get(data, alpha, `/v1/accounts/${payee.number}/entries?limit=3`, { ...how, headers: { 'Cache-Control': 'no-cache' } });
  step('the statement', entries.json.entries[0].balance_after === seen.json.balance.posted, entries);
  const fresh = read(data, alpha, payer, how);
  step('no hold is left', fresh.json.balance.available === fresh.json.balance.posted, fresh);
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('smoke');
