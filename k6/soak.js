// A steady load of everything for as long as one likes (SECONDS=36000): transfers inside and between the systems, deposits,
// withdrawals, holds, repeats of old requests, statements. The last third is served as the first was, the nodes' memory stays
// bounded, and nothing is missing in the books.
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';

import { get, surprise } from './lib/api.js';
import { amount, audit, begin, common, deposit, holdAndEnd, noteMemory, open, settings, some, transfer, two, withdraw } from './lib/bank.js';
import { alpha, beta } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const ids = [alpha, beta()];
const each = 12;
const places = ids.flatMap((id) => Array.from({ length: each }, (_, i) => `${id}-${i}`));
const length = seconds(24, 900);
const rate = Number(__ENV.RATE) || pick(40, 150); // iterations a second
const tired = new Counter('served_late_above_bar'); // iterations of the last third over nine tenths of the first's

export const options = settings(
  {
    soak: { executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: `${length}s`, preAllocatedVUs: pick(100, 150), maxVUs: pick(200, 300), gracefulStop: '60s' },
    watch: { executor: 'constant-arrival-rate', rate: 1, timeUnit: '2s', duration: `${length}s`, preAllocatedVUs: 2, exec: 'watch' },
  },
  common(ids, places, {
    paid: [`count>${Math.floor(rate * length * 0.5)}`],
    'paid{kind:cross}': [`count>${Math.floor(rate * length * 0.05)}`],
    replays: [`count>${Math.floor(rate * length * 0.05)}`],
    dropped_iterations: [`count<${Math.ceil(rate * length * 0.1)}`],
    served_late_above_bar: ['count>=0'],
    'http_req_duration{third:first}': ['p(95)<5000'],
    'http_req_duration{third:last}': ['p(95)<5000'],
    node_memory_mib: ['max<200', 'min>0'],
  }),
);

export function setup() {
  const data = begin(ids);
  ids.forEach((id) => {
    for (let i = 0; i < each; i++) {
      open(data, id, `${id}-${i}`, 10_000_000);
    }
  });
  data.began = Date.now();
  return data;
}

export default function (data) {
  const third = ['first', 'middle', 'last'][Math.min(2, Math.floor((Date.now() - data.began) / (length * 1000 / 3)))];
  exec.vu.metrics.tags.third = third;
  const id = some(ids);
  const [from, to] = two(data.accounts[id]);
  const dice = Math.random();
  if (dice < 0.15) {
    const payee = some(data.accounts[id === ids[0] ? ids[1] : ids[0]]);
    transfer(data, id, from, payee, amount(), { wait: 10, tags: { kind: 'cross' } });
  } else if (dice < 0.5) {
    transfer(data, id, from, to, amount());
  } else if (dice < 0.6) {
    deposit(data, id, to, amount());
  } else if (dice < 0.7) {
    withdraw(data, id, from, amount());
  } else if (dice < 0.8) {
    holdAndEnd(data, id, from, to, 1 + amount());
  } else if (dice < 0.9) {
    twice(data, id, from, to);
  } else {
    const answer = get(data, id, `/v1/accounts/${from.number}/entries?limit=20`);
    if (answer.status !== 200) {
      surprise('a statement', answer);
    }
  }
  tired.add(third === 'last' ? 1 : third === 'first' ? -0.9 : 0);
}

// twice sends a transfer again that was acknowledged: the answer is the same, and it is told to the books once.
function twice(data, id, from, to) {
  const key = crypto.randomUUID();
  const minor = amount();
  const first = transfer(data, id, from, to, minor, { key });
  const second = transfer(data, id, from, to, minor, { key, effects: null });
  if (second.text !== first.text || second.headers['Idempotency-Replayed'] !== 'true') {
    surprise('a repeat', second);
  }
}

export function watch() {
  ids.forEach(noteMemory);
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('soak');
