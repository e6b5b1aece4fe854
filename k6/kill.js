// One node is killed and stays away while half of the clients come through the balancer and half to another node. What began
// before the kill may fail; whatever began after it does not, and no client of the other node notices. Two seconds later
// answers are as quick as before. Every client repeats what has failed until it knows, and the node takes its part again
// when it is back.
//
// A crowd keeps the nodes busy, so that the killed one has locks and transactions in hand. Those whose answers are timed come
// at a steady rate beside it: a client that waits for one answer before it asks again makes few requests in a second in
// which nobody is answered, and that second would hardly show.
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import { sleep } from 'k6';

import { amount, audit, begin, common, open, settings, transfer, two } from './lib/bank.js';
import { alpha, system } from './lib/cluster.js';
import { control, heal } from './lib/control.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const warm = 3;
const calm = seconds(8, 40); // each measured part
const back = 2; // seconds until all has to be as before
const victim = `${alpha}-node-1`;
const survivor = system(alpha).nodes[1];
const drawers = 8;
const places = Array.from({ length: drawers }, (_, i) => `drawer-${i}`);

const killFrom = warm + calm;
const afterFrom = killFrom + back;
const againFrom = afterFrom + calm;
const end = againFrom + 4;

const rate = pick(60, 200); // of those whose answers are timed, a second

const killed = new Counter('faults');
const killedAt = new Trend('killed_at', true); // since the beginning, as those below
const failedBegan = new Trend('failed_began', true);
const took = new Trend('took', true); // until a payment was settled, all tries together
const slower = 4; // times, at most, for the last hundredth
const quick = 100; // milliseconds; what is as quick as this needs not be any quicker

export const options = settings(
  {
    crowd: { executor: 'constant-vus', vus: pick(24, 80), duration: `${end}s`, gracefulStop: '60s' },
    timed: {
      executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: `${end}s`, preAllocatedVUs: pick(100, 400), maxVUs: pick(400, 2000),
      gracefulStop: '60s', exec: 'timed',
    },
    nemesis: { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration: `${end + 60}s`, exec: 'nemesis' },
  },
  common([alpha], places, {
    broken: [], // what was on its way to the node
    'broken{at:survivor}': ['count==0'],
    'faults{fault:node_killed}': ['count==1'],
    ...Object.fromEntries(['before', 'after'].flatMap((part) => ['balancer', 'survivor'].map((at) => [`paid{part:${part},at:${at}}`, ['count>100']]))),
    dropped_iterations: [`count<${Math.ceil(rate * end * 0.02)}`], // k6 itself may be late now and then
    'took{part:before}': ['max>0'],
    'took{part:after}': ['max>0'],
  }),
);

export function setup() {
  const data = begin([alpha]);
  for (let i = 0; i < 64; i++) {
    open(data, alpha, places[i % drawers], 10_000_000);
  }
  data.began = Date.now();
  return data;
}

// The parts begin by the clock, and a payment belongs to the part in which it begins.
function partAt(elapsed) {
  const ends = [[warm, 'warm'], [killFrom, 'before'], [afterFrom, 'gone'], [againFrom, 'after']];
  const found = ends.find(([until]) => elapsed < until);
  return found ? found[1] : 'again';
}

export default function pay(data) {
  const [from, to] = two(data.accounts[alpha]);
  const [at, base] = exec.scenario.iterationInTest % 2 ? ['balancer', undefined] : ['survivor', survivor];
  Object.assign(exec.vu.metrics.tags, { at, part: partAt((Date.now() - data.began) / 1000) });
  transfer(data, alpha, from, to, amount(), {
    base, tried: (began, { status }) => status === 0 || status >= 500 ? failedBegan.add(began - data.began) : undefined,
  });
}

export function timed(data) {
  const began = Date.now();
  pay(data);
  took.add(Date.now() - began);
}

export function nemesis(data) {
  const since = () => (Date.now() - data.began) / 1000;
  sleep(killFrom - since());
  control('kill?down=1', victim);
  killedAt.add(1000 * since());
  killed.add(1, { fault: 'node_killed' });
  sleep(againFrom - since());
  control('start', victim);
}

export function teardown(data) {
  heal();
  audit(data);
}

export const handleSummary = summary('kill', (of) => [
  ['failed_began_after_the_kill_ms', (of('failed_began').max || 0) - of('killed_at').max, 0],
  ['p99_after_over_before', of('took{part:after}')['p(99)'] / Math.max(of('took{part:before}')['p(99)'], quick), slower],
]);
