// Transfers between two systems, both ways at once. Every client hears what became of its transfer; a payee that is not
// there is refused and the hold released; what one system has taken the other has given, to the last unit.
import { Counter, Trend } from 'k6/metrics';
import { sleep } from 'k6';

import { surprise } from './lib/api.js';
import { amount, audit, begin, common, nobody, open, read, settings, some, transfer } from './lib/bank.js';
import { alpha, beta } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const ids = [alpha, beta()];
const each = 4; // accounts of a system
const places = ids.flatMap((id) => Array.from({ length: each }, (_, i) => `${id}-${i}`));
const probes = ids.map((id) => `${id}-probe`);
const length = `${seconds(18, 120)}s`;
const credited = new Trend('credited_after', true); // from the payer's answer to the payee's balance
const probed = new Counter('probed');

export const options = settings(
  {
    across: { executor: 'constant-vus', vus: pick(16, 60), duration: length, gracefulStop: '60s' },
    probe: { executor: 'constant-vus', vus: 1, duration: length, gracefulStop: '60s', exec: 'probe' },
  },
  common(ids, [...places, ...probes], {
    ...Object.fromEntries(ids.map((id) => [`paid{payer:${id}}`, ['count>30']])),
    'refused{code:payee_not_found}': ['count>5'],
    'refused{code:insufficient_funds}': ['count>5'],
    'http_req_duration{name:POST /v1/transfers}': ['p(95)<5000'],
    probed: ['count>2'],
    credited_after: ['p(95)<5000'],
  }),
);

export function setup() {
  const data = begin(ids);
  for (const id of ids) {
    for (let i = 0; i < each; i++) {
      open(data, id, `${id}-${i}`, 1_000_000);
    }
    open(data, id, `${id}-probe`, 1_000_000);
  }
  return data;
}

const payers = (data, id) => data.accounts[id].slice(0, each);

export default function (data) {
  const [id, peer] = __ITER % 2 ? ids : [...ids].reverse();
  const from = some(payers(data, id));
  const to = some(payers(data, peer));
  const dice = Math.random();
  const how = { tags: { payer: id }, wait: 10 };
  if (dice < 0.08) {
    transfer(data, id, from, { ...to, number: nobody(peer) }, amount(), { ...how, refusals: ['payee_not_found'] });
  } else if (dice < 0.16) {
    transfer(data, id, from, to, 900_000_000, { ...how, refusals: ['insufficient_funds'] });
  } else {
    transfer(data, id, from, to, amount(), how);
  }
}

// probe measures how long the payee waits for the money after the payer was told.
export function probe(data) {
  const [id, peer] = __ITER % 2 ? ids : [...ids].reverse();
  const from = data.accounts[id][each];
  const to = data.accounts[peer][each];
  const before = Number(read(data, peer, to).json.balance.posted);
  const minor = amount();
  if (!transfer(data, id, from, to, minor, { wait: 10 }).ok) {
    return;
  }
  const began = Date.now();
  while (Number(read(data, peer, to).json.balance.posted) !== before + minor) {
    if (Date.now() - began > 30_000) {
      surprise('a credit that does not come', read(data, peer, to));
      return;
    }
    sleep(0.05);
  }
  credited.add(Date.now() - began);
  probed.add(1);
}

export function teardown(data) {
  audit(data, 60);
}

export const handleSummary = summary('cross');
