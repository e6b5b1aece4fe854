// More and more clients through the balancer: a ramping arrival rate of transfers, deposits and reads over many accounts.
// Nobody is refused, answers stay quick, and every place in the books has exactly what clients were told.
import { get, surprise } from './lib/api.js';
import { amount, audit, begin, common, deposit, noteMemory, open, settings, some, transfer, two } from './lib/bank.js';
import { alpha } from './lib/cluster.js';
import { pick, seconds } from './lib/form.js';
import { summary } from './lib/report.js';

const most = Number(__ENV.RATE) || pick(80, 600); // a second
const length = seconds(20, 120);
const drawers = 8; // places in the books; accounts share them
const places = Array.from({ length: drawers }, (_, i) => `drawer-${i}`);

export const options = settings(
  {
    load: {
      executor: 'ramping-arrival-rate', startRate: Math.ceil(most / 10), timeUnit: '1s', preAllocatedVUs: pick(100, 200), maxVUs: pick(250, 600),
      stages: [
        { target: most, duration: `${Math.ceil(length * 0.6)}s` },
        { target: most, duration: `${Math.ceil(length * 0.3)}s` },
        { target: Math.ceil(most / 10), duration: `${Math.ceil(length * 0.1)}s` },
      ],
      gracefulStop: '30s',
    },
    watch: { executor: 'constant-arrival-rate', rate: 1, timeUnit: '2s', duration: `${length}s`, preAllocatedVUs: 2, exec: 'watch' },
  },
  common([alpha], places, {
    paid: [`count>${Math.floor(most * length * 0.25)}`],
    dropped_iterations: [`count<${Math.ceil(most * length * 0.15)}`],
    'http_req_duration{scenario:load}': ['p(95)<3000', 'p(99)<5000'],
    node_memory_mib: ['max<200', 'min>0'],
  }),
);

export function setup() {
  const data = begin([alpha]);
  for (let i = 0; i < pick(40, 400); i++) {
    open(data, alpha, places[i % drawers], 1_000_000);
  }
  return data;
}

export default function (data) {
  const accounts = data.accounts[alpha];
  const [from, to] = two(accounts);
  const dice = Math.random();
  if (dice < 0.7) {
    transfer(data, alpha, from, to, amount());
  } else if (dice < 0.8) {
    deposit(data, alpha, to, amount());
  } else {
    const answer = get(data, alpha, `/v1/accounts/${some(accounts).number}`);
    if (answer.status !== 200) {
      surprise('read', answer);
    }
  }
}

export function watch() {
  noteMemory(alpha);
}

export function teardown(data) {
  audit(data);
}

export const handleSummary = summary('load');
