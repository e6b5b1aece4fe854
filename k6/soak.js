// A steady load of everything for as long as one likes (SECONDS=36000). The last third is served as the first was, the nodes'
// memory stays bounded, and nothing is missing in the books.
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';

import { audit, begin, common, noteMemory, open, settings } from './lib/bank.js';
import { alpha, beta } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { mix } from './lib/mix.js';
import { summary } from './lib/report.js';

const ids = [alpha, beta()];
const each = 12;
const places = ids.flatMap((id) => Array.from({ length: each }, (_, i) => `${id}-${i}`));
const length = seconds(20, 900);
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
  mix(data, ids);
  tired.add(third === 'last' ? 1 : third === 'first' ? -0.9 : 0);
}

export function watch() {
  ids.forEach(noteMemory);
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('soak');
