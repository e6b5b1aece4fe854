// Each node in turn is asked to end and started again, as for an upgrade or for new settings, while clients do everything
// through the balancers, inside and between the systems: no request fails, and none has to be asked again.
import { Counter } from 'k6/metrics';

import { audit, begin, common, open, settings } from './lib/bank.js';
import { alpha, beta, system } from './lib/cluster.js';
import { control } from './lib/control.js';
import { pick, seconds } from './lib/form.js';
import { mix } from './lib/mix.js';
import { summary } from './lib/report.js';

const ids = [alpha, beta()];
const each = 6; // accounts of a system
const places = ids.flatMap((id) => Array.from({ length: each }, (_, i) => `${id}-${i}`));
const nodes = ids.flatMap((id) => system(id).nodes.map((_, i) => `${id}-node-${i + 1}`));
const length = Math.max(seconds(26, 120), 6 * nodes.length); // a node takes three seconds, on a busy machine some more
const restarted = new Counter('faults'); // while clients were there

export const options = settings(
  {
    clients: { executor: 'constant-vus', vus: pick(16, 60), duration: `${length}s`, gracefulStop: '60s' },
    nemesis: { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration: `${length + 120}s`, exec: 'nemesis' },
  },
  common(ids, places, {
    paid: [`count>${10 * length}`],
    'paid{kind:cross}': [`count>${length}`],
    repeats: ['count==0'],
    ...Object.fromEntries(nodes.map((node) => [`faults{fault:${node}}`, ['count>0']])),
  }),
);

export function setup() {
  const data = begin(ids);
  ids.forEach((id) => {
    for (let i = 0; i < each; i++) {
      open(data, id, `${id}-${i}`, 10_000_000);
    }
  });
  return data;
}

export default function (data) {
  mix(data, ids);
}

// nemesis begins with the next node as soon as the one before says that it is ready, as those do who upgrade. It goes round
// once at least, and later rounds end with the clients.
export function nemesis() {
  const until = Date.now() + length * 1000;
  for (let n = 0; n < nodes.length || Date.now() < until; n++) {
    const fault = nodes[n % nodes.length];
    control('restart', fault);
    restarted.add(Date.now() < until ? 1 : 0, { fault });
  }
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('restart');
