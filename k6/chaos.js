// Faults over the control address while clients pay inside and between the systems: processes killed and frozen, one after
// the other in an order by SEED, each for a moment and with a calm moment after it. Every client repeats its request under
// its key until it knows; at the end all is healed, nothing is undecided, and every place has exactly what clients were told.
import { sleep } from 'k6';
import { Counter } from 'k6/metrics';

import { amount, audit, begin, common, deposit, open, settings, some, transfer, two } from './lib/bank.js';
import { alpha, beta } from './lib/cluster.js';
import { control, flush, heal } from './lib/control.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const ids = [alpha, beta()];
const each = 4; // hot accounts of a system
const places = ids.flatMap((id) => Array.from({ length: each }, (_, i) => `${id}-${i}`));
const applied = new Counter('faults');
const crossShare = new Counter('cross_above_bar'); // transfers between the systems over a fifth of all

const [payer, payee] = ids;
const freeze = (process) => [() => control('stop', process), () => control('cont', process)];
const kill = (...processes) => [() => processes.forEach((p) => control('kill', p)), () => {}]; // the supervisor starts them again
const redis = (id, verb) => [1, 2, 3].forEach((n) => (verb === 'flush' ? flush(`${id}-redis-${n}`) : control(verb, `${id}-redis-${n}`)));

// Each fault is what makes it and what ends it.
const faults = {
  node_killed: kill(`${payer}-node-1`),
  node_frozen: freeze(`${payer}-node-2`),
  all_nodes_killed: kill(`${payer}-node-1`, `${payer}-node-2`),
  peer_node_killed: kill(`${payee}-node-2`),
  balancer_killed: kill(`${payer}-lb`),
  peer_balancer_frozen: freeze(`${payee}-lb`),
  redis_killed: kill(`${payer}-redis-1`, `${payer}-redis-2`, `${payer}-redis-3`),
  redis_frozen: [() => redis(payer, 'stop'), () => redis(payer, 'cont')],
  redis_flushed: [() => redis(payer, 'flush'), () => redis(payer, 'flush')],
  broker_killed: kill('nats-1'),
  source_killed: kill(`${payer}-mysql-source`),
  source_frozen: freeze(`${payee}-mysql-source`),
  replica_killed: kill(`${payer}-mysql-replica-1`),
};

const period = 3.2; // of a fault and the calm after it
const faulty = 1.6;
const length = Math.max(seconds(0, 300), Math.ceil(Object.keys(faults).length * period * 1.3)); // some end late

export const options = settings(
  {
    clients: { executor: 'constant-vus', vus: pick(24, 60), duration: `${length}s`, gracefulStop: '120s' },
    nemesis: { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration: `${length + 240}s`, exec: 'nemesis' },
  },
  common(ids, places, {
    broken: ['count>0'], // else the faults did nothing
    paid: [`count>${length}`],
    repeats: ['count>0'],
    cross_above_bar: ['count>=0'],
    ...Object.fromEntries(Object.keys(faults).map((fault) => [`faults{fault:${fault}}`, ['count>0']])),
  }),
);

export function setup() {
  const data = begin(ids);
  ids.forEach((id) => {
    for (let i = 0; i < each; i++) {
      open(data, id, `${id}-${i}`, 20_000);
    }
  });
  return data;
}

export default function (data) {
  const id = some(ids);
  const [from, to] = two(data.accounts[id]);
  // A transfer to the other system is given up when that one is out of reach for long, and its hold released.
  const how = { patience: 90, wait: 5, timeout: '8s', refusals: ['insufficient_funds', 'peer_unavailable', 'peer_refused'] };
  const dice = Math.random();
  if (dice < 0.45) {
    const payee = some(data.accounts[id === ids[0] ? ids[1] : ids[0]]);
    if (transfer(data, id, from, payee, amount(), { ...how, tags: { kind: 'cross' } }).ok) {
      crossShare.add(0.8);
    }
  } else if (dice < 0.9) {
    if (transfer(data, id, from, to, amount(), how).ok) {
      crossShare.add(-0.2);
    }
  } else {
    deposit(data, id, to, amount(), how);
  }
}

// random is a sequence that a seed decides (mulberry32), so that a run can be had again.
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function nemesis() {
  const seed = Number(__ENV.SEED) || Math.floor(Math.random() * 1e9);
  console.log(`SEED=${seed}`);
  const next = random(seed);
  const until = Date.now() + length * 1000;
  let order = [];
  for (let n = 0; n < Object.keys(faults).length || Date.now() < until; n++) {
    if (order.length === 0) {
      order = Object.keys(faults).map((fault) => [next(), fault]).sort((a, b) => a[0] - b[0]).map(([, fault]) => fault);
    }
    const fault = order.pop();
    const [begins, ends] = faults[fault];
    begins();
    applied.add(1, { fault });
    sleep(faulty);
    ends();
    sleep(period - faulty);
  }
  heal();
}

export function teardown(data) {
  heal();
  audit(data, 120);
}

export const handleSummary = summary('chaos');
