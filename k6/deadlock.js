// What deadlocks a ledger that locks in the order of the request: opposite transfers, rings of accounts in both directions,
// and atomic batches over the same accounts in opposite orders, half at one node and half at the other. Nobody waits for
// long, every direction gets on, and no money is lost on the way.
import { post } from './lib/api.js';
import { amount, audit, begin, common, currency, open, settings, transfer } from './lib/bank.js';
import { alpha, system } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const nodes = system(alpha).nodes;
const places = ['a', 'b', 'c', 'd'];
const ways = ['opposite-up', 'opposite-down', 'ring-up', 'ring-down', 'batch-up', 'batch-down'];

export const options = settings(
  { crossing: { executor: 'constant-vus', vus: pick(36, 120), duration: `${seconds(10, 120)}s`, gracefulStop: '30s' } },
  common([alpha], places, {
    ...Object.fromEntries(ways.map((way) => [`paid{way:${way}}`, ['count>10']])),
    repeats: ['count<20'],
    http_req_duration: ['p(99)<4000', 'max<12000'],
  }),
);

export function setup() {
  const data = begin([alpha]);
  places.forEach((place) => open(data, alpha, place, 10_000_000));
  return data;
}

export default function (data) {
  const way = ways[(__VU + __ITER) % ways.length];
  const [shape, direction] = way.split('-');
  const up = direction === 'up';
  const accounts = up ? data.accounts[alpha] : [...data.accounts[alpha]].reverse();
  const how = { base: nodes[(up ? 0 : 1) % nodes.length], tags: { way } };
  if (shape === 'opposite') {
    transfer(data, alpha, accounts[0], accounts[accounts.length - 1], amount(), how);
  } else if (shape === 'ring') {
    const at = __ITER % accounts.length;
    transfer(data, alpha, accounts[at], accounts[(at + 1) % accounts.length], amount(), how);
  } else {
    batch(data, accounts, how);
  }
}

// batch goes round the ring in one transaction.
function batch(data, accounts, how) {
  const effects = [];
  const transfers = accounts.map((from, i) => {
    const to = accounts[(i + 1) % accounts.length];
    const minor = amount();
    effects.push([from.place, -minor], [to.place, minor]);
    return { from: from.number, to: to.number, amount: `${minor}`, currency };
  });
  post(data, alpha, '/v1/batches', { atomic: true, transfers }, { ...how, effects });
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('deadlock');
