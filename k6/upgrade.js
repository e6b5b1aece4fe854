// The nodes of two systems are replaced by those of the next release, one after the other, while clients do everything
// through the balancers: no request fails, and none has to be asked again. k6/suite replaces them: `make k6 ARGS=upgrade`.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

import { audit, begin, common, open, settings } from './lib/bank.js';
import { alpha, beta, system } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { mix } from './lib/mix.js';
import { summary } from './lib/report.js';

const ids = [alpha, beta()];
const each = 6; // accounts of a system
const places = ids.flatMap((id) => Array.from({ length: each }, (_, i) => `${id}-${i}`));
const nodes = ids.flatMap((id) => system(id).nodes.map((base, i) => ({ name: `${id}-node-${i + 1}`, base })));
const length = seconds(40, 120);
const seen = new Counter('seen'); // answers of each node, of the release that it began with and of another

export const options = settings(
  {
    clients: { executor: 'constant-vus', vus: pick(16, 60), duration: `${length}s`, gracefulStop: '60s' },
    watch: { executor: 'constant-arrival-rate', rate: 1, timeUnit: '1s', duration: `${length}s`, preAllocatedVUs: 2, exec: 'watch' },
  },
  common(ids, places, {
    paid: [`count>${10 * length}`],
    'paid{kind:cross}': [`count>${length}`],
    repeats: ['count==0'],
    ...Object.fromEntries(nodes.flatMap(({ name }) => ['first', 'next'].map((release) => [`seen{node:${name},release:${release}}`, ['count>0']]))),
  }),
);

// release is the version that a node names; none while it is being replaced.
function release(base) {
  const answer = http.get(`${base}/.well-known/lockstep`, { tags: { name: 'GET release' }, responseType: 'text', timeout: '5s' });
  return answer.status === 200 ? answer.json('version') : undefined;
}

export function setup() {
  const data = begin(ids);
  ids.forEach((id) => {
    for (let i = 0; i < each; i++) {
      open(data, id, `${id}-${i}`, 10_000_000);
    }
  });
  data.releases = nodes.map(({ base }) => release(base));
  return data;
}

export default function (data) {
  mix(data, ids);
}

export function watch(data) {
  nodes.forEach(({ name, base }, i) => {
    const now = release(base);
    if (now) {
      seen.add(1, { node: name, release: now === data.releases[i] ? 'first' : 'next' });
    }
  });
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('upgrade');
